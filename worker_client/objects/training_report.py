"""What ps task 0 knows of a group that trains together, for people: rounds, quorum, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ps_protocol.errors import InternalError
from ps_protocol.shared_objects import Json
from ps_protocol.training.json_records import from_record
from ps_protocol.training.round_messages import Awaited
from worker_client.connection.retry import Deadline
from worker_client.objects.shared_object import ObjectConnection

REPORT: Final[Json] = {"report": True}
"""The question that is answered with a report."""

_HEADINGS: Final = ("worker", "status", "applied", "late", "stale", "duplicate", "staleness", "lag")


@dataclass(frozen=True, slots=True)
class WorkerTally:
    """A worker of a group, and what became of its gradients in all runs.

    Attributes:
        worker: Which, as "worker:1".
        seat: Its number in the group.
        status: "live"; "silent", when its lease has run out; "gone"; or "finished".
        does: In words, as "computes for round 5 on the model 4".
        handed: The newest round that it has handed in for.
        last_seen_s: When the group last heard of it, in seconds since the epoch.
        applied: How many gradients were applied.
        stale: How many were computed on an older model than the policy allows.
        late: How many came when their round had committed without them.
        duplicate: How many were handed in again.
        last_staleness: Data staleness of the newest one that was applied.
        largest_staleness: The largest of all.
        last_lag: Publish lag of the newest one that was applied.
        largest_lag: The largest of all.
    """

    worker: str
    seat: int
    status: str
    does: str
    handed: int
    last_seen_s: float
    applied: int
    stale: int
    late: int
    duplicate: int
    last_staleness: int
    largest_staleness: int
    last_lag: int
    largest_lag: int


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """How a group is. As text, a table of the verdicts.

    Attributes:
        policy: How it trains; empty before the first worker has joined.
        round: The newest that has committed.
        quorum: How many workers are live.
        to_join: How many have to join before the first round.
        awaited: Without whom the next round cannot commit.
        workers: By seat.
        ended: Why its run is over; empty if it is not.
    """

    policy: str
    round: int
    quorum: int
    to_join: int
    awaited: tuple[Awaited, ...]
    workers: tuple[WorkerTally, ...]
    ended: str = ""

    def __str__(self) -> str:
        rows = [
            (
                each.worker,
                each.status,
                *map(str, (each.applied, each.late, each.stale, each.duplicate)),
                *map(str, (each.largest_staleness, each.largest_lag)),
            )
            for each in self.workers
        ]
        return _table([_HEADINGS, *rows])

    def waits_for(self, now_s: float) -> str:
        """Says for whom the next round waits, and when each was last seen; empty if for nobody.

        Args:
            now_s: The time, in seconds since the epoch.
        """
        if self.to_join:
            return f"{self.to_join} more worker{'s' if self.to_join > 1 else ''} to join"
        words = []
        for each in self.awaited:
            seen = f"last seen {max(0.0, now_s - each.last_seen_s):.1f} s ago"
            words.append(f"{each.worker} ({'silent, ' if each.is_silent else ''}{seen})")
        return ", ".join(words)


def training_report(group: ObjectConnection) -> TrainingReport:
    """Asks for it; NotFoundError if nobody has trained in such a group."""
    said = group.wait(REPORT, Deadline(0.0))
    if said is None:
        raise InternalError(f"ps task 0 did not say how {group.name} is")
    return from_record(TrainingReport, said, "report of a group")


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max([len(row[column]) for row in rows]) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            text.ljust(width) if number < 2 else text.rjust(width)  # words, then numbers
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
