"""Large buffers that are used again, so that the next batch does not pay for their pages.

A fresh buffer of 100 MB costs more in page faults than the copy into it. A push of 100 MiB
takes 0.74 of the processor time (``python -m benchmarks.one_of_each buffer_pool``).
"""

from __future__ import annotations

import sys
import threading
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

POOLED_FROM_BYTES: Final = 256 * 1024
"""Smaller buffers come from memory that the allocator has at hand."""

_GRANULE_BYTES: Final = 64 * 1024


_Buffer: TypeAlias = npt.NDArray[np.uint8]


def _references(buffers: list[_Buffer]) -> list[int]:
    return [sys.getrefcount(each) for each in buffers]


# The references of the list and of the call that counts. Their number differs: from 3.14 on a call borrows arguments.
_REFERENCES_OF_THE_LAST_HOLDER: Final = _references([np.empty(0, np.uint8)])[0]


class BufferPool:
    """Keeps buffers that are given back, up to a limit; the one given back last is used first. Thread-safe.

    Args:
        limit_bytes: The most that idle buffers may take together.
    """

    def __init__(self, limit_bytes: int):
        self._limit_bytes = limit_bytes
        # guards: _idle, _idle_bytes; no other lock is taken under it
        self._lock = threading.Lock()
        self._idle: list[_Buffer] = []  # the one given back last is at the end
        self._idle_bytes = 0

    @property
    def idle_bytes(self) -> int:
        """Bytes of the buffers that wait to be used."""
        return self._idle_bytes

    def take(self, size_bytes: int) -> _Buffer:
        """Returns a buffer of at least that size, its content undefined.

        Raises:
            MemoryError: There is none.
        """
        capacity = -(-size_bytes // _GRANULE_BYTES) * _GRANULE_BYTES
        with self._lock:
            for position in range(len(self._idle) - 1, -1, -1):
                if self._idle[position].size == capacity:
                    self._idle_bytes -= capacity
                    return self._idle.pop(position)
            # Drops idle buffers first, so that the new one does not come on top of them.
            self._shed(self._limit_bytes - capacity)
        return np.empty(capacity, np.uint8)

    def memory(self, size_bytes: int, pooled: list[_Buffer]) -> memoryview:
        """Returns memory of that size: a buffer of the pool, which is appended to ``pooled``, if it is large; else new.

        Raises:
            MemoryError: There is none.
        """
        if size_bytes < POOLED_FROM_BYTES:
            return np.empty(size_bytes, np.uint8).data
        pooled.append(self.take(size_bytes))
        return pooled[-1].data[:size_bytes]

    def give_back(self, buffers: list[_Buffer]) -> None:
        """Takes back the buffers that are not used any more, and empties the list.

        The count of references tells which: a tensor that the store keeps as a value is a view of its buffer, and
        counts. The caller must have dropped its own views.
        """
        counts = _references(buffers)
        free = [each for each, count in zip(buffers, counts, strict=True) if count <= _REFERENCES_OF_THE_LAST_HOLDER]
        buffers.clear()
        with self._lock:
            for buffer in free:
                self._idle.append(buffer)
                self._idle_bytes += buffer.size
            self._shed(self._limit_bytes)

    def _shed(self, limit_bytes: int) -> None:
        """With the lock held: drops the buffers that were used longest ago until the rest fit."""
        while self._idle and self._idle_bytes > limit_bytes:
            self._idle_bytes -= self._idle.pop(0).size
