"""Copies many bytes with two threads, since one processor alone does not reach the speed of memory.

A large pull gains a third on a quiet machine, and nothing where both processors have other work (``python -m
benchmarks.one_of_each large_copies``).
"""

from __future__ import annotations

import os
import threading
from typing import Final

import numpy as np
import numpy.typing as npt

from ps_protocol.interrupts import raise_interrupt

TWO_THREADS_FROM_BYTES: Final = 16 * 1024**2
"""From here on, a second thread saves many times what it costs to start it."""

_ALIGNMENT: Final = 4096
_NUM_PROCESSORS: Final = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

Bytes = npt.NDArray[np.uint8]


def copy_bytes(target: Bytes, source: Bytes) -> None:
    """Copies one-dimensional arrays of the same size, with two threads if that is worth it. Other threads may run.

    The second thread lasts only as long as the copy, so that nothing has to be looked after between copies or forks.
    """
    if source.size < TWO_THREADS_FROM_BYTES or _NUM_PROCESSORS < 2:
        np.copyto(target, source)
        return
    middle = source.size // 2 // _ALIGNMENT * _ALIGNMENT
    second = threading.Thread(target=np.copyto, args=(target[middle:], source[middle:]), name="copy", daemon=True)
    try:
        second.start()
    except RuntimeError as error:  # the system has no thread left
        raise_interrupt(error)
        np.copyto(target, source)
        return
    try:
        np.copyto(target[:middle], source[:middle])
    finally:  # interrupted or not, no thread writes to the target after this returns
        second.join()  # for a copy of the same size as the one just made
