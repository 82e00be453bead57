"""What the kernel knows about processes: memory and processor time. Linux only."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil

_REST_S: Final = 0.5
_BUSY: Final = 0.1
"""The part of a processor that processes may use and still rest."""


def reset_peak(pid: int) -> None:
    """Makes the kernel forget the most memory that a process of this user has had."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """Returns the most memory that a process has had in RAM since ``reset_peak``, shared memory included."""
    return _status_bytes(pid, "VmHWM")


def resident_bytes(pid: int) -> int:
    """Returns the memory that a process has in RAM, shared memory included."""
    return _status_bytes(pid, "VmRSS")


def cpu_seconds(pid: int) -> float:
    """Returns the processor time that a process has used, user and system."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def wait_until_they_rest(pids: Sequence[int], timeout_s: float) -> None:
    """Waits until processes use hardly any processor time, or time is over."""
    deadline_s = time.monotonic() + timeout_s
    used_s = sum(map(cpu_seconds, pids))
    while time.monotonic() < deadline_s:
        time.sleep(_REST_S)
        before_s, used_s = used_s, sum(map(cpu_seconds, pids))
        if used_s - before_s < _BUSY * _REST_S:
            return


def _status_bytes(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    raise LookupError(f"/proc/{pid}/status has no {key}")
