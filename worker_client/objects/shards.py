"""Data shards: the parts of a data set, each of which counts once in an epoch, whoever dies meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, SupportsIndex

from ps_protocol.errors import (
    AbortedError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    PermissionDeniedError,
)
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.not_copied import NotCopied
from ps_protocol.service_types import Member, MemberState
from ps_protocol.settings import POSITIVE_SECONDS
from ps_protocol.training.data_shards import (
    MAX_EPOCHS,
    shard_order,
)
from worker_client.connection.retry import Deadline, Reports
from worker_client.graph import defaults
from worker_client.objects.shard import Shard
from worker_client.objects.shard_items import digest_of, items_of, whole
from worker_client.objects.shard_rounds import PendingPieces
from worker_client.objects.shard_taking import Taking
from worker_client.objects.shared_object import FIRST_WAIT_S
from worker_client.objects.training_group import TAKING_PART

_LOG = logging.getLogger(__name__)

TIMEOUT_S: Final = 600.0
_FIRST_REPORT_S: Final = 10.0
_GONE: Final = (MemberState.DEAD, MemberState.LEFT)


@dataclass(frozen=True, slots=True)
class HeldShard:
    """A shard that a worker works on.

    Attributes:
        index: Which it is.
        worker: Who has it, as "worker:1".
        since_s: Since when, in seconds since the epoch of the clock.
        position: How far it is applied.
    """

    index: int
    worker: str
    since_s: float
    position: int


@dataclass(frozen=True, slots=True)
class ShardsProgress:
    """How far all workers are together.

    Attributes:
        epoch: The one that is under way; as ``epochs`` when all are over.
        epochs: How many there are.
        count: Shards of an epoch.
        done: How many of this epoch are handed in.
        held: What workers work on.
        returned: Shards of lost workers that others are to have next.
        handed_in: How many each worker has handed in, in all epochs.
    """

    epoch: int
    epochs: int
    count: int
    done: int
    held: tuple[HeldShard, ...]
    returned: tuple[int, ...]
    handed_in: dict[str, int]

    @property
    def is_complete(self) -> bool:
        """Whether all shards of all epochs are handed in."""
        return self.epoch >= self.epochs


class Shards(NotCopied, bound_to="a connection of this process", instead="make it there, with the same arguments"):
    """The shards of a data set, which all workers take from and hand in: each counts once in each epoch. Thread-safe.

        shards = ss.data.Shards("train", files, epochs=3, shuffle_seed=5)
        for shard in shards:
            counts.scatter_add(rows_of(shard.item), 1, completes=shard)

    The iteration of all workers ends together, when the last shard of the last epoch is handed in. An epoch begins
    when all of the epoch before is handed in. A worker that has nothing left to take waits for the others; what one
    that is dead, has left, or was started again had not handed in goes to them, and begins behind what was applied.

    Args:
        name: Of the shards, in the cluster.
        shards: Their number, or a list of what they are: names of files, ranges, ... The same for all workers.
        epochs: How often each counts.
        shuffle_seed: From 0; each epoch has an order of its own, the same for all workers. None: the order of the list.
        timeout_s: How long an iteration waits for shards that others have, in seconds.

    Raises:
        InvalidArgumentError: Another worker has made it with other arguments, or one is not possible.
        PermissionDeniedError: The connection is an observer.
        FailedPreconditionError: No connection is open.
    """

    def __init__(
        self,
        name: str,
        shards: SupportsIndex | Sequence[Any],
        epochs: SupportsIndex = 1,
        *,
        shuffle_seed: SupportsIndex | None = None,
        timeout_s: float = TIMEOUT_S,
    ):
        client = next((entry.client for entry in defaults.STACK if entry.client is not None), None)
        client = client or defaults.find_newest_client()
        if client is None:
            raise defaults.not_connected()
        if not isinstance(name, str) or not name:
            raise InvalidArgumentError(f"the name of shards is {name!r}; it should be some letters, as 'train'")
        self.name: Final = name
        self._items = items_of(name, shards)
        self.count: Final = whole(name, "number of shards", shards if self._items is None else len(self._items), 1)
        self.epochs: Final = whole(name, "number of epochs", epochs, 1, MAX_EPOCHS)
        self.shuffle_seed: Final = (
            None if shuffle_seed is None else whole(name, "shuffle_seed", shuffle_seed, 0, 2**63 - 1)
        )
        self.timeout_s: Final = POSITIVE_SECONDS.check(timeout_s, "timeout_s")
        if client.observer:
            raise PermissionDeniedError(f"this connection is an observer, and takes no shards ({name})")
        settings = {
            "count": self.count,
            "epochs": self.epochs,
            "shuffle_seed": self.shuffle_seed,
            "items": None if self._items is None else digest_of(name, self._items),
        }
        self._taking: Final[Taking] = client.taking_shards(name, settings)
        self._order: tuple[int, Any] = (-1, None)

    def __iter__(self) -> Iterator[Shard]:
        """Begins to take shards: what this thread has taken before, and not handed in, it is given again."""
        self._taking.drop()
        return _Iteration(self)

    def progress(self) -> ShardsProgress:
        """Asks how far all workers are."""
        found = self._taking.shared.wait({"ask": "progress"}, Deadline(self.timeout_s))
        if found is None:
            raise InternalError(f"shards {self.name} do not say how far they are")
        order = self._order_of(found["epoch"])
        held = [
            HeldShard(int(order[int(place)]), each[0], each[4], each[3])
            for place, each in sorted(found["out"].items(), key=lambda each: int(each[0]))
        ]
        returned = tuple(sorted([int(order[int(place)]) for place in found["returned"]]))
        done = found["next"] - len(held) - len(returned)
        return ShardsProgress(
            found["epoch"], found["epochs"], found["count"], done, tuple(held), returned, dict(found["handed_in"])
        )

    def next_shard(self) -> Shard | None:
        """Takes a shard, and waits until there is one; None when all epochs are over.

        Raises:
            DeadlineExceededError: Others have had the last ones for too long; it says who, and since when.
            FailedPreconditionError: This thread has a shard that is not handed in.
            StateLostError: The ps tasks were restored from a checkpoint, or have lost their state.
        """
        before = self._taking.of_this_thread()
        if before is not None:
            raise FailedPreconditionError(
                f"{before!r} has not been handed in, and would not count: give completes=shard to its last update, or "
                f"call shard.hand_in() or shard.give_back()"
            )
        watch = _Watch(self)
        if self._taking.should_look():  # the shards of the dead go first, so that nobody waits for them at the end
            watch.look()
        while True:
            place = self._taking.take()
            if place is None:
                self._rest()
                if (
                    self._taking.shared.wait(self._taking.question(), watch.deadline, watch.look, first_s=FIRST_WAIT_S)
                    is None
                ):
                    raise watch.late()
                continue
            if "end" in place:
                return None
            index = int(self._order_of(place["epoch"])[place["place"]])
            shard = Shard(self._taking, index if self._items is None else self._items[index], index, place)
            if place["again"]:
                try:
                    self._taking.fence(place)
                except AbortedError as error:
                    raise_interrupt(error)
                    continue  # this worker was silent, and another one has it
            self._taking.taken(shard)
            return shard

    def _rest(self) -> None:
        """Tells the groups in which this thread trains that it waits for data: or they would wait for it.

        If no thread of this worker has a shard, those in which another one has completed some, too.
        """
        part = TAKING_PART.get(self._taking.fanout)
        others = set() if self._taking.busy() else self._taking.groups
        for group in () if part is None else part.groups:
            if group.is_of_this_thread or group.name in others:
                group.rest()

    def _order_of(self, epoch: int) -> Any:
        if self._order[0] != epoch:
            self._order = (epoch, shard_order(self.count, self.shuffle_seed, epoch))
        return self._order[1]

    def __repr__(self) -> str:
        return f"<Shards {self.name!r}: {self.count} shards, {self.epochs} epochs>"


class _Iteration(Iterator[Shard]):
    """Takes one shard after the other."""

    def __init__(self, shards: Shards):
        self._shards = shards

    def __next__(self) -> Shard:
        shard = self._shards.next_shard()
        if shard is None:
            raise StopIteration
        return shard


class _Watch:
    """Looks now and then who has the last shards, on behalf of one who waits."""

    def __init__(self, shards: Shards):
        self._shards = shards
        self._taking = shards._taking
        self._pending = PendingPieces(self._taking)
        self._reports = Reports(_FIRST_REPORT_S)
        self.deadline: Final = Deadline(shards.timeout_s)

    def look(self) -> None:
        """Tells the ps who is gone, and the log who is waited for."""
        waited_s = self.deadline.elapsed_s()
        members = self._members()
        progress = self._taking.shared.wait({"ask": "progress"}, self.deadline) or {"out": {}}
        gone = sorted({each[1] for each in progress["out"].values() if each[1] and self._is_gone(each, members)})
        if gone:
            self._taking.shared.act({"do": "gone", "gone": gone})
        if progress.get("pending"):
            self._pending.settle(waits=True)
        if self._reports.is_due(waited_s):
            _LOG.warning(
                "%s waits for shards of %s, %.0f s of up to %.0f s: %s",
                self._taking.task,
                self._shards.name,
                waited_s,
                self.deadline.timeout_s,
                self._holders(),
            )

    def _members(self) -> dict[str, Member]:
        return {each.task: each for each in self._taking.list_members()}

    def _is_gone(self, held: Sequence[Any], members: dict[str, Member]) -> bool:
        worker, identity, _ticket, _position, _since, lease_s, process = held
        member = members.get(worker)
        if member is None:  # a ps that was started again has heard of nobody yet
            return 0 < float(lease_s) < self._taking.unheard.for_s(identity)
        self._taking.unheard.heard(identity)
        is_other: bool = f"{member.incarnation}" != identity and f"{member.host}:{member.pid}" != process
        return is_other or member.state in _GONE

    def late(self) -> DeadlineExceededError:
        """The error for one who has waited long enough."""
        return DeadlineExceededError(
            f"{self._taking.task} has waited {self.deadline.timeout_s:.0f} s for shards of {self._shards.name}: "
            f"{self._holders()}. Wait longer with timeout_s, or end who does not go on; its shards go to others",
            retryable=False,
        )

    def _holders(self) -> str:
        members, progress = self._members(), self._shards.progress()
        words = []
        for each in progress.held:
            member = members.get(each.worker)
            seen = "not heard of" if member is None else f"last seen {_moment(member.last_seen_s)}"
            words.append(f"{each.worker} has shard {each.index} since {_moment(each.since_s)} ({seen})")
        return f"epoch {progress.epoch}, {progress.done} of {progress.count} handed in; " + ", ".join(words)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
