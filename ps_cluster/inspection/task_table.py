"""What is shown of a running cluster: one row for each task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.table import Table
from rich.text import Text

from ps_cluster.inspection.watcher import ClusterSnapshot
from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB
from ps_protocol.service_types import ServingState, Status
from ps_protocol.task_id import TaskId

STARTING: Final = "starting"
NOT_STARTED: Final = "not started"
RUNNING: Final = "running"
DONE: Final = "done"
ENDED: Final = "ended"
"""By the launcher, and not by itself."""
UNREACHABLE: Final = "no answer"
DRAINING: Final = "draining"

_STATE_STYLES: Final = {
    STARTING: "dim",
    NOT_STARTED: "dim",
    RUNNING: "green",
    DONE: "dim green",
    ENDED: "dim",
    UNREACHABLE: "yellow",
    DRAINING: "yellow",
    "primary": "green",
    "backup": "green",
    "alone": "yellow",
    "catching up": "yellow",
    "empty": "yellow",
}
_PS_JOBS: Final = (PS_JOB, BACKUP_JOB)
_WIDE_COLUMNS: Final = 100
_STATE_COLUMNS: Final = 11
_NUMBER_COLUMNS: Final = 7
_MIN_PROGRESS_COLUMNS: Final = 8
_GAP: Final = 2
_SIZE_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task; what does not apply to it, or is not known, is None.

    Attributes:
        task: Its name.
        state: Of its process, or what a ps says of itself, such as its role in a pair.
        pid: Of its process.
        step: Training steps done, as far as the task reports any.
        steps_per_s: Over the last few seconds.
        num_variables: Held by this ps.
        variable_bytes: Their bytes.
        bytes_received: By this ps, since its start.
        bytes_sent: By this ps, since its start.
        progress: The last state of a progress bar that it has printed.
    """

    task: TaskId
    state: str
    pid: int | None = None
    step: int | None = None
    steps_per_s: float | None = None
    num_variables: int | None = None
    variable_bytes: int | None = None
    bytes_received: int | None = None
    bytes_sent: int | None = None
    progress: str = ""

    @property
    def is_ps(self) -> bool:
        """Whether it holds variables."""
        return self.task.job in _PS_JOBS


def task_row(task: TaskId, state: str, pid: int | None, progress: str, snapshot: ClusterSnapshot) -> TaskRow:
    """Joins what the launcher knows of a task with what the ps tasks say."""
    is_running = state == RUNNING
    if task.job not in _PS_JOBS:
        member = snapshot.members.get(str(task))
        return TaskRow(
            task,
            state,
            pid,
            step=(member.step or None) if member else None,
            steps_per_s=snapshot.steps_per_s.get(str(task)) if is_running else None,
            progress=progress if is_running else "",
        )
    status = snapshot.statuses.get(task)
    if status is None:
        silent = is_running and task in snapshot.statuses
        return TaskRow(task, UNREACHABLE if silent else state, pid)
    return TaskRow(
        task,
        _said_state(status) if is_running else state,
        pid,
        num_variables=status.num_variables,
        variable_bytes=status.variable_bytes,
        bytes_received=status.bytes_received,
        bytes_sent=status.bytes_sent,
    )


def replica_word(role: str, has_backup: bool) -> str:
    """What a process of a replicated ps task is, for people: its role, but a primary without a backup is "alone"."""
    return "alone" if role == "primary" and not has_backup else role.replace("_", " ")


def _said_state(status: Status) -> str:
    if status.state is not ServingState.SERVING:
        return DRAINING
    if status.replication is None:
        return RUNNING
    return replica_word(status.replication.role.name.lower(), status.replication.has_backup)


def render_table(rows: Sequence[TaskRow], width: int) -> Table:
    """Lays the rows out for a terminal of ``width`` columns; a narrow one lacks the columns that matter less."""
    numbers: dict[str, Callable[[TaskRow], str]] = {
        "pid": lambda row: _number(row.pid, grouped=False),
        "steps": lambda row: _number(row.step),
        "steps/s": lambda row: "" if row.steps_per_s is None else f"{row.steps_per_s:,.1f}",
        "variables": lambda row: _number(row.num_variables),
        "held": lambda row: _size(row.variable_bytes),
        "received": lambda row: _size(row.bytes_received),
        "sent": lambda row: _size(row.bytes_sent),
    }
    if width < _WIDE_COLUMNS:
        for heading in ("pid", "variables", "held"):
            del numbers[heading]
    columns: dict[str, list[str]] = {
        "task": [str(row.task) for row in rows],
        "state": [row.state.ljust(_STATE_COLUMNS) for row in rows],
        **{heading: [cell(row).rjust(_NUMBER_COLUMNS) for row in rows] for heading, cell in numbers.items()},
    }
    left = width - sum(max(len(text) for text in (heading, *cells)) + _GAP for heading, cells in columns.items())
    has_progress = left >= _MIN_PROGRESS_COLUMNS and any(row.progress for row in rows)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, _GAP, 0, 0))
    for heading in columns:
        table.add_column(heading, no_wrap=True, justify="right" if heading in numbers else "left")
    if has_progress:
        table.add_column("progress", no_wrap=True, overflow="ellipsis", max_width=left)
    for row, task, state, *cells in zip(rows, *columns.values(), strict=True):
        table.add_row(
            Text(task, style=task_style(row.task)),
            Text(state, style=_STATE_STYLES.get(row.state, "bold red")),
            *cells,
            *([Text(row.progress.strip())] if has_progress else []),
        )
    return table


def summary_line(rows: Sequence[TaskRow]) -> str:
    """Says the same in one line, for output that is not a terminal."""
    return "; ".join(_summary(row) for row in rows)


def _summary(row: TaskRow) -> str:
    if row.is_ps:
        facts = [] if row.bytes_received is None else [f"received {_size(row.bytes_received)}"]
        facts += [] if row.bytes_sent is None else [f"sent {_size(row.bytes_sent)}"]
    else:
        facts = [] if row.step is None else [f"{row.step:,} steps"]
        facts += [row.progress] if row.progress else []
    return f"{row.task} {', '.join([row.state, *facts])}"


def task_style(task: TaskId) -> str:
    """Colour in which a task is shown everywhere."""
    palette = (
        ("magenta", "bright_magenta") if task.job in _PS_JOBS else ("cyan", "yellow", "green", "blue", "bright_cyan")
    )
    return palette[task.index % len(palette)]


def format_size(size_bytes: int) -> str:
    """Writes a number of bytes for people, as "1.5 MiB"."""
    size = float(size_bytes)
    for unit in _SIZE_UNITS:
        if size < 1024 or unit == _SIZE_UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    raise AssertionError("the last unit takes every size")


def _size(size_bytes: int | None) -> str:
    return "" if size_bytes is None else format_size(size_bytes)


def _number(number: int | None, *, grouped: bool = True) -> str:
    if number is None:
        return ""
    return f"{number:,}" if grouped else str(number)
