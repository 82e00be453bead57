"""What an update says that it completes: a data shard, or a piece of one, whose hand-in goes with the update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeAlias

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import PsOperation, Reply
from worker_client.connection.fanout import Routed, Settle


class Exchanges(Protocol):
    """The way to the ps tasks, as far as updates need it."""

    def exchange_all(self, routed: Sequence[Routed], settle: Settle | None = None) -> list[Reply]:
        """See ``Fanout.exchange_all``."""
        ...


class CompletesInRound(Protocol):
    """A piece of a shard that counts when the round does that a gradient is handed in for."""

    @property
    def shards(self) -> str:
        """Full name of the data shards that it is of."""
        ...

    def guard(self, group: str, ticket: int, number: int) -> PsOperation:
        """What goes before the hand-in: the group's name, the worker's ticket in it, and the number of the round."""
        ...

    def is_new(self, reply: Reply) -> bool | None:
        """Whether the hand-in counts, by the reply to the guard; None: it is known better now, and can be sent again.

        False: the piece was handed in before. That one counts.

        Raises:
            AbortedError: This worker has lost the shard to another one; nothing has changed.
            FailedPreconditionError: It has handed it in already; nothing has changed.
        """
        ...

    def handed_in(self) -> None:
        """The group has taken the gradient."""
        ...

    def is_refused_by(self, error: BaseException) -> bool:
        """Whether an error is of the shards, and not of the group."""
        ...


class Completes(ABC):
    """A data shard or a piece of one, as ``completes=`` takes it."""

    @abstractmethod
    def exchange_all(self, runner: Exchanges, routed: Sequence[Routed], settle: Settle | None = None) -> list[Reply]:
        """Carries out operations together with the hand-in; arguments and result as of ``Fanout.exchange_all``.

        Raises:
            AbortedError: This worker has lost the shard to another one; nothing has changed.
            FailedPreconditionError: It has handed it in already; nothing has changed.
            ShardscopeError: One of the updates would be refused, and nothing has changed on its ps task.
        """

    @abstractmethod
    def in_round(self, runner: Exchanges) -> CompletesInRound:
        """Returns it as a gradient of a round completes it; InvalidArgumentError if another connection has taken it."""


Exchange: TypeAlias = Callable[..., "list[Reply]"]


def checked(completes: object) -> Completes:
    """Returns what ``completes=`` was given; InvalidArgumentError if that is no shard and no piece of one."""
    if not isinstance(completes, Completes):
        raise InvalidArgumentError(
            f"completes= takes a shard of ss.data.Shards, or a piece of it as shard.up_to(64), not {completes!r}"
        )
    return completes


def exchange_of(runner: Exchanges, completes: object, *, wait: bool = True) -> Exchange:
    """Returns what carries out operations: that of the runner, or if they complete something that of what they do.

    Raises:
        InvalidArgumentError: ``completes`` is no shard and no piece of one, or the caller does not wait.
    """
    if completes is None:
        return runner.exchange_all
    completes = checked(completes)
    if not wait:
        raise InvalidArgumentError(
            "an update that completes a shard is waited for, since the hand-in on ps task 0 comes last; give "
            "completes= without wait=False"
        )
    return partial(completes.exchange_all, runner)
