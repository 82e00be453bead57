"""Keeps the C library from returning the memory of each chunk to the kernel, only to ask for it again.

A gather of 4,096 rows over gRPC takes a third of the time (``python -m benchmarks.one_of_each allocator``).
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_KEPT_BYTES: Final = 8 * 1024 * 1024


def keep_freed_chunks() -> None:
    """Makes the C library keep freed buffers of a few MiB for the next ones. Safe to call often; costs microseconds.

    gRPC allocates several buffers for each message. glibc at first maps one above 128 KiB of its own from the kernel,
    which zeroes it page by page, and unmaps it when it is freed; together that takes longer than the copy into it. It
    adapts, though: when a mapped buffer is freed, it raises that limit to the buffer's size, and the free memory that
    it keeps to twice that (``M_MMAP_THRESHOLD`` in mallopt(3)). So one is mapped here, not touched, and freed, which
    has the same effect as any NumPy array of that size. With another allocator it has none.
    """
    bytes(_KEPT_BYTES)


def give_back_freed_memory() -> None:
    """Has the C library return to the kernel what it keeps of freed memory, as after messages of unusual size.

    glibc keeps it in an arena for each of gRPC's threads, and gives back only what lies at the end of one
    (malloc_trim(3)). Takes milliseconds, in which other threads that allocate may wait; the next messages are slower.
    Elsewhere nothing is done.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
