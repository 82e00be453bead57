"""What ``shardscope up`` shows: the output of all tasks, and below it, on a terminal, a live table of them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.padding import Padding

from ps_cluster.inspection.task_table import TaskRow, render_table, summary_line, task_style
from ps_cluster.terminal.line_printer import LinePrinter, PrintedLine
from ps_protocol.task_id import TaskId

SUMMARY_INTERVAL_S: Final = 10.0

_MAX_PENDING_LINES: Final = 4096
_MAX_BATCH_LINES: Final = 1024
_REFRESH_INTERVAL_S: Final = 0.1
_CLOSE_TIMEOUT_S: Final = 5.0
_LAUNCHER_NAME: Final = "shardscope"


class LiveTable:
    """Owns the terminal, in a thread of its own, so that a slow terminal delays nothing but output.

    At most ``_MAX_PENDING_LINES`` lines wait to be shown; then the tasks that print have to wait. Thread-safe.

    Args:
        console: Where to; a table is drawn only on a terminal.
        errors: Where failures are reported if ``console`` is no terminal.
        tasks: All tasks, for the width of their names.
        show_table: Whether to show the table, or on something else than a terminal a summary line at intervals.
        on_output_lost: Called once if no process reads the output any more; later output is dropped.
    """

    def __init__(
        self,
        console: Console,
        errors: Console,
        tasks: Sequence[TaskId],
        *,
        show_table: bool,
        on_output_lost: Callable[[], None],
    ):
        self._console = console
        self._printer = LinePrinter(console, errors, [_LAUNCHER_NAME, *map(str, tasks)])
        self._live = (
            Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
            if show_table and console.is_terminal
            else None
        )
        self._summary_interval_s = SUMMARY_INTERVAL_S if show_table and not console.is_terminal else None
        self._on_output_lost = on_output_lost
        # Only lines take a slot: the launcher's own few reports must never have to wait.
        self._slots = threading.BoundedSemaphore(_MAX_PENDING_LINES)
        self._pending: queue.SimpleQueue[PrintedLine | None] = queue.SimpleQueue()
        self._lost = threading.Event()
        self._rows_lock = threading.Lock()  # guards: _rows
        self._rows: tuple[TaskRow, ...] = ()
        self._shown_rows: tuple[TaskRow, ...] = ()
        self._started_at_s = time.monotonic()
        self._summary_at_s = self._started_at_s + SUMMARY_INTERVAL_S
        self._thread = threading.Thread(target=self._run, name="live table", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Shows all that is pending and the last table, and gives the terminal back."""
        self._pending.put(None)
        self._thread.join(_CLOSE_TIMEOUT_S)
        self._lost.set()  # a late line has nowhere to go

    def line(self, task: TaskId, text: str) -> None:
        """Shows a line that a task has printed; waits while too many are waiting."""
        while not self._lost.is_set():
            if self._slots.acquire(timeout=_REFRESH_INTERVAL_S):
                self._pending.put(PrintedLine(str(task), text, task_style(task)))
                return

    def report(self, text: str, *, is_failure: bool = False) -> None:
        """Shows something that the launcher has to say; never waits."""
        self._pending.put(PrintedLine(_LAUNCHER_NAME, text, "bold red" if is_failure else "bold", is_failure))

    def update(self, rows: Sequence[TaskRow]) -> None:
        """Sets what the table shows."""
        with self._rows_lock:
            self._rows = tuple(rows)

    def _run(self) -> None:
        frame: AbstractContextManager[object] = self._live if self._live is not None else nullcontext()
        try:
            with frame:
                while self._show_next():
                    pass
        except (OSError, SystemExit):  # a broken pipe is the latter with newer versions of rich
            self._lost.set()
            self._on_output_lost()

    def _show_next(self) -> bool:
        lines, goes_on = self._take_batch()
        try:
            self._printer.print(lines)
        finally:
            for _ in range(sum(line.name != _LAUNCHER_NAME for line in lines)):
                self._slots.release()
        with self._rows_lock:
            rows = self._rows
        if self._live is not None and rows is not self._shown_rows:
            self._live.update(Padding(render_table(rows, self._console.width), (1, 0, 0, 0)), refresh=True)
            self._shown_rows = rows
        if self._summary_interval_s is not None and rows and (not goes_on or time.monotonic() >= self._summary_at_s):
            self._summary_at_s = time.monotonic() + self._summary_interval_s
            text = f"{time.monotonic() - self._started_at_s:.0f} s: {summary_line(rows)}"
            self._printer.print([PrintedLine(_LAUNCHER_NAME, text, "bold")])
        return goes_on

    def _take_batch(self) -> tuple[list[PrintedLine], bool]:
        lines: list[PrintedLine] = []
        try:
            item = self._pending.get(timeout=_REFRESH_INTERVAL_S)
            while item is not None:
                lines.append(item)
                if len(lines) == _MAX_BATCH_LINES:
                    return lines, True
                item = self._pending.get_nowait()
        except queue.Empty:
            return lines, True
        return lines, False
