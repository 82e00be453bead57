"""Ends the processes of a launch when its launcher ends, however it ends.

Every process of a launch carries the launch's marker in its environment, and so do the processes it
starts in turn, whatever session or parent they end up with. A guard process waits on a pipe whose
other end only the launcher holds: when the kernel closes that end, even after SIGKILL, the guard looks for the marker
in ``/proc/*/environ`` and ends every process that carries it. The launcher reports nothing to the guard, so a process
that has just started is never missed.

A process that is given an empty environment, or another user's rights, is out of reach.

``PR_SET_PDEATHSIG`` would not do: it fires when the *thread* that started a child ends, and it reaches
children only, not what they start.

The guard runs this file by its path with ``-I -S``, which is why it imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MARKER_VARIABLE: Final = "SHARDSCOPE_LAUNCH"

_GRACE_S: Final = 2.0
_KILL_TIMEOUT_S: Final = 5.0
_SCAN_INTERVAL_S: Final = 0.02
_PARENT_CHECK_INTERVAL_S: Final = 1.0
_GUARD_EXIT_TIMEOUT_S: Final = 10.0
_RELEASED: Final = b"."


class Lifeline:
    """The launcher's end: as long as the process that made it lives, nothing happens.

    Attributes:
        marker: Names the launch; to be put into the environment of its processes under ``MARKER_VARIABLE``.
    """

    def __init__(self) -> None:
        self.marker = uuid.uuid4().hex
        # The guard has no marker. Otherwise, of a launch inside a launch, the outer guard would end the inner one
        # before that could end the inner processes.
        environment = {name: value for name, value in os.environ.items() if name != MARKER_VARIABLE}
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, self.marker, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            start_new_session=True,
        )

    @property
    def guard_pid(self) -> int:
        """Process id of the guard."""
        return self._guard.pid

    def release(self) -> None:
        """Ends the guard, and leaves alone what still carries the marker. Repeated calls do nothing."""
        pipe = self._guard.stdin
        if pipe is None or pipe.closed:
            return
        with contextlib.suppress(BrokenPipeError):  # the guard has been killed already
            pipe.write(_RELEASED)
            pipe.flush()
        with contextlib.suppress(BrokenPipeError):
            pipe.close()
        try:
            self._guard.wait(_GUARD_EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()


def end_marked(marker: str, *, grace_s: float) -> list[int]:
    """Ends every process that carries a marker, except the calling one: SIGTERM first, then SIGKILL.

    Args:
        marker: ``Lifeline.marker`` of the launch.
        grace_s: Seconds between the two signals; 0 goes to SIGKILL at once.

    Returns:
        The processes that are still there after SIGKILL and some seconds, such as one stuck in the kernel.
    """
    kill_at_s = time.monotonic() + grace_s
    give_up_at_s = kill_at_s + _KILL_TIMEOUT_S
    asked: set[int] = set()
    clean_scans = 0
    while True:
        now_s = time.monotonic()
        found = list(marked_pids(marker))
        if found and now_s > give_up_at_s:
            return found
        # A process can be missed while it executes another program, hence two scans.
        clean_scans = 0 if found else clean_scans + 1
        if clean_scans == 2:
            return []
        for pid in found:
            if now_s >= kill_at_s:
                _send(pid, signal.SIGKILL)
            elif pid not in asked:
                asked.add(pid)
                _send(pid, signal.SIGTERM)
        time.sleep(_SCAN_INTERVAL_S)


def marked_pids(marker: str) -> Iterator[int]:
    """Ids of the processes, except the calling one, that carry a marker and may be looked at; zombies do not count."""
    entry = f"{MARKER_VARIABLE}={marker}".encode()
    own_pid = os.getpid()
    for directory in Path("/proc").iterdir():
        if not directory.name.isdecimal() or int(directory.name) == own_pid:
            continue
        try:
            environment = (directory / "environ").read_bytes()
        except OSError:  # it has ended, or belongs to another user and so is none of ours
            continue
        if entry in environment.split(b"\0"):
            yield int(directory.name)


def _send(pid: int, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


def _guard(marker: str, launcher_pid: int) -> None:
    """Waits for the launcher to release the lifeline or to die; in the latter case ends what it has started."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    # The launcher's end may have been inherited by a process that it has forked: its pid is looked at as well.
    while os.getppid() == launcher_pid:
        readable, _, _ = select.select([0], [], [], _PARENT_CHECK_INTERVAL_S)
        if readable:
            if os.read(0, 1) == _RELEASED:
                return
            break
    end_marked(marker, grace_s=_GRACE_S)


if __name__ == "__main__":
    _guard(sys.argv[1], int(sys.argv[2]))
