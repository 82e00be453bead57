"""Memory that is needed for a moment, kept for the next time: fresh pages cost more than what is done in them."""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ps_protocol.operations import Array

_PAGE_BYTES: Final = 4096
_SMALL_BYTES: Final = 32 * 1024
_ALIGNMENT: Final = 64
DEFAULT_LIMIT_BYTES: Final = 64 * 1024**2

_Bytes = npt.NDArray[np.uint8]


class ScratchMemory:
    """A piece of memory, from which arrays are cut one after the other.

    Args:
        memory: At least as large as the arrays will be together, each rounded up to 64 bytes.
    """

    __slots__ = ("_begin", "memory")

    def __init__(self, memory: _Bytes):
        self.memory = memory
        self._begin = 0

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Returns an array with any content, valid until the memory is given back."""
        array: Array = np.ndarray(shape, dtype, self.memory, self._begin)
        self._begin += aligned_bytes(array.nbytes)
        return array


class ScratchPool:
    """Hands out memory and takes it back. Thread-safe.

    Args:
        limit_bytes: The most that is kept while nobody uses it.
    """

    def __init__(self, limit_bytes: int = DEFAULT_LIMIT_BYTES):
        self._limit_bytes = limit_bytes
        # guards: _idle, _idle_bytes
        self._lock = threading.Lock()
        self._idle: dict[int, list[_Bytes]] = {}
        self._idle_bytes = 0

    @property
    def idle_bytes(self) -> int:
        """Bytes kept for the next user."""
        return self._idle_bytes

    def take(self, size_bytes: int) -> ScratchMemory:
        """Returns memory of at least this size, its pages there.

        Raises:
            MemoryError: There is none.
        """
        size_bytes = _size_class(size_bytes)
        with self._lock:
            idle = self._idle.get(size_bytes)
            if idle:
                self._idle_bytes -= size_bytes
                return ScratchMemory(idle.pop())
        memory = np.empty(size_bytes, np.uint8)
        if size_bytes > _SMALL_BYTES:
            memory[::_PAGE_BYTES] = 0
        return ScratchMemory(memory)

    def give_back(self, scratch: ScratchMemory) -> None:
        """Takes memory back whose arrays nobody uses any more; what was taken need not be given back."""
        memory = scratch.memory
        with self._lock:
            if self._idle_bytes + memory.size <= self._limit_bytes:
                self._idle.setdefault(memory.size, []).append(memory)
                self._idle_bytes += memory.size


def aligned_bytes(size_bytes: int) -> int:
    """The size with what alignment adds to it."""
    return -(-size_bytes // _ALIGNMENT) * _ALIGNMENT


def _size_class(size_bytes: int) -> int:
    """The next of four sizes between powers of two: at most a fifth is lost, and few sizes are kept apart."""
    step = 1 << max(12, size_bytes.bit_length() - 3)
    return max(step, -(-size_bytes // step) * step)
