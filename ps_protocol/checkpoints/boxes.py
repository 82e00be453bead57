"""Moves values between boxes: what was saved as some parts of a whole is read as others, byte ranges only.

A value lies in its whole as a box: its first index along each dimension, and its shape. Where two boxes overlap, the
elements are read from the file of the one into the array of the other. Nothing else is read but the rest of the blocks
under one checksum, and no more than ``_SLAB_BYTES`` are in memory beside the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np

from ps_protocol.checkpoints.manifest import BLOCK_BYTES, SavedVariable
from ps_protocol.checkpoints.store import RangeReader, damaged
from ps_protocol.codec.tensor_codec import bytes_of
from ps_protocol.operations import Array, VariableSpec

_SLAB_BYTES: Final = 8 * 1024**2

ReadInto: TypeAlias = Callable[[memoryview, int], None]
"""Fills memory with the bytes of a value, from a place in it on."""


def box_of(spec: VariableSpec) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where a variable lies in its whole: its first index along each dimension, and its shape."""
    return (0,) * len(spec.shape) if spec.slice is None else spec.slice.offset, spec.shape


def overlap(one: VariableSpec, other: VariableSpec) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The box that two parts of one whole have in common; None if they have none."""
    (first, shape), (other_first, other_shape) = box_of(one), box_of(other)
    start = tuple([max(pair) for pair in zip(first, other_first, strict=True)])
    lengths = tuple(
        [min(a + m, b + n) - s for a, m, b, n, s in zip(first, shape, other_first, other_shape, start, strict=True)]
    )
    return None if [each for each in lengths if each <= 0] else (start, lengths)


class CheckedValue:
    """Reads a saved value, and checks each block that it reads. One thread.

    Args:
        reader: Of the part that has it.
        saved: The value.
        where: Names the file, for errors.
    """

    def __init__(self, reader: RangeReader, saved: SavedVariable, where: str):
        self._reader = reader
        self._saved = saved
        self._where = where
        self._block = -1
        self._content = b""

    def read_into(self, target: memoryview, start: int) -> None:
        """Fills ``target`` with the bytes from ``start`` on.

        Raises:
            FailedPreconditionError: They are not what was written.
            OSError: They cannot be read.
        """
        size_bytes, done = self._saved.spec.size_bytes, 0
        while done < len(target):
            block, skipped = divmod(start + done, BLOCK_BYTES)
            length = min(BLOCK_BYTES, size_bytes - block * BLOCK_BYTES)
            count = min(length - skipped, len(target) - done)
            if count == length:
                self._read(block, target[done : done + length])
            else:
                target[done : done + count] = self._cached(block, length)[skipped : skipped + count]
            done += count

    def _cached(self, block: int, length: int) -> memoryview:
        if block != self._block:
            content = bytearray(length)
            self._read(block, memoryview(content))
            self._block, self._content = block, bytes(content)
        return memoryview(self._content)

    def _read(self, block: int, target: memoryview) -> None:
        saved = self._saved
        try:
            crc = self._reader.read_into(target, saved.offset + block * BLOCK_BYTES)
        except EOFError as error:
            raise damaged(self._where, f"variable {saved.spec.name} is cut off: {error}") from error
        if crc != saved.checksums[block]:
            first = saved.offset + block * BLOCK_BYTES
            raise damaged(
                self._where,
                f"variable {saved.spec}: the checksum of the bytes {first} to {first + len(target)} does not fit",
            )


def fill(target: Array, spec: VariableSpec, saved: VariableSpec, read_into: ReadInto) -> None:
    """Fills what a saved part has of a target.

    Args:
        target: In C order.
        spec: Says where the target lies in the whole.
        saved: Says where the saved part does.
        read_into: Reads the saved value.
    """
    common = overlap(spec, saved)
    if common is None:
        return
    start, lengths = common
    in_target = tuple([slice(s - o, s - o + n) for s, n, o in zip(start, lengths, box_of(spec)[0], strict=True)])
    in_saved = tuple([s - o for s, o in zip(start, box_of(saved)[0], strict=True)])
    if not lengths:
        read_into(bytes_of(target), 0)
        return
    _copy(target[in_target], saved.shape, in_saved, read_into, 0)


def _copy(target: Array, shape: tuple[int, ...], start: tuple[int, ...], read_into: ReadInto, base: int) -> None:
    """Reads ``target.shape`` elements that begin at ``start`` of an array of ``shape`` that begins at byte ``base``."""
    row_bytes = math.prod(shape[1:]) * target.dtype.itemsize
    first = base + start[0] * row_bytes
    if target.shape[1:] == shape[1:] and target.flags.c_contiguous:
        read_into(bytes_of(target), first)
        return
    if row_bytes > _SLAB_BYTES and len(shape) > 1:
        for row in range(target.shape[0]):
            _copy(target[row], shape[1:], start[1:], read_into, first + row * row_bytes)
        return
    rows = max(1, _SLAB_BYTES // row_bytes)
    wanted = tuple([slice(s, s + n) for s, n in zip(start[1:], target.shape[1:], strict=True)])
    for row in range(0, target.shape[0], rows):
        slab = np.empty((min(rows, target.shape[0] - row), *shape[1:]), target.dtype)
        read_into(bytes_of(slab), first + row * row_bytes)
        target[row : row + len(slab)] = slab[(slice(None), *wanted)]
