from __future__ import annotations

import io
import threading
from collections.abc import Callable

import pytest
from rich.console import Console

from ps_cluster.inspection.task_table import TaskRow
from ps_cluster.terminal import live_table
from ps_cluster.terminal.live_table import LiveTable
from ps_protocol.task_id import TaskId
from tests.conftest import Eventually

PS_0, WORKER_0 = TaskId("ps", 0), TaskId("worker", 0)
ROWS = (TaskRow(PS_0, "running", 11), TaskRow(WORKER_0, "running", 12))


class Screen:
    """A console that writes to memory, and one beside it for errors."""

    def __init__(self, *, is_terminal: bool, file: io.StringIO | None = None):
        self._file = file or io.StringIO()
        self._errors = io.StringIO()
        self.console = Console(file=self._file, force_terminal=is_terminal, width=100, height=30, color_system=None)
        self.errors = Console(file=self._errors, width=100)

    @property
    def text(self) -> str:
        return self._file.getvalue()

    @property
    def error_text(self) -> str:
        return self._errors.getvalue()

    def table(self, *, show_table: bool = True, on_output_lost: Callable[[], None] = pytest.fail) -> LiveTable:
        return LiveTable(
            self.console, self.errors, [PS_0, WORKER_0], show_table=show_table, on_output_lost=on_output_lost
        )


def test_lines_have_the_name_of_their_task_in_front_all_of_one_width() -> None:
    screen = Screen(is_terminal=False)
    with screen.table() as table:
        table.line(PS_0, "listening")
        table.line(WORKER_0, "")
        table.report("two\nlines")
    assert screen.text.splitlines() == [
        "ps:0       | listening",
        "worker:0   | ",
        "shardscope | two",
        "shardscope | lines",
    ]


def test_without_a_terminal_failures_go_to_the_errors_and_the_last_state_is_one_line() -> None:
    screen = Screen(is_terminal=False)
    with screen.table() as table:
        table.update(ROWS)
        table.report("worker:0 failed", is_failure=True)
        table.line(PS_0, "goes on")
    assert screen.error_text == "shardscope | worker:0 failed\n"
    first, last = screen.text.splitlines()
    assert first == "ps:0       | goes on"
    assert last.endswith("s: ps:0 running; worker:0 running")


def test_a_summary_is_shown_at_intervals(eventually: Eventually, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_table, "SUMMARY_INTERVAL_S", 0.0)
    screen = Screen(is_terminal=False)
    with screen.table() as table:
        table.update(ROWS)
        eventually(lambda: screen.text.count("ps:0 running") > 2, message="several summaries")


def test_on_a_terminal_the_table_comes_below_the_lines_and_stays_at_the_end(eventually: Eventually) -> None:
    screen = Screen(is_terminal=True)
    with screen.table() as table:
        table.update(ROWS)
        eventually(lambda: "running" in screen.text, message="the table")
        table.line(WORKER_0, "a line while the table is there")
        table.report("worker:0 failed", is_failure=True)
        table.update((TaskRow(PS_0, "done", 11), TaskRow(WORKER_0, "exit code 3", 12)))
    assert screen.error_text == ""
    end = screen.text[screen.text.rindex("worker:0 failed") :]
    assert "done" in end
    assert "exit code 3" in end
    assert "a line while the table is there" in screen.text


@pytest.mark.parametrize("is_terminal", [True, False])
def test_only_output_is_shown_if_no_table_is_wanted(is_terminal: bool) -> None:
    screen = Screen(is_terminal=is_terminal)
    with screen.table(show_table=False) as table:
        table.update(ROWS)
        table.line(PS_0, "line")
    assert screen.text == "ps:0       | line\n"


class _BrokenPipe(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_goes_away_is_reported_and_holds_up_nobody() -> None:
    lost = threading.Event()
    screen = Screen(is_terminal=False, file=_BrokenPipe())
    with screen.table(on_output_lost=lost.set) as table:
        for _ in range(3 * live_table._MAX_PENDING_LINES):
            table.line(WORKER_0, "line")
        table.report("report")
        assert lost.is_set()


class _HeldUp(io.StringIO):
    """Output that goes nowhere until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        assert self.go.wait(30)
        return super().write(text)


def test_an_output_that_is_held_up_holds_up_the_tasks_but_not_the_launcher(eventually: Eventually) -> None:
    file = _HeldUp()
    screen = Screen(is_terminal=False, file=file)
    sent: list[int] = []

    def send() -> None:
        for number in range(3 * live_table._MAX_PENDING_LINES):
            table.line(WORKER_0, "line")
            sent.append(number)

    with screen.table() as table:
        sender = threading.Thread(target=send)
        sender.start()
        eventually(lambda: len(sent) == live_table._MAX_PENDING_LINES, message="the sender waits")
        table.report("the launcher speaks")
        assert len(sent) == live_table._MAX_PENDING_LINES
        file.go.set()
        sender.join(30)
    assert len(sent) == 3 * live_table._MAX_PENDING_LINES
    assert screen.text.count("\n") == len(sent) + 1
