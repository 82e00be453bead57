"""Memory for the tensors of a reply for which the caller gives no arrays.

The C library does not keep freed memory of some hundred KiB for the next value. So the kernel would give new pages each
time, and clearing them takes longer than receiving the value. Here such values lie side by side in blocks. A block is
used again when nothing refers to the arrays in it.

A pull of 161 variables takes a third of the time (``python -m benchmarks.one_of_each received_memory``).
"""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Sequence
from typing import Final

import numpy as np

from ps_protocol.codec.tensor_codec import TensorLayout, allocate
from ps_protocol.errors import ResourceExhaustedError

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
        self._kept_blocks = kept_blocks
        # Without a lock, since a block may come back at any moment: appending and popping are atomic.
        self._free: list[mmap.mmap] = []

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
            block = self._free.pop()
        except IndexError:
            block = _new_block()
        # All that is made of the bytes refers to this array, so the block is free when the array is gone. The block
        # itself is no array: else NumPy would refer to it instead.
        view = np.frombuffer(block, np.uint8)
        weakref.finalize(view, self._give_back, block).atexit = False
        return view.data

    def _give_back(self, block: mmap.mmap) -> None:
        if len(self._free) < self._kept_blocks:
            self._free.append(block)


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
