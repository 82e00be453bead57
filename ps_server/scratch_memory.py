"""Memory that is needed for a moment, kept for the next time: fresh pages cost more than what is done in them."""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ps_protocol.operations import Array
from ps_server.spare_arrays import prepared_array

_ALIGNMENT: Final = 64
DEFAULT_LIMIT_BYTES: Final = 64 * 1024**2

_BYTE: Final = np.dtype(np.uint8)
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

    Of what is kept the sizes that came first make way for those that are in use now.

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
            if size_bytes in self._idle:
                return ScratchMemory(self._remove(size_bytes))
        return ScratchMemory(prepared_array((size_bytes,), _BYTE))

    def give_back(self, scratch: ScratchMemory) -> None:
        """Takes memory back whose arrays nobody uses any more; what was taken need not be given back."""
        memory = scratch.memory
        if memory.size > self._limit_bytes:
            return
        given_up = []  # freed after the lock is released: to give memory back to the system takes time
        with self._lock:
            self._idle.setdefault(memory.size, []).append(memory)
            self._idle_bytes += memory.size
            while self._idle_bytes > self._limit_bytes:
                given_up.append(self._remove(next(iter(self._idle))))

    def _remove(self, size_bytes: int) -> _Bytes:
        """With the lock held: takes out memory of a size of which there is some."""
        idle = self._idle[size_bytes]
        memory = idle.pop()
        if not idle:
            del self._idle[size_bytes]
        self._idle_bytes -= size_bytes
        return memory


def aligned_bytes(size_bytes: int) -> int:
    """The size with what alignment adds to it."""
    return -(-size_bytes // _ALIGNMENT) * _ALIGNMENT


def _size_class(size_bytes: int) -> int:
    """The next of four sizes between powers of two: at most a fifth is lost, and few sizes are kept apart."""
    step = 1 << max(12, size_bytes.bit_length() - 3)
    return max(step, -(-size_bytes // step) * step)
