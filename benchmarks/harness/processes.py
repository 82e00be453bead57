"""What the kernel knows about processes: memory and processor time. Linux only."""

from __future__ import annotations

from pathlib import Path

import psutil


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


def _status_bytes(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    raise LookupError(f"/proc/{pid}/status has no {key}")
