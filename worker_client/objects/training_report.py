"""What ps task 0 knows of a group that trains together, for people: rounds, quorum, verdicts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol
from uuid import UUID

from ps_protocol.errors import FailedPreconditionError, InternalError, InvalidArgumentError, NotFoundError
from ps_protocol.operations import Batch
from ps_protocol.ps_service import Transport
from ps_protocol.service_types import Member, MemberState, VariableInfo
from ps_protocol.shared_objects import OBJECT_DTYPE, OBJECTS_PS_TASK, Json, Look, decode_json, encode_json
from ps_protocol.task_id import TaskId
from ps_protocol.training.json_records import from_record
from ps_protocol.training.round_messages import Awaited
from ps_protocol.training.round_operations import GROUP_KIND, group_name
from worker_client.connection.fanout import Fanout, succeeded
from worker_client.connection.handle import PsHandle
from worker_client.connection.retry import Deadline, Reports
from worker_client.objects.shared_object import ObjectConnection, WaitPlaces

REPORT: Final[Json] = {"report": True}
"""The question that is answered with a report."""

_LOG: Final = logging.getLogger(__name__)
_LIVE: Final = "live"
_SILENT: Final = "silent"
_FINISHED: Final = "finished"
MISSING: Final = (_SILENT, "left", "failed")
"""Of workers that are not there, and have not said that they hand in no more."""

_GONE: Final = (MemberState.DEAD, MemberState.LEFT)
_FIRST_REPORT_S: Final = 10.0
_FIRST_PAUSE_S: Final = 0.01
_LONGEST_PAUSE_S: Final = 0.5
_MOST_NAMES: Final = 10
_HEADINGS: Final = ("worker", "status", "applied", "late", "stale", "duplicate", "staleness", "lag")


class NamedOptimizer(Protocol):
    """An optimizer, as far as its group is found by it."""

    @property
    def name(self) -> str: ...

    @property
    def sync(self) -> object: ...


@dataclass(frozen=True, slots=True)
class WorkerTally:
    """A worker of a group, and what became of its gradients in all runs.

    Attributes:
        worker: Which, as "worker:1".
        seat: Its number in the group.
        status: "live"; "silent", when it is not there any more; "left" or "failed", if it is known that its process has
            ended; "gone", when it was given up; or "finished".
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
        incarnation: Of its process, as the list of members has it.
        waits: Whether it is live and has to wait for others.
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
    incarnation: str = ""
    waits: bool = False


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
        digest: Of what it trains.
    """

    policy: str
    round: int
    quorum: int
    to_join: int
    awaited: tuple[Awaited, ...]
    workers: tuple[WorkerTally, ...]
    ended: str = ""
    digest: str = ""

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

    @property
    def first_finished(self) -> str:
        """The first of the workers that have finished, by the number of its task; empty if none has."""
        finished = [TaskId.parse(each.worker) for each in self.workers if each.status == _FINISHED]
        return str(min(finished)) if finished else ""

    def at_work(self, members: Sequence[Member]) -> list[str]:
        """Those of its live workers that the list of members has, as the same processes, as neither dead nor left."""
        there = {(each.task, f"{each.incarnation}") for each in members if each.state not in _GONE}
        return [
            each.worker for each in self.workers if each.status == _LIVE and (each.worker, each.incarnation) in there
        ]

    def waits_for(self, now_s: float) -> str:
        """Says for whom others wait, and when each was last seen; empty if nobody waits, as when all compute.

        Args:
            now_s: The time, in seconds since the epoch.
        """
        if self.to_join:
            return f"{self.to_join} more worker{'s' if self.to_join > 1 else ''} to join"
        words = []
        waits = True in [each.waits for each in self.workers] or True in [each.is_silent for each in self.awaited]
        for each in self.awaited if waits else ():
            seen = f"last seen {max(0.0, now_s - each.last_seen_s):.1f} s ago"
            words.append(f"{each.worker} ({'silent, ' if each.is_silent else ''}{seen})")
        return ", ".join(words)


def with_ends(report: TrainingReport, members: Mapping[str, Member]) -> TrainingReport:
    """The same, where it says of workers whose processes are known to have ended that they have left or failed."""

    def status(each: WorkerTally) -> str:
        member = members.get(each.worker)
        if member is None or each.status not in (_LIVE, _SILENT) or f"{member.incarnation}" != each.incarnation:
            return each.status
        return "failed" if member.end else "left" if member.state is MemberState.LEFT else each.status

    return replace(report, workers=tuple([replace(each, status=status(each)) for each in report.workers]))


def group_names(variables: Sequence[VariableInfo]) -> list[str]:
    """Names of the groups whose objects are among these variables of ps task 0, in order.

    After a restore an object is there whose group nobody has joined since; it is none of them.
    """
    specs = [each.spec for each in variables if each.spec.object_kind == GROUP_KIND]
    return sorted([each.name.removeprefix(group_name("")) for each in specs if each.dtype != OBJECT_DTYPE])


def named(optimizer: str | NamedOptimizer) -> str:
    """Returns the name of an optimizer, which may be given itself; InvalidArgumentError for anything else."""
    if isinstance(optimizer, str):
        return optimizer
    name = getattr(optimizer, "name", None)
    if not isinstance(name, str) or not hasattr(optimizer, "sync"):
        raise InvalidArgumentError(
            f"who trains together is found by the optimizer, or by its name, as 'Adam', not by {optimizer!r:.100}"
        )
    return name


def training_report(fanout: Fanout, places: WaitPlaces, name: str) -> TrainingReport:
    """Asks ps task 0 how a group is.

    Raises:
        NotFoundError: Nobody has trained in a group of that name; it says which there are.
    """
    handle = fanout.handle(OBJECTS_PS_TASK)
    try:
        report = _asked(handle, places, name)
    except (NotFoundError, FailedPreconditionError):
        there = group_names(handle.call(lambda service, t: service.list_variables(timeout_s=t), what="to list groups"))
        if name in there:
            raise
        raise NotFoundError(no_such_group(name, there)) from None
    if not [each for each in report.workers if each.status == _SILENT]:
        return report
    members = handle.call(lambda service, t: service.list_members(timeout_s=t), what="to say who has ended")
    return with_ends(report, {each.task: each for each in members})


def _asked(handle: PsHandle, places: WaitPlaces, name: str) -> TrainingReport:
    group = ObjectConnection(handle, places, name=group_name(name), kind=GROUP_KIND)
    return _report_of(group.wait(REPORT, Deadline(0.0)), name)


def report_of(ps: Transport, client: UUID, store: UUID, name: str, timeout_s: float) -> TrainingReport:
    """Asks ps task 0 how a group is, without a connection to the cluster.

    Args:
        ps: The way to it.
        client: Who asks, and has said hello there.
        store: Incarnation of its store.
        name: Of the group.
        timeout_s: Bound on the question.

    Raises:
        ShardscopeError: It does not answer, or knows no such group.
    """
    question = Look(group_name(name), GROUP_KIND, encode_json(REPORT))
    (reply,) = ps.exchange(Batch(client, store, 0, (question,)), timeout_s=timeout_s).replies
    tensor = succeeded(reply).tensor
    return _report_of(None if tensor is None else decode_json(tensor, "the answer"), name)


def _report_of(said: Json | None, name: str) -> TrainingReport:
    if said is None:
        raise InternalError(f"ps task 0 did not say how {group_name(name)} is")
    return from_record(TrainingReport, said, "report of a group")


def report_if_any(fanout: Fanout, places: WaitPlaces, name: str) -> TrainingReport | None:
    """Asks ps task 0 how a group is, in one exchange; None if there is none of that name."""
    try:
        return _asked(fanout.handle(OBJECTS_PS_TASK), places, name)
    except (NotFoundError, FailedPreconditionError, InvalidArgumentError):
        return None


def no_such_group(name: str, there: Sequence[str]) -> str:
    """Says that nobody trains by an optimizer of that name, and by which ones somebody does."""
    others = f"; they do by {', '.join(there[:_MOST_NAMES])}" if there else ", nor by any other yet"
    return f"no workers train together by an optimizer {name!r}{others}"


def wait_for_end(
    report_now: Callable[[], TrainingReport],
    name: str,
    list_members: Callable[[], Sequence[Member]],
    timeout_s: float,
    pause: Callable[[float], None] = time.sleep,
) -> TrainingReport:
    """Waits until each worker of a group has finished, has left or is silent; the report of then, or when time is over.

    Args:
        report_now: Asks how the group is.
        name: Of the group.
        list_members: Lists the members of the cluster.
        timeout_s: How long to wait, in seconds.
        pause: Waits for so many seconds.
    """
    deadline, reports, pause_s = Deadline(timeout_s), Reports(_FIRST_REPORT_S), _FIRST_PAUSE_S
    while True:
        report = report_now()
        gone = {each.task for each in list_members() if each.state in _GONE}
        missing = [each.worker for each in report.workers if each.status == _LIVE and each.worker not in gone]
        if not missing or not deadline.remaining_s():
            return report
        elapsed_s = deadline.elapsed_s()
        if reports.is_due(elapsed_s):
            _LOG.warning(
                "waiting at the end of %s, %.0f s of up to %.0f s, for %s",
                name,
                elapsed_s,
                timeout_s,
                ", ".join(missing),
            )
        pause(min(pause_s, deadline.remaining_s()))
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


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
