"""Which groups of a cluster train together, and how they are: what ``shardscope workers`` shows."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final
from uuid import uuid4

from rich.table import Table
from rich.text import Text

from ps_cluster.inspection.printable_text import printable
from ps_cluster.inspection.queries import PsAnswer
from ps_cluster.inspection.views import duration, new_table
from ps_protocol.errors import ShardscopeError
from ps_protocol.service_types import Member
from ps_protocol.task_id import TaskId
from ps_protocol.training.round_messages import Awaited
from worker_client.objects.training_report import MISSING, TrainingReport, WorkerTally, report_of, with_ends
from worker_client.transport import grpc

WORKERS_DROPPABLE: Final = ("lag", "duplicate", "does", "last seen", "stale", "staleness", "late")
_TASK: Final = "observer:0"
_MOST_NAMES: Final = 2
_STATUS_STYLES: Final = {
    "live": "green",
    "silent": "bold red",
    "failed": "bold red",
    "left": "dim",
    "gone": "dim",
    "finished": "dim green",
}


def ask_groups(directory: PsAnswer[Any], names: Sequence[str], timeout_s: float) -> dict[str, TrainingReport]:
    """Asks ps task 0 how each group is, whether or not the other ps tasks are there.

    Args:
        directory: What its process that answers clients has answered.
        names: Of the groups.
        timeout_s: Bound on each question.

    Raises:
        ShardscopeError: It does not answer.
    """
    if not names:
        return {}
    ps, client = grpc.connect(directory.address, task=str(directory.task)), uuid4()
    try:
        store = ps.hello(client, _TASK, timeout_s=timeout_s).store
        try:
            return {name: report_of(ps, client, store, name, timeout_s) for name in names}
        finally:
            with contextlib.suppress(ShardscopeError):
                ps.goodbye(client, timeout_s=timeout_s)
    finally:
        ps.close()


def seen_by_heartbeats(report: TrainingReport, members: Mapping[str, Member]) -> TrainingReport:
    """The same with what members say: who has ended, and "last seen" by heartbeats too, not only what is handed in."""
    report = with_ends(report, members)

    def seen(each: WorkerTally | Awaited) -> float:
        member = members.get(each.worker)
        return each.last_seen_s if member is None else max(each.last_seen_s, member.last_seen_s)

    return replace(
        report,
        awaited=tuple([replace(each, last_seen_s=seen(each)) for each in report.awaited]),
        workers=tuple([replace(each, last_seen_s=seen(each)) for each in report.workers]),
    )


def group_records(reports: Mapping[str, TrainingReport]) -> list[dict[str, Any]]:
    """One JSON object for each group; times are seconds since the epoch."""
    return [{"group": name, **_lists(asdict(report))} for name, report in reports.items()]


def _lists(record: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in record.items()}


def heading(name: str, report: TrainingReport, now_s: float) -> str:
    """A group in a line: its policy, how far it is, and for whom others wait, if anybody does."""
    facts = [report.policy or "nobody has joined", f"round {report.round:,}", f"{report.quorum} live"]
    if report.ended:
        facts.append(report.ended)
    elif waits_for := _waits_for(report, now_s):
        facts.append(f"waits for {waits_for}")
    elif report.quorum:
        facts.append("all computing" if report.quorum > 1 else "computing")
    return printable(f"{name}: {', '.join(facts)}")


def _waits_for(report: TrainingReport, now_s: float) -> str:
    """For whom others wait: of many, those that are silent, and the number of the others."""
    if len(report.awaited) <= _MOST_NAMES:
        return report.waits_for(now_s)
    named = tuple([each for each in report.awaited if each.is_silent][:_MOST_NAMES])
    others = len(report.awaited) - len(named)
    if not named:
        return f"{others} workers" if report.waits_for(now_s) else ""
    return f"{replace(report, awaited=named).waits_for(now_s)} and {others} other{'s' if others > 1 else ''}"


def missing(reports: Mapping[str, TrainingReport], now_s: float) -> list[str]:
    """Of each group that lacks somebody, a line that says whom, and when it was last seen."""
    lines = []
    for name, report in reports.items():
        if report.ended:
            continue
        silent = [each for each in report.workers if each.status in MISSING]
        awaited = report.waits_for(now_s)
        others = [each.worker for each in silent if each.worker not in {one.worker for one in report.awaited}]
        facts = [f"waits for {awaited}"] if awaited else []
        facts += [f"goes on without {', '.join(others)}"] if others else []
        if facts:
            lines.append(printable(f"{name}: round {report.round + 1:,} {', and '.join(facts)}"))
    return lines


def how_silence_ends(report: TrainingReport) -> str:
    """What becomes of workers that are silent, of which nobody has said that they have ended; empty without any."""
    silent = [each.worker for each in report.workers if each.status == "silent"]
    if not silent or report.ended:
        return ""
    shown = ", ".join(silent[:_MOST_NAMES]) + (f" and {len(silent) - _MOST_NAMES} more" * (len(silent) > _MOST_NAMES))
    return printable(
        f"{shown}: stopped, hanging or dead. A silent worker counts again with its next step, and leaves when a "
        f"process joins as it, or with the run."
    )


def workers_table(report: TrainingReport, now_s: float | None = None) -> Table:
    """A row for each worker of a group: what it is and does, what became of its gradients, how stale they were."""
    now_s = time.time() if now_s is None else now_s
    table = new_table(
        *("worker", "status", ">applied", ">late", ">stale", ">duplicate", ">staleness", ">lag", ">last seen", "does")
    )
    for each in sorted(report.workers, key=lambda worker: TaskId.parse(worker.worker)):
        table.add_row(
            Text(printable(each.worker)),
            Text(each.status, style=_STATUS_STYLES.get(each.status, "")),
            *[f"{number:,}" for number in (each.applied, each.late, each.stale, each.duplicate)],
            _last_and_largest(each.last_staleness, each.largest_staleness),
            _last_and_largest(each.last_lag, each.largest_lag),
            f"{duration(now_s - each.last_seen_s)} ago",
            Text(printable(each.does)),
        )
    return table


def _last_and_largest(last: int, largest: int) -> str:
    return f"{last} of {largest}"
