"""Parts of a tensor: what they cover, and the keys under which their values stand.

A key is TensorFlow's ordered code of a name and a slice (``saved_tensor_slice_util.cc`` and ``ordered_code.cc`` there):
keys in the order of their bytes are in the order of names, then of places.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ps_protocol.errors import InvalidValueError
from ps_protocol.tensorflow_files import checkpoint_pb2

FIRST_OF_SLICE_KEYS: Final = b"\0"
"""With what all keys of slices begin; names of tensors do not."""

_ALL: Final = -1
"""The length that stands in a key for all of a dimension."""

_MARKS: Final = re.compile(b"[\x00\xff]")
"""Bytes of a name that stand for something else in a key, unless the other of the two follows."""


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


def _unsigned(number: int) -> bytes:
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return bytes([len(data)]) + data


def _signed(number: int) -> bytes:
    """The length in bytes is as many bits in front, set if the number is not negative, else cleared."""
    size_bytes = (~number if number < 0 else number).bit_length() // 7 + 1
    bits = 8 * size_bytes
    marks = ((1 << size_bytes) - 1) << (bits - size_bytes)
    return ((number & ((1 << bits) - 1)) ^ marks).to_bytes(size_bytes, "big")
