"""A ps task in a process of its own, at an address that stays its own through every end and new beginning."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pytest

from ps_cluster.local.reserved_ports import LOOPBACK, ReservedPorts
from tests.chaos.fault_log import fault_environment

_TIMEOUT_S: Final = 30.0


class PsTask:
    """One ps task. As a context manager it ends its process for good.

    Args:
        directory: Where its state, its log and the log of faults are; ``data_dir`` for the state alone.
        durability: As ``--durability`` has it.
        data_dir: Where the state is, if it is not in ``directory``.
        host: Where it listens.
        port: At which port of a host of its own; any free one if not given.
        command: What runs a Python program.
        index: Which of the ps tasks it is.
        is_backup: Whether it is the second process of that ps task.
        options: More arguments.

    Attributes:
        cluster: Addresses of all ps tasks, in their order; to be set before the start if it is not the only one.
        backups: Addresses of their backups, likewise; if there are any.
    """

    def __init__(
        self,
        directory: Path,
        durability: str = "none",
        *,
        data_dir: Path | None = None,
        host: str = LOOPBACK,
        port: int = 0,
        command: Sequence[str] = (sys.executable,),
        index: int = 0,
        is_backup: bool = False,
        options: Sequence[str] = (),
    ):
        self._directory = directory
        self._fault_log = directory / "faults"
        self._log_path = directory / "log"
        self._resources = ExitStack()
        self._host = host
        self._port = port
        self._command = command
        if host == LOOPBACK:
            ports = ReservedPorts(1)
            self._resources.callback(ports.close)
            (self._port,) = ports.ports
        self._arguments = [*options, *(["--backup"] if is_backup else []), "--durability", durability]
        if durability != "none":
            self._arguments += ["--data-dir", str(data_dir or directory / "data")]
        self._index = index
        self.cluster: Sequence[str] = (f"{host}:{self._port or 1}",)
        self.backups: Sequence[str] = ()
        self._process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> str:
        return f"{self._host}:{self._port}"

    @property
    def pid(self) -> int:
        """Of its newest process."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Of the last process; None while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def log(self) -> str:
        """What all its processes have logged."""
        return self._log_path.read_text(encoding="utf-8")

    @property
    def faults(self) -> list[tuple[str, str]]:
        """The faults that were injected, as place and action."""
        if not self._fault_log.exists():
            return []
        fired = [json.loads(line) for line in self._fault_log.read_text(encoding="utf-8").splitlines()]
        return [(each["place"], each["action"]) for each in fired]

    def start(self, faults: str = "") -> Self:
        """Starts a process, with a plan of faults if one is given; it listens when this returns."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "SHARDSCOPE_"))}
        if faults:
            environ |= fault_environment(faults, self._fault_log)
        allowed = ["--allow-faults"] if faults else []
        cluster = f"ps={','.join(self.cluster)}"
        cluster += f";backup={','.join(self.backups)}" if self.backups else ""
        task = ["--cluster", cluster, "--task-index", str(self._index)]
        place = ["--bind", self._host, "--port", str(self._port)]
        with self._log_path.open("a", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [*self._command, "-m", "ps_server", *task, *place, *self._arguments, *allowed],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environ,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.__exit__(None, None, None)
            pytest.fail(f"the ps ended before it listened: {self.log}")
        self._port = int(json.loads(line)["port"])
        return self

    def start_when_ended(self) -> threading.Thread:
        """Starts another process as soon as the one there is has ended; the thread is to be joined."""
        thread = threading.Thread(target=self._restart, name="restart")
        thread.start()
        return thread

    def _restart(self) -> None:
        self.wait()
        self.start()

    def signal(self, signum: signal.Signals) -> None:
        """Sends a signal; a SIGSTOP has stopped it when this returns."""
        assert self._process is not None
        self._process.send_signal(signum)
        if signum is signal.SIGSTOP:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def kill(self) -> None:
        """Kills it; it is gone when this returns."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self, timeout_s: float = _TIMEOUT_S) -> int:
        """Waits for its end; returns the exit code."""
        assert self._process is not None
        code = self._process.wait(timeout_s)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()  # does nothing to one that has ended
            self.wait()
        self._resources.close()
