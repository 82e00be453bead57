"""Child processes: their output is read line by line, and none is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Final, TypeAlias

from ps_cluster.local.lifeline import MARKER_VARIABLE, Lifeline, end_marked
from ps_cluster.local.line_splitter import LineSplitter, OutputLine
from ps_protocol.not_copied import NotCopied

TAIL_LINES: Final = 50

_READ_SIZE_BYTES: Final = 64 * 1024
_LAST_OUTPUT_TIMEOUT_S: Final = 1.0
_KILL_TIMEOUT_S: Final = 5.0

OnLine: TypeAlias = Callable[[OutputLine], None]
"""Called for each line, by the thread that reads it; while it does not return, the process is not read from."""
OnExit: TypeAlias = Callable[["ChildProcess"], None]
"""Called once, by a thread of the process's own, when it has ended and its output has been delivered."""


class ChildProcess(NotCopied, bound_to="the process that started it", instead="pass on its pid"):
    """A process in a session of its own, so that a signal reaches all it has started. Thread-safe.

    Made by ``ProcessSupervisor.start``.

    Attributes:
        name: For people, as "ps:0".
        pid: Its process id, which is that of its process group too.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        on_stdout: OnLine | None,
        on_stderr: OnLine | None,
        on_exit: OnExit | None,
    ):
        self.name = name
        self._on_exit = on_exit
        self._lock = threading.RLock()  # guards: _popen's return code, so that no signal goes to a reused pid
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._tail_lock = threading.Lock()  # guards: _tail
        self._ended = threading.Event()
        self._popen = subprocess.Popen(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if on_stderr is not None else subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
        self.pid = self._popen.pid
        # Daemons: an interpreter that ends without closing the supervisor must not wait for them.
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, on_line), name=f"output of {name}", daemon=True)
            for pipe, on_line in ((self._popen.stdout, on_stdout), (self._popen.stderr, on_stderr))
            if pipe is not None
        ]
        self._waiter = threading.Thread(target=self._wait_for_exit, name=f"exit of {name}", daemon=True)
        for thread in (*self._readers, self._waiter):
            thread.start()

    @property
    def returncode(self) -> int | None:
        """Exit code, -n if signal n ended it, None while it runs."""
        with self._lock:
            return self._popen.returncode

    @property
    def tail(self) -> list[str]:
        """The last ``TAIL_LINES`` lines of its output."""
        with self._tail_lock:
            return list(self._tail)

    @property
    def is_over(self) -> bool:
        """Whether the process has ended and none of its threads is left."""
        return not any(thread.is_alive() for thread in (self._waiter, *self._readers))

    def wait(self, timeout_s: float) -> int | None:
        """Waits for the end of the process and of its output; None if it still runs then."""
        return self.returncode if self._ended.wait(timeout_s) else None

    def send_signal(self, signum: signal.Signals) -> None:
        """Sends a signal to the process and those it has started in its session; without effect once it has ended."""
        with self._lock:
            if self._popen.returncode is None:
                os.killpg(self.pid, signum)

    def end(self, grace_s: float) -> int | None:
        """Sends SIGTERM, after ``grace_s`` SIGKILL, and returns the exit code; None if even that has not ended it."""
        end_all([self], grace_s)
        return self.returncode

    def join(self, timeout_s: float) -> None:
        """Waits for the threads that belong to a process that has ended."""
        deadline_s = time.monotonic() + timeout_s
        for thread in (self._waiter, *self._readers):
            thread.join(max(0.0, deadline_s - time.monotonic()))

    def _read(self, pipe: IO[bytes], on_line: OnLine | None) -> None:
        splitter = LineSplitter()
        with pipe:
            while data := os.read(pipe.fileno(), _READ_SIZE_BYTES):
                for line in splitter.feed(data):
                    self._deliver(line, on_line)
        for line in splitter.flush():
            self._deliver(line, on_line)

    def _deliver(self, line: OutputLine, on_line: OnLine | None) -> None:
        if not line.transient:
            with self._tail_lock:
                self._tail.append(line.text)
        if on_line is not None:
            on_line(line)

    def _wait_for_exit(self) -> None:
        # WNOWAIT leaves it a zombie, whose pid no other process can get, until the return code is set under the lock.
        with contextlib.suppress(ChildProcessError):  # SIGCHLD is ignored in this process; Popen copes with that
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            self._popen.wait()
        deadline_s = time.monotonic() + _LAST_OUTPUT_TIMEOUT_S  # a process it has left behind may hold the pipes open
        for reader in self._readers:
            reader.join(max(0.0, deadline_s - time.monotonic()))
        self._ended.set()
        if self._on_exit is not None:
            self._on_exit(self)


class ProcessSupervisor:
    """Starts processes and ends all of them, and all they have started, at ``close`` or when it dies itself.

    Thread-safe. Only Linux is supported.
    """

    def __init__(self) -> None:
        self._lifeline = Lifeline()
        self._lock = threading.Lock()  # guards: _processes, _closed
        self._processes: list[ChildProcess] = []
        self._closed = False

    @property
    def guard_pid(self) -> int:
        """Process that ends the others when this one dies."""
        return self._lifeline.guard_pid

    def start(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        on_stdout: OnLine | None = None,
        on_stderr: OnLine | None = None,
        on_exit: OnExit | None = None,
    ) -> ChildProcess:
        """Starts a process; its standard input is empty.

        Args:
            name: For people, as "ps:0".
            arguments: Program and arguments; the program is looked for in ``PATH`` of ``environment``.
            environment: All of its environment; the launch's marker is added.
            on_stdout: Called for each line of output. Must not raise.
            on_stderr: The same for standard error; None joins it to standard output, in the order of writing.
            on_exit: Called when it has ended. Must not raise.

        Raises:
            OSError: There is no such program, or it cannot be run.
            RuntimeError: The supervisor is closed.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError(f"cannot start {name}: its supervisor is closed")
            process = ChildProcess(
                name,
                arguments,
                environment={**environment, MARKER_VARIABLE: self._lifeline.marker},
                on_stdout=on_stdout,
                on_stderr=on_stderr,
                on_exit=on_exit,
            )
            self._processes = [*(each for each in self._processes if not each.is_over), process]
        return process

    def close(self) -> None:
        """Kills what still runs and gives everything back. Repeated calls do nothing."""
        with self._lock:
            self._closed = True
            processes, self._processes = self._processes, []
        try:
            for process in processes:
                process.send_signal(signal.SIGKILL)
            end_marked(self._lifeline.marker, grace_s=0)
        finally:
            self._lifeline.release()
        for process in processes:
            process.join(_KILL_TIMEOUT_S)


def end_all(processes: Sequence[ChildProcess], grace_s: float) -> None:
    """Sends SIGTERM to all at once, and SIGKILL to those that still run after ``grace_s``."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
    deadline_s = time.monotonic() + grace_s
    for process in processes:
        if process.wait(max(0.0, deadline_s - time.monotonic())) is None:
            process.send_signal(signal.SIGKILL)
    for process in processes:
        process.wait(_KILL_TIMEOUT_S)
