"""A data shard that a worker has taken, as the ``completes=`` of updates takes it."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Final, SupportsIndex

from ps_protocol.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
)
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.not_copied import NotCopied
from ps_protocol.operations import Reply, mutates
from ps_protocol.shared_objects import Json
from ps_protocol.training.data_shards import (
    END,
    MAX_POSITION,
)
from worker_client.connection.completes import Completes, Exchanges
from worker_client.connection.fanout import Routed, Settle
from worker_client.objects.shard_exchange import PieceExchange
from worker_client.objects.shard_rounds import PieceInRound
from worker_client.objects.shard_taking import Taking


class Shard(Completes, NotCopied, bound_to="the worker that has taken it", instead="pass on its item"):
    """A part of the data that this worker has, until its last update hands it in. One thread works on it at a time.

    Attributes:
        item: What the list has at its place; of a number of shards the index.
        index: Which of the shards it is, from 0.
        epoch: From 0.
        resume_at: Where to begin: 0; or the end of the last piece that was applied, if another worker has begun with
            it, and was lost.
    """

    def __init__(self, shards: Taking, item: Any, index: int, place: Json):
        self.item: Final = item
        self.index: Final = index
        self.epoch: Final[int] = place["epoch"]
        self.resume_at: Final[int] = place["position"]
        self._shards = shards
        self._place: int = place["place"]
        self._ticket: int = place["ticket"]
        self._is_again: bool = place["again"]
        self._position = self.resume_at  # up to here it is applied everywhere, or handed in for rounds
        self._is_lost = False
        self._with_receipts: set[int] = set()  # the ps tasks that have one of it

    @property
    def is_complete(self) -> bool:
        """Whether this worker has handed it in."""
        return bool(self._position == END)

    def up_to(self, position: SupportsIndex) -> Completes:
        """A piece, for the ``completes=`` of an update that is not the shard's last: from where it is to ``position``.

        Should this worker be lost, the next one begins behind the piece, as ``resume_at`` says.

        Args:
            position: Counts what the program likes, as samples, upwards from 1; the same for all workers.

        Raises:
            InvalidArgumentError: It is no whole number, or not behind the piece before.
        """
        try:
            end = operator.index(position)
        except TypeError as error:
            raise_interrupt(error)
            raise InvalidArgumentError(
                f"{self!r}: a piece goes up to a whole number above {self._position}, not to {position!r:.100}"
            ) from None
        if self.is_complete or not self._position < end <= MAX_POSITION:
            at = "is complete" if self.is_complete else f"has come to {self._position}"
            raise InvalidArgumentError(f"{self!r} {at}; a piece cannot go up to {position!r}")
        return _Piece(self, end)

    def hand_in(self) -> None:
        """Hands it in without an update; errors as of an update that completes it."""
        self.exchange_all(self._shards.fanout, ())

    def give_back(self) -> None:
        """Does not go on with it: another worker, or this one later, begins behind its last piece."""
        if self.busy_with is not None:
            event = {"do": "give_back", "place": self._place, "ticket": self._ticket}
            self._shards.shared.act(event)
            self.lose()

    def exchange_all(self, runner: Exchanges, routed: Sequence[Routed], settle: Settle | None = None) -> list[Reply]:
        return self.exchange_piece(END, runner, routed, settle)

    def exchange_piece(
        self, end: int, runner: Exchanges, routed: Sequence[Routed], settle: Settle | None
    ) -> list[Reply]:
        """Carries out the operations that complete it up to ``end``."""
        self._check_of(runner)
        own = [each for each in routed if each.ps_task is None and mutates((each.operation,))]
        if own:
            raise InvalidArgumentError(
                f"variable {own[0].operation.name} is this worker's own: its update cannot complete {self!r}; declare "
                f"it on a ps task"
            )
        event = self.event(end)
        exchange = PieceExchange(self._shards, routed, settle)
        replies = exchange.run(event)
        if exchange.is_lost:
            self.lose()
        if exchange.is_done:
            self._with_receipts |= exchange.others
            self.come_to(end)
        return replies

    def in_round(self, runner: Exchanges) -> PieceInRound:
        return self.piece_in_round(END, runner)

    def piece_in_round(self, end: int, runner: Exchanges) -> PieceInRound:
        """Returns what a gradient of a round completes up to ``end``."""
        self._check_of(runner)
        return PieceInRound(self._shards, self, end)

    def event(self, end: int) -> Json:
        """What is told the ps of an update that completes it up to ``end``.

        Raises:
            FailedPreconditionError: It is handed in.
        """
        if self.is_complete:
            raise FailedPreconditionError(
                f"{self._shards.task} updates {self.words()} of {self._shards.name}, which it has handed in already; "
                f"nothing was changed. Take another shard"
            )
        return {
            "do": "update",
            "by": self._shards.task,
            "epoch": self.epoch,
            "place": self._place,
            "ticket": self._ticket,
            "from": self._position,
            "to": end,
        }

    def come_to(self, end: int) -> None:
        """An update has been applied, or handed in for a round, that completes it up to ``end``."""
        self._position = end
        if end == END:
            receipts = () if self._is_again else self._with_receipts
            self._shards.completed(self, self.epoch, self._place, receipts)

    def lose(self) -> None:
        """Another worker has it, or is to have it."""
        self._is_lost = True
        self._shards.forget(self)

    def _check_of(self, runner: Exchanges) -> None:
        if runner is not self._shards.fanout:
            raise InvalidArgumentError(f"{self!r} was taken by another connection than that of what is to be updated")

    @property
    def busy_with(self) -> tuple[int, int] | None:
        """Its epoch and its place in that, as long as it is not complete."""
        return None if self.is_complete or self._is_lost else (self.epoch, self._place)

    def words(self) -> str:
        """As the ps names it."""
        return f"shard {self.index} of epoch {self.epoch}"

    def __repr__(self) -> str:
        return f"<{self.words()} of {self._shards.name!r}>"


class _Piece(Completes):
    """A shard up to a position."""

    def __init__(self, shard: Shard, end: int):
        self._shard = shard
        self._end = end

    def exchange_all(self, runner: Exchanges, routed: Sequence[Routed], settle: Settle | None = None) -> list[Reply]:
        return self._shard.exchange_piece(self._end, runner, routed, settle)

    def in_round(self, runner: Exchanges) -> PieceInRound:
        return self._shard.piece_in_round(self._end, runner)

    def __repr__(self) -> str:
        return f"<{self._shard!r} up to {self._end}>"
