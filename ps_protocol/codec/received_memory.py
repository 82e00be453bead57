"""Memory for the tensors of a reply for which the caller gives no arrays.

The C library does not keep freed memory of some hundred KiB for the next value. So the kernel would give new pages each
time, and clearing them takes longer than receiving the value. Here such values lie side by side in blocks. A block is
used again when nothing refers to the arrays in it.

A pull of 161 variables takes a third of the time (``python -m benchmarks.one_of_each received_memory``).
"""

from __future__ import annotations

import mmap
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from ps_protocol.codec.tensor_codec import TensorLayout, allocate
from ps_protocol.errors import ResourceExhaustedError
from ps_protocol.interrupts import raise_interrupt

BLOCK_BYTES: Final = 4 * 1024 * 1024
"""In pages of the usual size: the kernel takes longer to make room for large pages than they save."""

LEAST_BYTES: Final = 64 * 1024
MOST_BYTES: Final = BLOCK_BYTES // 2
KEPT_BLOCKS: Final = 64

_ALIGNMENT: Final = 64


class BlockPool:
    """Blocks of memory that are used again. Thread-safe.

    Args:
        kept_blocks: Most unused blocks that are kept.
    """

    def __init__(self, kept_blocks: int = KEPT_BLOCKS):
        # Without a lock, since a block may come back at any moment: appending and popping are atomic.
        self._free: deque[_End] = deque(maxlen=kept_blocks)

    @property
    def num_free(self) -> int:
        """Number of unused blocks."""
        return len(self._free)

    def allocate(self, layouts: Sequence[TensorLayout]) -> list[memoryview]:
        """Returns memory for tensors that come together, aligned for every dtype and of undefined content.

        A block is in use as long as any of the bytes in it is referred to.

        Raises:
            ResourceExhaustedError: There is not enough memory.
        """
        sizes = [layout.size_bytes for layout in layouts]
        if sum([size for size in sizes if LEAST_BYTES <= size <= MOST_BYTES]) < BLOCK_BYTES:
            return [allocate(layout)[1] for layout in layouts]
        found: list[memoryview] = []
        block, start = memoryview(b""), 0
        for layout, size in zip(layouts, sizes, strict=True):
            if not LEAST_BYTES <= size <= MOST_BYTES:
                found.append(allocate(layout)[1])
                continue
            if start + size > len(block):
                block, start = self._take(), 0
            found.append(block[start : start + size])
            start += -(-size // _ALIGNMENT) * _ALIGNMENT
        return found

    def _take(self) -> memoryview:
        try:
            block = self._free.pop().block
        except IndexError as error:
            raise_interrupt(error)
            block = _new_block()
        # All that is made of the bytes refers to this array, so the block is free when the array is gone. The block
        # itself is no array: else NumPy would refer to it instead.
        lent = _Lent(BLOCK_BYTES, np.uint8, block)
        lent.use = use = _Use()
        use.end = _End(use, self._free.append)
        use.end.block = block
        return lent.data


class _Use:
    """Lives as long as a block is in use, and with it the reference that brings the block back."""

    __slots__ = ("__weakref__", "end")
    end: _End


class _End(weakref.ref[_Use]):
    """Brings a block back. No line of Python runs then, since what a signal handler would raise in it were lost."""

    __slots__ = ("block",)
    block: mmap.mmap


class _Lent(np.ndarray[tuple[int], np.dtype[np.uint8]]):
    """The bytes of a block that is in use."""

    use: _Use


def _new_block() -> mmap.mmap:
    try:
        block = mmap.mmap(-1, BLOCK_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise ResourceExhaustedError(
            f"there is no memory for {BLOCK_BYTES} bytes of values; read fewer variables at a time, or into arrays of "
            f"your own",
            retryable=False,
        ) from error
    return block


blocks: Final = BlockPool()
"""The blocks of this process."""
