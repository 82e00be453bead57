"""One ps process as its launcher sees it: started, ready, ended."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from ps_cluster.local.line_splitter import OutputLine
from ps_cluster.local.processes import ChildProcess, ProcessSupervisor
from ps_protocol.errors import ClusterStartError
from ps_protocol.task_id import TaskId

REPORTED_LINES: Final = 15

LogSink: TypeAlias = Callable[[str, str], None]
"""Takes the name of a task, as "ps:0", and a line that it has printed; is called by several threads."""


class PsProcess:
    """A ps process and whether it is ready. Thread-safe.

    Args:
        supervisor: Starts it, and ends it at the latest when the launcher ends.
        task: Which ps task it is.
        address: "host:port" where it will listen, for the errors.
        arguments: Arguments for ``python -m ps_server``.
        environment: All of its environment.
        log: Takes what it prints, apart from the line that says it is ready.
        on_exit: Called when it has ended, by a thread of its own.
    """

    def __init__(
        self,
        supervisor: ProcessSupervisor,
        task: TaskId,
        address: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: LogSink | None = None,
        on_exit: Callable[[ChildProcess], None] | None = None,
    ):
        self._task = task
        self._address = address
        self._log = log
        self._started_s = time.monotonic()
        self._is_ready = threading.Event()
        self._settled = threading.Event()  # ready, or ended
        self._exit_callback = on_exit
        self.process = supervisor.start(
            str(task),
            # -P: a module in the user's working directory must not replace one that the ps imports.
            [sys.executable, "-P", "-m", "ps_server", *arguments],
            environment=environment,
            on_stdout=self._on_stdout,
            on_stderr=self._on_stderr,
            on_exit=self._on_exit,
        )

    @property
    def address(self) -> str:
        """Where it says that it listens; before that, where it is to listen."""
        return self._address

    def wait_ready(self, timeout_s: float) -> None:
        """Waits until the ps listens.

        Raises:
            ClusterStartError: It has ended instead, or time has run out.
        """
        settled = self._settled.wait(timeout_s)
        if self._is_ready.is_set():
            return
        what = (
            f"ended with {describe_exit(self.process.returncode)} before it was ready"
            if settled
            else f"was not ready after {time.monotonic() - self._started_s:.0f} s"
        )
        raise ClusterStartError(f"{self._task} at {self._address} {what}", last_lines(self.process))

    def _on_stdout(self, line: OutputLine) -> None:
        listening = _listening(line.text)
        if listening is not None:
            self._address = str(listening.get("address", self._address))
            self._is_ready.set()
            self._settled.set()
        else:
            self._on_stderr(line)

    def _on_stderr(self, line: OutputLine) -> None:
        if self._log is not None and not line.transient:
            self._log(str(self._task), line.text)

    def _on_exit(self, process: ChildProcess) -> None:
        self._settled.set()
        if self._exit_callback is not None:
            self._exit_callback(process)


def last_lines(process: ChildProcess) -> str:
    """The end of what a process has printed for people, indented, as the end of a message."""
    lines = [line for line in process.tail if _listening(line) is None][-REPORTED_LINES:]
    return "\n".join(["its last lines:", *(f"    {line}" for line in lines)]) if lines else "it printed nothing"


def describe_exit(returncode: int | None) -> str:
    """How a process has ended, in words: "exit code 3", "signal SIGKILL"."""
    if returncode is None:
        return "no exit code"
    if returncode >= 0:
        return f"exit code {returncode}"
    return f"signal {signal_name(-returncode)}"


def signal_name(signum: int) -> str:
    """Name of a signal, such as "SIGTERM"; its number if it has none."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return str(signum)


def _listening(text: str) -> dict[str, Any] | None:
    """What a ps says when it listens; None if a line is something else."""
    if not text.startswith("{"):
        return None
    try:
        message = json.loads(text)
    except ValueError:
        return None
    return message if isinstance(message, dict) and message.get("event") == "listening" else None
