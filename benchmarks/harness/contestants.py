"""The benchmark's end of the conversation with contestants: starts them, asks, waits no longer than a bound."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

ROOT = Path(__file__).resolve().parents[2]
TRANSPORTS = ("grpc", "socket", "unix", "shm")
START_TIMEOUT_S = 180.0
ANSWER_TIMEOUT_S = 300.0
_END_TIMEOUT_S = 30.0
_POLL_INTERVAL_S = 0.01
_SHOWN_OUTPUT_BYTES = 2000


class ContestantError(RuntimeError):
    """A contestant did not start, failed at its work or did not answer in time; holds what it printed last."""


@dataclass(frozen=True)
class Entry:
    """A contestant, and how to start it.

    Attributes:
        name: As in tables and files.
        kind: "own", "peer" or "limit".
        command: Program and arguments.
    """

    name: str
    kind: str
    command: tuple[str, ...]


def own_entry(transport: str, scale: str, *, cluster: str | None = None) -> Entry:
    """Shardscope by one transport, with a ps of its own or on a cluster that runs."""
    command = [sys.executable, "-m", "benchmarks.drivers.shardscope", "--transport", transport, "--scale", scale]
    return Entry(transport, "own", (*command, *(["--cluster", cluster] if cluster else [])))


def limit_entry(scale: str) -> Entry:
    """What the machine itself can do."""
    return Entry("limit", "limit", (sys.executable, "-m", "benchmarks.drivers.limits", "--scale", scale))


_PEER_MODULES: Mapping[str, tuple[str, ...]] = {
    "tensorflow": ("benchmarks.peers.tensorflow_peer",),
    "torch": ("benchmarks.peers.torch_peer", "--tcp"),
    "torch_shm": ("benchmarks.peers.torch_peer",),
    "ray": ("benchmarks.peers.ray_peer",),
}
PEERS = tuple(_PEER_MODULES)


def peer_entry(name: str, python: str, scale: str) -> Entry:
    """Another system, run by the interpreter of its environment."""
    module, *arguments = _PEER_MODULES[name]
    return Entry(name, "peer", (python, "-m", module, *arguments, "--scale", scale))


def _wait_for_end(pid: int, timeout_s: float) -> None:
    """Waits until a child has ended, at most so long, and leaves it to be waited for."""
    deadline_s = time.monotonic() + timeout_s
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None and time.monotonic() < deadline_s:
        time.sleep(_POLL_INTERVAL_S)


class RunningContestant:
    """A contestant's process. Started when made; ends with the block. One thread at a time.

    Attributes:
        entry: The contestant.
        versions: Of the libraries that it uses.
        cases: Variants that it offers of each workload.
        pid: Of the process that measures.
    """

    def __init__(self, entry: Entry):
        self.entry = entry
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close
        self._received = b""
        try:
            # A session of its own, so that all it has started can be ended together if it does not do so itself.
            self._process = subprocess.Popen(
                entry.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._output,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                start_new_session=True,
            )
        except OSError as error:
            self._output.close()
            raise ContestantError(f"{entry.name} cannot be started as {' '.join(entry.command)}: {error}") from error
        self.pid = self._process.pid
        try:
            greeting = self._receive(START_TIMEOUT_S)
        except BaseException:
            self.close()
            raise
        self.versions: Mapping[str, str] = greeting["versions"]
        self.cases: Mapping[str, Sequence[str]] = greeting["cases"]

    def run(self, workload: str, variant: str, *, warm: int, calls: int) -> list[float]:
        """Returns the duration of each call, in seconds.

        Raises:
            ContestantError: It has failed, or has not answered in time.
        """
        self.begin("run", workload=workload, variant=variant, warm=warm, calls=calls)
        return self.seconds()

    def check(self) -> None:
        """Fails unless it holds what all calls so far must have made of it.

        Raises:
            ContestantError: It does not, or as for ``run``.
        """
        state = self.state()
        if state["observed"] and state["observed"] != state["expected"]:
            raise ContestantError(
                f"{self.entry.name} holds {state['observed']} after work that makes {state['expected']}"
            )

    def state(self) -> dict[str, Any]:
        """Returns what it holds and what its own calls must have made of that; raises as ``run``."""
        self.begin("check")
        return self._receive(ANSWER_TIMEOUT_S)

    def begin(self, do: str, **request: object) -> None:
        """Asks for work, and returns before it is done: take the answer with ``seconds``."""
        pipe = self._process.stdin
        assert pipe is not None
        try:
            pipe.write(json.dumps({"do": do, **request}).encode() + b"\n")
            pipe.flush()
        except OSError as error:
            raise self._failed("is gone") from error

    def seconds(self) -> list[float]:
        """Waits for the durations of the calls that ``begin`` asked for; raises as ``run``."""
        times: list[float] = self._receive(ANSWER_TIMEOUT_S)["seconds"]
        return times

    def close(self) -> None:
        """Ends the process; what it has started and left behind is killed. May be repeated."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # it may be gone with a request unread
                    pipe.close()
        if self._process.returncode is None:
            _wait_for_end(self._process.pid, _END_TIMEOUT_S)
            # It has not been waited for yet, so that its number is still that of its session and of no other.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(_END_TIMEOUT_S)
        self._output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self, timeout_s: float) -> dict[str, Any]:
        pipe = self._process.stdout
        assert pipe is not None
        deadline_s = time.monotonic() + timeout_s
        while b"\n" not in self._received:
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline_s - time.monotonic()))
            if not ready:
                raise self._failed(f"has not answered within {timeout_s:.0f} s")
            received = os.read(pipe.fileno(), 1 << 20)
            if not received:
                raise self._failed("has ended")
            self._received += received
        line, _, self._received = self._received.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise self._failed(f"has failed: {answer['error']}")
        return answer

    def _failed(self, what: str) -> ContestantError:
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - _SHOWN_OUTPUT_BYTES))
        printed = self._output.read().decode(errors="replace").strip()
        return ContestantError(f"{self.entry.name} {what}" + (f"; it printed last:\n{printed}" if printed else ""))
