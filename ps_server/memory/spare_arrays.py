"""Arrays of replaced values, kept for new values: fresh memory costs more than filling it.

An update of 100 MiB beside a lent value takes half the time (``python -m benchmarks.one_of_each spare_arrays``).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, Final, TypeAlias

import numpy as np

from ps_protocol.operations import Array, VariableSpec
from ps_server.memory.lent_arrays import LendableArray

_PAGE_BYTES: Final = 4096
SMALL_BYTES: Final = 32 * 1024
"""Up to here the allocator has the memory at hand, and a copy is faster than preparing or lending an array."""

_Kind: TypeAlias = tuple[np.dtype[Any], tuple[int, ...]]


def prepared_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Returns a new array whose pages are there: the kernel would give them one by one at the first write."""
    array = np.empty(shape, dtype)
    if array.nbytes > SMALL_BYTES:
        array.reshape(-1).view(np.uint8)[::_PAGE_BYTES] = 0
    return array


class SpareArrays:
    """Keeps replaced values for later ones of the same dtype and shape, within a limit. Thread-safe.

    A spare may still be lent; it is used again when it no longer is. Above the limit, the oldest kinds go first.

    Args:
        limit_bytes: The most that spares take together.
    """

    def __init__(self, limit_bytes: int):
        self._limit_bytes = limit_bytes
        # guards: all below; no other lock is taken under it
        self._lock = threading.Lock()
        self._spares: OrderedDict[_Kind, list[LendableArray]] = OrderedDict()
        self._used_bytes = 0

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    def take(self, spec: VariableSpec) -> Array:
        """Returns an array of a variable's dtype and shape for the caller to fill, its memory at hand.

        Raises:
            MemoryError: There is no spare, and no memory for a new one.
        """
        kind = (spec.dtype, spec.shape)
        with self._lock:
            for position, spare in enumerate(self._spares.get(kind, ())):
                if not spare.is_lent:
                    return self._remove(kind, position).array
        return prepared_array(spec.shape, spec.dtype)

    def keep(self, spare: LendableArray) -> None:
        """Keeps an array that only borrowers still use, if it fits the limit."""
        if spare.array.nbytes > self._limit_bytes:
            return
        kind = (spare.array.dtype, spare.array.shape)
        given_up = []  # freed after the lock is released, since that takes time
        with self._lock:
            self._spares.setdefault(kind, []).append(spare)
            self._spares.move_to_end(kind)
            self._used_bytes += spare.array.nbytes
            while self._used_bytes > self._limit_bytes:
                given_up.append(self._remove(next(iter(self._spares)), 0))

    def _remove(self, kind: _Kind, position: int) -> LendableArray:
        """With the lock held."""
        spares = self._spares[kind]
        spare = spares.pop(position)
        if not spares:
            del self._spares[kind]
        self._used_bytes -= spare.array.nbytes
        return spare
