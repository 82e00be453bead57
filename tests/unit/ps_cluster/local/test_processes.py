from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Iterator

import psutil
import pytest

from ps_cluster.local.lifeline import MARKER_VARIABLE, end_marked, marked_pids
from ps_cluster.local.line_splitter import OutputLine
from ps_cluster.local.processes import TAIL_LINES, ChildProcess, ProcessSupervisor, end_all
from tests.conftest import Eventually

pytestmark = pytest.mark.integration

TIMEOUT_S = 30.0
SLEEP = "import time; print('up', flush=True); time.sleep(600)"
IGNORE_SIGTERM = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
# A grandchild in a session of its own, whose pid is printed; the process itself then waits or ends.
ORPHAN = (
    "import subprocess, sys; "
    f"child = subprocess.Popen([sys.executable, '-c', {IGNORE_SIGTERM!r}], start_new_session=True, stdout=-3); "
    "print(child.pid, flush=True); "
)


class Lines:
    """Collects lines."""

    def __init__(self) -> None:
        self.lines: list[OutputLine] = []

    def __call__(self, line: OutputLine) -> None:
        self.lines.append(line)

    @property
    def texts(self) -> list[str]:
        return [line.text for line in self.lines]


@pytest.fixture
def supervisor() -> Iterator[ProcessSupervisor]:
    supervisor = ProcessSupervisor()
    yield supervisor
    supervisor.close()


def start(supervisor: ProcessSupervisor, code: str, **callbacks: object) -> ChildProcess:
    return supervisor.start("task", [sys.executable, "-c", code], environment=os.environ, **callbacks)  # type: ignore[arg-type]  # callbacks, passed on


def test_output_comes_by_line_and_then_the_exit(supervisor: ProcessSupervisor) -> None:
    lines, ended = Lines(), threading.Event()
    process = start(
        supervisor,
        "import sys; print('one'); sys.stdout.flush(); print('two', file=sys.stderr); sys.exit(5)",
        on_stdout=lines,
        on_exit=lambda _: ended.set(),
    )
    assert process.wait(TIMEOUT_S) == 5
    assert ended.wait(TIMEOUT_S)
    assert process.returncode == 5
    assert lines.texts == ["one", "two"]
    assert process.tail == ["one", "two"]


def test_standard_error_can_be_told_apart(supervisor: ProcessSupervisor) -> None:
    out, err = Lines(), Lines()
    code = "import sys; print('one'); print('two', file=sys.stderr)"
    start(supervisor, code, on_stdout=out, on_stderr=err).wait(TIMEOUT_S)
    assert (out.texts, err.texts) == (["one"], ["two"])


def test_only_the_last_lines_are_kept(supervisor: ProcessSupervisor) -> None:
    process = start(supervisor, "for number in range(500): print(number)")
    process.wait(TIMEOUT_S)
    assert process.tail == [str(number) for number in range(500 - TAIL_LINES, 500)]


def test_a_process_ended_by_a_signal_has_a_negative_exit_code(supervisor: ProcessSupervisor) -> None:
    process = start(supervisor, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert process.wait(TIMEOUT_S) == -signal.SIGKILL


def test_standard_input_is_empty(supervisor: ProcessSupervisor) -> None:
    process = start(supervisor, "import sys; print(repr(sys.stdin.read()))")
    process.wait(TIMEOUT_S)
    assert process.tail == ["''"]


def test_wait_gives_up_in_time(supervisor: ProcessSupervisor) -> None:
    assert start(supervisor, SLEEP).wait(0.01) is None


def test_a_signal_to_a_process_that_has_ended_does_nothing(supervisor: ProcessSupervisor) -> None:
    process = start(supervisor, "")
    process.wait(TIMEOUT_S)
    process.send_signal(signal.SIGKILL)
    assert process.returncode == 0


def test_a_signal_reaches_what_the_process_has_started(supervisor: ProcessSupervisor, eventually: Eventually) -> None:
    process = start(supervisor, f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}])")
    eventually(lambda: process.tail == ["up"], message="the grandchild is up")
    [grandchild] = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGTERM)
    eventually(lambda: not grandchild.is_running(), message="the grandchild has ended")
    process.wait(TIMEOUT_S)


def test_end_kills_what_ignores_sigterm_and_leaves_the_rest_its_time(
    supervisor: ProcessSupervisor, eventually: Eventually
) -> None:
    stubborn, good = start(supervisor, IGNORE_SIGTERM), start(supervisor, SLEEP)
    eventually(lambda: stubborn.tail == good.tail == ["up"], message="both are up")
    end_all([stubborn, good], grace_s=0.2)
    assert stubborn.returncode == -signal.SIGKILL
    assert good.returncode == -signal.SIGTERM


def test_close_ends_grandchildren_in_sessions_of_their_own(eventually: Eventually) -> None:
    supervisor = ProcessSupervisor()
    process = start(supervisor, ORPHAN)
    assert process.wait(TIMEOUT_S) == 0
    grandchild = psutil.Process(int(process.tail[0]))
    guard = psutil.Process(supervisor.guard_pid)
    supervisor.close()
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE
    eventually(lambda: not guard.is_running(), message="the guard has ended")
    supervisor.close()
    with pytest.raises(RuntimeError, match="closed"):
        start(supervisor, "")


def test_a_program_that_is_not_there_is_an_error(supervisor: ProcessSupervisor) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        supervisor.start("task", ["no-such-program"], environment=os.environ)


LAUNCHER = """
import os, sys, time
from ps_cluster.local.processes import ProcessSupervisor
supervisor = ProcessSupervisor()
def show(line):
    print(supervisor.guard_pid, line.text, flush=True)
    {then}
process = supervisor.start("task", [sys.executable, "-c", {code!r}], environment=os.environ, on_stdout=show)
time.sleep(600)
"""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, None])
def test_nothing_is_left_when_the_launcher_dies(
    supervisor: ProcessSupervisor, eventually: Eventually, signum: signal.Signals | None
) -> None:
    code = f"import os; print(os.getpid(), end=' '); {ORPHAN} import time; time.sleep(600)"
    then = "os._exit(0)" if signum is None else "pass"
    launcher = start(supervisor, LAUNCHER.format(code=code, then=then))
    eventually(lambda: launcher.tail, message="the grandchild is up")
    left = [psutil.Process(int(pid)) for pid in launcher.tail[0].split()]
    assert len(left) == 3, "guard, child, grandchild"
    if signum is not None:
        os.kill(launcher.pid, signum)  # to the launcher alone, not to its group
    assert launcher.wait(TIMEOUT_S) == (0 if signum is None else -signum)
    for process in left:
        eventually(functools.partial(_is_gone, process), message=f"{process} has ended")


def test_a_marker_means_one_launch_only(supervisor: ProcessSupervisor, eventually: Eventually) -> None:
    process = start(supervisor, f"import os; print(os.environ[{MARKER_VARIABLE!r}], flush=True); {SLEEP}")
    eventually(lambda: len(process.tail) == 2, message="it is up")
    marker = process.tail[0]
    assert list(marked_pids(marker)) == [process.pid]
    assert end_marked(marker[::-1] + "x", grace_s=0) == []
    assert process.returncode is None
    assert end_marked(marker, grace_s=TIMEOUT_S) == []
    assert process.wait(TIMEOUT_S) == -signal.SIGTERM


def test_a_launch_inside_a_launch_has_its_own_marker_and_guard(
    supervisor: ProcessSupervisor, eventually: Eventually
) -> None:
    code = f"import os; print(os.getpid(), end=' '); {SLEEP}"
    outer = start(supervisor, LAUNCHER.format(code=code, then="pass"))
    eventually(lambda: outer.tail, message="the inner process is up")
    guard, inner = (psutil.Process(int(pid)) for pid in outer.tail[0].split()[:2])
    supervisor.close()
    for process in (inner, guard):
        eventually(functools.partial(_is_gone, process), message=f"{process} has ended")


def _is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
