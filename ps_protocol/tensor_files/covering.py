"""Parts of a tensor, as boxes: which have elements of a block, and whether they have each element once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from ps_protocol.operations import Array

_MOST_CORNERS: Final = 2**24
"""Of all parts of a tensor: a million parts may be cut along four axes."""


def inside(
    starts: Sequence[int], shape: Sequence[int], part_starts: Array, part_shapes: Array
) -> tuple[Array, Array, Array]:
    """Returns which parts have elements of a block: their numbers, and where what they have begins and ends.

    Args:
        starts: Where the block begins in the tensor.
        shape: Of the block.
        part_starts: Where each part begins, int64 [parts, dimensions].
        part_shapes: Of the parts, int64 [parts, dimensions].
    """
    begin, size = np.array(starts, np.int64), np.array(shape, np.int64)
    low = np.maximum(part_starts, begin)
    high = np.minimum(part_starts + part_shapes, begin + size)
    numbers = np.flatnonzero(np.all(low < high, axis=1))
    return numbers, low[numbers], high[numbers]


def cover_once(shape: Sequence[int], starts: Sequence[Sequence[int]], shapes: Sequence[Sequence[int]]) -> bool:
    """Whether parts have each element of a tensor exactly once.

    Args:
        shape: Of the tensor.
        starts: Where each part begins.
        shapes: Of the parts, each inside the tensor.
    """
    if sum([math.prod(each) for each in shapes]) != math.prod(shape):
        return False
    filled = [number for number, each in enumerate(shapes) if math.prod(each)]
    if len(filled) < 2 or not shape:
        return len(filled) < 2
    low = np.array([starts[number] for number in filled], np.int64)
    high = low + np.array([shapes[number] for number in filled], np.int64)
    whole = np.array(shape, np.int64)
    cut = np.flatnonzero(np.any(high - low != whole, axis=0))
    if not len(cut) or len(filled) << len(cut) > _MOST_CORNERS:
        return False
    # Counted with the sign of how many of its coordinates are ends, corners of boxes that make up a box are its own.
    corners: list[Array] = []
    signs: list[Array] = []
    for ends in itertools.product((False, True), repeat=len(cut)):
        corners += [np.where(ends, high[:, cut], low[:, cut]), np.where(ends, whole[cut], 0)[None]]
        sign = -1 if sum(ends) % 2 else 1
        signs += [np.full(len(filled), sign), np.array([-sign])]
    _, places = np.unique(np.concatenate(corners), axis=0, return_inverse=True)
    return not np.bincount(places.reshape(-1), np.concatenate(signs)).any()
