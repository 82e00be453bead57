"""Parts of a tensor: what they cover, and the keys under which their values stand.

A key is TensorFlow's ordered code of a name and a slice (``saved_tensor_slice_util.cc`` and ``ordered_code.cc`` there):
keys in the order of their bytes are in the order of names, then of places.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ps_protocol.errors import InvalidValueError
from ps_protocol.operations import Array
from ps_protocol.tensorflow_files import checkpoint_pb2

FIRST_OF_SLICE_KEYS: Final = b"\0"
"""With what all keys of slices begin; names of tensors do not."""

_ALL: Final = -1
"""The length that stands in a key for all of a dimension."""

_MARKS: Final = re.compile(b"[\x00\xff]")
"""Bytes of a name that stand for something else in a key, unless the other of the two follows."""

_MOST_CORNERS: Final = 2**24
"""Of all parts of a tensor: a million parts may be cut along four axes."""


@dataclass(frozen=True, slots=True)
class TensorSlice:
    """A part of a tensor: of each dimension a range.

    Attributes:
        starts: Of each dimension, the first index.
        lengths: Of each dimension, how many; None for all, as files say it.
    """

    starts: tuple[int, ...]
    lengths: tuple[int | None, ...]

    @staticmethod
    def of(message: checkpoint_pb2.TensorSlice) -> TensorSlice:
        """Returns what a message means."""
        extents = message.extent
        return TensorSlice(
            tuple(each.start if each.HasField("length") else 0 for each in extents),
            tuple(each.length if each.HasField("length") else None for each in extents),
        )

    @staticmethod
    def part(shape: Sequence[int], starts: Sequence[int], lengths: Sequence[int]) -> TensorSlice:
        """Returns a part of a tensor, with the length of each range, as TensorFlow's partitioned variables say it.

        Raises:
            InvalidValueError: It is not inside the tensor.
        """
        found = TensorSlice(tuple([int(start) for start in starts]), tuple([int(length) for length in lengths]))
        if len(lengths) != len(starts) or found.shape_in(shape) is None:
            what = f"a part of shape {list(lengths)} at {list(starts)}"
            raise InvalidValueError(f"{what} is not in a tensor of shape {list(shape)}")
        return found

    def message(self) -> checkpoint_pb2.TensorSlice:
        """Returns what stands in a file for it."""
        extents = [
            checkpoint_pb2.TensorSlice.Extent()
            if length is None
            else checkpoint_pb2.TensorSlice.Extent(start=start, length=length)
            for start, length in zip(self.starts, self.lengths, strict=True)
        ]
        return checkpoint_pb2.TensorSlice(extent=extents)

    def shape_in(self, shape: Sequence[int]) -> tuple[int, ...] | None:
        """Returns the part's shape in a tensor of a shape; None if it is not inside."""
        if len(shape) != len(self.starts):
            return None
        found = []
        for size, start, length in zip(shape, self.starts, self.lengths, strict=True):
            count = size - start if length is None else length
            if start < 0 or count < 0 or start + count > size:
                return None
            found.append(count)
        return tuple(found)

    def key(self, name: bytes) -> bytes:
        """Returns the key of this part of the tensor of a name."""
        numbers = [
            _signed(number)
            for start, length in zip(self.starts, self.lengths, strict=True)
            for number in (start, _ALL if length is None else length)
        ]
        text = _MARKS.sub(lambda mark: mark[0] + bytes([0xFF - mark[0][0]]), name)
        return b"".join([_unsigned(0), text, b"\0\1", _unsigned(len(self.starts)), *numbers])


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


def _unsigned(number: int) -> bytes:
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return bytes([len(data)]) + data


def _signed(number: int) -> bytes:
    """The length in bytes is as many bits in front, set if the number is not negative, else cleared."""
    size_bytes = (~number if number < 0 else number).bit_length() // 7 + 1
    bits = 8 * size_bytes
    marks = ((1 << size_bytes) - 1) << (bits - size_bytes)
    return ((number & ((1 << bits) - 1)) ^ marks).to_bytes(size_bytes, "big")
