"""How a save leaves the processors to batches: it works in short pieces, rests after each, and preempts nobody.

What an update waits for beside a save is a processor, on this task and in the worker, where a save runs there: neither
the interpreter's lock nor the disk. Linux takes a processor from a thread only at its tick, up to 4 ms later, and not
at all inside a system call; so the thread that writes gives it away itself.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Final

PIECE_BYTES: Final = 128 * 1024
"""What is checksummed and written between two rests: some 0.1 ms of a processor."""

_BURST_S: Final = 50e-6
"""Of a processor, before the next rest; so that many small values do not take one each."""

_LONG_BURST_S: Final = 200e-6
"""The same after a rest that became so much longer:"""
_LATE_S: Final = 1e-3
"""then other programs keep the processors busy, and each rest costs the save a turn in their queue."""

_MOMENT_S: Final = 1e-6
"""The shortest rest: whoever waits for the processor gets it. The system makes some 60 us of it."""

_REST: Final = 0.75
"""Of the time that a piece has taken of a processor, how long to rest while batches come."""

_RECENTLY_S: Final = 0.1
"""Batches come if one has come within so many seconds."""


class Pace:
    """When a save rests, and for how long. One thread at a time.

    Args:
        num_batches: Counts the batches that the task has taken.
        sleep: Waits for so many seconds.
        clock: Monotonic seconds.
        processor_clock: Seconds of a processor that the calling thread has used.
    """

    def __init__(
        self,
        num_batches: Callable[[], int],
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        processor_clock: Callable[[], float] = time.thread_time,
    ):
        self._num_batches = num_batches
        self._sleep = sleep
        self._clock = clock
        self._processor_clock = processor_clock
        self._batches = num_batches()  # at the last look
        self._busy_until_s = clock()
        self._rested_at_s = 0.0  # of the processor's time
        self._burst_s = _BURST_S

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """While the calling thread works for the save: it preempts no other thread when it wakes from a rest."""
        self._rested_at_s = self._processor_clock()
        is_usual = hasattr(os, "SCHED_BATCH") and os.sched_getscheduler(0) == os.SCHED_OTHER
        if is_usual:  # otherwise somebody has chosen how the process is scheduled
            _schedule(os.SCHED_BATCH)
        try:
            yield
        finally:
            if is_usual:
                _schedule(os.SCHED_OTHER)

    def rest(self) -> None:
        """Rests between two pieces, longer while batches come."""
        used_s = self._processor_clock() - self._rested_at_s
        if used_s < self._burst_s:
            return
        now_s, before = self._clock(), self._batches
        self._batches = self._num_batches()
        if self._batches != before:
            self._busy_until_s = now_s + _RECENTLY_S
        rest_s = used_s * _REST if now_s < self._busy_until_s else _MOMENT_S
        self._sleep(rest_s)
        is_late = self._clock() - now_s > rest_s + _LATE_S
        self._burst_s = _LONG_BURST_S if is_late else _BURST_S
        self._rested_at_s = self._processor_clock()


def _schedule(policy: int) -> None:
    with contextlib.suppress(OSError):  # a sandbox may forbid it; the rests are what matters
        os.sched_setscheduler(0, policy, os.sched_param(0))
