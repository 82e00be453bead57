"""What is known of a group of workers that train together. Immutable; JSON of it is what a ps keeps."""

from __future__ import annotations

import enum
import functools
import json
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError
from ps_protocol.training.json_records import as_record, from_record
from ps_protocol.training.round_messages import Decision, Outcome, Verdict
from ps_protocol.training.sync_policy import SyncPolicy

VERSION: Final = 1
"""Of the JSON. A version that adds what an earlier one must not pass over has the next number."""


class Status(enum.StrEnum):
    """What a worker is to its group.

    ``LIVE``: rounds count on it. ``RESTS``: it waits for data, and goes on when it has some. ``SILENT``: its lease has
    run out. ``GONE``: it was given up, or belongs to a run of the group that is over. ``FINISHED``: it has said that it
    hands in no more.
    """

    LIVE = "live"
    RESTS = "rests"
    SILENT = "silent"
    GONE = "gone"
    FINISHED = "finished"


class Tally(NamedTuple):
    """What became of all gradients of a worker, over all its incarnations.

    Attributes:
        applied: How many were.
        stale: How many were.
        late: How many were.
        duplicate: How many were.
        last_staleness: Of the newest one that was applied.
        largest_staleness: Of those that were applied.
        last_lag: Publish lag of the newest one that was applied.
        largest_lag: Of those that were applied.
    """

    applied: int = 0
    stale: int = 0
    late: int = 0
    duplicate: int = 0
    last_staleness: int = 0
    largest_staleness: int = 0
    last_lag: int = 0
    largest_lag: int = 0

    def with_outcome(self, outcome: Outcome) -> Tally:
        """Counts one more."""
        name = outcome.verdict.value
        counted = self._replace(**{name: getattr(self, name) + 1})
        if outcome.verdict is not Verdict.APPLIED:
            return counted
        return counted._replace(
            last_staleness=outcome.staleness,
            largest_staleness=max(self.largest_staleness, outcome.staleness),
            last_lag=outcome.publish_lag,
            largest_lag=max(self.largest_lag, outcome.publish_lag),
        )


class Member(NamedTuple):
    """A worker of the group.

    Attributes:
        worker: Which task.
        incarnation: Of its process, the newest one.
        seat: Its number in the group, by which each ps keeps its gradients; they are added up in this order.
        ticket: Number of its joining, higher than that of everybody who joined before.
        status: What it is to the group.
        base: The model that it was told to compute on, or a newer one; None while it waits or does nothing.
        handed: The newest round that it has handed in for; 0 for none.
        applied: The newest round that has a gradient of it; 0 for none.
        last_seen_s: When its newest event came.
        replaced: Its earlier incarnations, as many as are remembered.
        outcomes: What became of its newest gradients, oldest first.
        tally: What became of all of them.
    """

    worker: str
    incarnation: str
    seat: int
    ticket: int
    status: Status = Status.LIVE
    base: int | None = None
    handed: int = 0
    applied: int = 0
    last_seen_s: float = 0.0
    replaced: tuple[str, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    tally: Tally = Tally()


class Pending(NamedTuple):
    """A gradient that was handed in and waits for its round.

    Attributes:
        round: Which.
        seat: Of the worker.
        ticket: Of the worker.
        computed_on: The model.
        handed_at: The newest round when it was handed in.
        shards: Full name of the data shards of which it completes a piece; empty for none.
    """

    round: int
    seat: int
    ticket: int
    computed_on: int
    handed_at: int
    shards: str = ""


@dataclass(frozen=True, slots=True)
class Variables:
    """What the workers of a group train; as in ``Join``."""

    count: int = 0
    digest: str = ""
    tasks: int = 1

    def __str__(self) -> str:
        return f"{self.count} variables on {self.tasks} ps tasks (digest {self.digest or 'none'})"


class GroupState(NamedTuple):
    """All that is known of a group.

    A run of a group begins when a worker joins and nobody else is in it, and has one policy.

    Attributes:
        version: Of the JSON.
        policy: Of the run; empty before the first one.
        variables: What the run trains.
        started_by: The worker that joined first in the run.
        since: The newest round when the run began.
        joined: How many workers have joined in the run.
        tickets: The highest ticket that was given.
        over: The highest ticket that was given in an earlier run.
        why_over: Why that run is over, for its workers.
        committed: The newest round that has committed.
        members: By seat.
        pending: Gradients that wait, by round and seat.
        decisions: Rounds that some ps may not have carried out yet, oldest first.
    """

    version: int = VERSION
    policy: str = ""
    variables: Variables = Variables()
    started_by: str = ""
    since: int = 0
    joined: int = 0
    tickets: int = 0
    over: int = 0
    why_over: str = ""
    committed: int = 0
    members: tuple[Member, ...] = ()
    pending: tuple[Pending, ...] = ()
    decisions: tuple[Decision, ...] = ()

    @property
    def sync(self) -> SyncPolicy:
        """The policy of the run."""
        return _parsed(self.policy)

    @property
    def to_join(self) -> int:
        """How many workers have to join before the first round can commit."""
        return max(0, self.sync.workers_to_start - self.joined)

    def member(self, worker: str) -> Member | None:
        """Returns a worker, None if it is none of the group."""
        return next((each for each in self.members if each.worker == worker), None)

    def with_member(self, member: Member) -> GroupState:
        """Returns the state with a worker in its seat."""
        others = [each for each in self.members if each.seat != member.seat]
        return self._replace(members=tuple(sorted([*others, member], key=lambda each: each.seat)))

    def encode(self) -> bytes:
        """Returns it as JSON; equal for equal ones."""
        return json.dumps(self.record(), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    def record(self) -> dict[str, Any]:
        """Returns it as JSON has it."""
        return {**as_record(self), "version": VERSION}

    @classmethod
    def decode(cls, content: bytes) -> GroupState:
        """Reads it back; nothing is the state of a group that nobody has joined.

        Raises:
            FailedPreconditionError: A later version has written it.
            InvalidArgumentError: It is none.
        """
        if not content:
            return cls()
        try:
            said = json.loads(content)
        except (ValueError, RecursionError):
            raise _no_state(content) from None
        return cls.of_record(said)

    @classmethod
    def of_record(cls, said: Any) -> GroupState:
        """Reads it from what ``record`` returns; errors as of ``decode``."""
        version = said.get("version") if isinstance(said, dict) else None
        if version is None:
            raise _no_state(said)
        if isinstance(version, int) and version > VERSION:
            raise FailedPreconditionError(
                f"the rounds of this group were kept by a later version of Shardscope, in the form {version}; this "
                f"one reads forms up to {VERSION}. Run that version on the ps, or train under another name"
            )
        return from_record(cls, said, "state of the rounds of a group")


def _no_state(said: object) -> InvalidArgumentError:
    return InvalidArgumentError(f"{said!r:.100} is no state of the rounds of a group")


@functools.lru_cache(maxsize=64)
def _parsed(policy: str) -> SyncPolicy:
    return SyncPolicy.parse(policy)
