"""Rounds float32 to bfloat16 at random, up or down in proportion to how near they are: small steps add up on average.

The random numbers are addressed by key, step and element (a counter-based generator), so that a replayed step gives the
same bits. The generator is SplitMix64's finalizer over the element's number (Steele et al., "Fast splittable
pseudorandom number generators", 2014), its key made by BLAKE2b. The stream of initial values is not used here: Philox
in NumPy is sequential, and rows are far apart.
"""

from __future__ import annotations

import hashlib
from typing import Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ps_protocol.operations import Array
from ps_server.memory.spare_arrays import prepared_array

Words = npt.NDArray[np.uint64]

BFLOAT16: Final = np.dtype(ml_dtypes.bfloat16)
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)
_LOW, _HALF = np.uint32(0xFFFF), np.uint32(16)


class Rounding:
    """Rounds elements of one slot in one step.

    Args:
        key: Of the variable: 64 bits of seed or name.
        slot: The number of the slot.
        step: The count of the step.
    """

    def __init__(self, key: int, slot: int, step: int):
        words = b"".join(each.to_bytes(8, "little", signed=True) for each in (key, slot, step))
        digest = hashlib.blake2b(words, digest_size=8, person=b"shardscope/round").digest()
        self._key = np.uint64(int.from_bytes(digest, "little"))

    def round_into(self, own: Array, block: Array, room: RoundingRoom) -> None:
        """Stores ``block``, float32 ``[n]``, as bfloat16 in ``own``, ``[n]``; ``room`` has numbered its elements."""
        size = block.size
        self._mix(room.words[:size], room.shifted[:size])
        sums, rounded = room.sums[:size], room.rounded[:size]
        np.copyto(sums, room.words[:size], casting="unsafe")
        np.bitwise_and(sums, _LOW, out=sums)
        np.add(sums, block.view(np.uint32), out=sums)
        np.right_shift(sums, _HALF, out=sums)
        np.copyto(rounded, sums, casting="unsafe")
        finite = np.isfinite(block, out=room.finite[:size])
        if finite.all():
            np.copyto(own.view(np.uint16), rounded)
            return
        np.copyto(own, block, casting="unsafe")
        np.copyto(own.view(np.uint16), rounded, where=finite)

    def _mix(self, words: Words, shifted: Words) -> None:
        """Makes random words of the numbers of elements, 32 bits each."""
        np.multiply(words, _GOLDEN, out=words)
        np.add(words, self._key, out=words)
        for bits, factor in ((30, _FIRST), (27, _SECOND)):
            np.right_shift(words, np.uint64(bits), out=shifted)
            np.bitwise_xor(words, shifted, out=words)
            np.multiply(words, factor, out=words)
        np.right_shift(words, np.uint64(31), out=shifted)
        np.bitwise_xor(words, shifted, out=words)
        np.right_shift(words, np.uint64(32), out=words)


class RoundingRoom:
    """Memory to round a block. Belongs to one thread.

    Args:
        length: Elements of a block.

    Attributes:
        words: The numbers of the elements, and then random words.
    """

    def __init__(self, length: int):
        self.words: Final[Words] = prepared_array((length,), np.dtype(np.uint64))
        self.shifted: Final[Words] = prepared_array((length,), np.dtype(np.uint64))
        self.sums: Final = prepared_array((length,), np.dtype(np.uint32))
        self.rounded: Final = prepared_array((length,), np.dtype(np.uint16))
        self.finite: Final = prepared_array((length,), np.dtype(np.bool_))
        self._numbers: Final[Words] = np.arange(length, dtype=np.uint64)

    def number(self, begin: int, end: int) -> None:
        """Notes which elements are rounded next: those from ``begin`` to ``end``."""
        size = end - begin
        np.add(self._numbers[:size], np.uint64(begin), out=self.words[:size])

    def number_rows(self, rows: npt.NDArray[np.intp], width: int) -> None:
        """Notes which elements are rounded next: those of rows."""
        words = self.words[: rows.size * width].reshape(-1, width)
        np.copyto(words, rows[:, np.newaxis], casting="unsafe")
        np.multiply(words, np.uint64(width), out=words)
        np.add(words, self._numbers[:width], out=words)
