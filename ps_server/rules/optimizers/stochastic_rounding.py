"""Rounds float32 to bfloat16 at random, up or down in proportion to how near they are: small steps add up on average.

The random numbers are addressed by key, step and element (a counter-based generator), so that a replayed step gives the
same bits. The generator is SplitMix64's finalizer over the element's number (Steele et al., "Fast splittable
pseudorandom number generators", 2014), its key made by BLAKE2b. The stream of initial values is not used here: Philox
in NumPy is sequential, and rows are far apart.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ps_protocol.operations import Array

BFLOAT16: Final = np.dtype(ml_dtypes.bfloat16)
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)


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

    def round_into(self, own: Array, block: Array, elements: npt.NDArray[Any]) -> None:
        """Stores ``block``, float32 ``[n]``, as bfloat16 in ``own``, ``[n]``; ``elements`` are their numbers."""
        bits = block.view(np.uint32)
        noise = self._words(elements) & np.uint32(0xFFFF)
        rounded = ((bits + noise) >> np.uint32(16)).astype(np.uint16)
        finite = np.isfinite(block)
        if finite.all():
            own.view(np.uint16)[...] = rounded
            return
        own[...] = block
        np.copyto(own.view(np.uint16), rounded, where=finite)

    def _words(self, elements: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
        words = elements.astype(np.uint64)
        words *= _GOLDEN
        words += self._key
        words ^= words >> np.uint64(30)
        words *= _FIRST
        words ^= words >> np.uint64(27)
        words *= _SECOND
        words ^= words >> np.uint64(31)
        return (words >> np.uint64(32)).astype(np.uint32)
