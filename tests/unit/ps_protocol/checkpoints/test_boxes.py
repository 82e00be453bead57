"""Any part of a whole is read from any other parts of it, and each byte that is read is checked."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps_protocol.checkpoints import boxes
from ps_protocol.checkpoints.boxes import CheckedValue, fill
from ps_protocol.checkpoints.manifest import BLOCK_BYTES, SavedVariable
from ps_protocol.errors import FailedPreconditionError
from ps_protocol.operations import PartitionSlice, VariableSpec

INT16 = np.dtype(np.int16)


class MemoryReader:
    """A file in memory."""

    def __init__(self, content: bytes):
        self.content = content
        self.num_read = 0

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def read_into(self, target: memoryview, offset: int) -> int:
        if offset + len(target) > len(self.content):
            raise EOFError(f"the file ends at byte {len(self.content)}")
        target[:] = self.content[offset : offset + len(target)]
        self.num_read += len(target)
        return zlib.crc32(target)

    def close(self) -> None:
        """Nothing is open."""


def part(shape: tuple[int, ...], first: tuple[int, ...], whole: tuple[int, ...]) -> VariableSpec:
    return VariableSpec("w/part", INT16, shape, PartitionSlice("w", whole, first))


def saved_value(spec: VariableSpec, content: bytes, offset: int, block_bytes: int) -> SavedVariable:
    checksums = [zlib.crc32(content[start : start + block_bytes]) for start in range(0, len(content), block_bytes)]
    return SavedVariable(spec, 1, True, offset, tuple(checksums))


@st.composite
def _wholes(draw: st.DrawFn) -> tuple[tuple[int, ...], list[list[int]], tuple[int, ...], tuple[int, ...]]:
    whole = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    cuts = [[0, *sorted(draw(st.sets(st.integers(1, size), max_size=2)) - {size}), size] for size in whole]
    first = tuple([draw(st.integers(0, size - 1)) for size in whole])
    shape = tuple([draw(st.integers(1, size - start)) for size, start in zip(whole, first, strict=True)])
    return whole, cuts, first, shape


@given(_wholes(), st.integers(2, 40), st.sampled_from([2, 6, 30, 8 * 1024**2]))
def test_any_box_is_read_from_any_partition(
    drawn: tuple[tuple[int, ...], list[list[int]], tuple[int, ...], tuple[int, ...]], block_bytes: int, slab_bytes: int
) -> None:
    whole, cuts, first, shape = drawn
    value = np.arange(np.prod(whole), dtype=INT16).reshape(whole)
    target, wanted = part(shape, first, whole), tuple([slice(s, s + n) for s, n in zip(first, shape, strict=True)])
    found = np.full(shape, -1, INT16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes, "BLOCK_BYTES", block_bytes)
        patch.setattr(boxes, "_SLAB_BYTES", slab_bytes)
        for index in np.ndindex(*[len(each) - 1 for each in cuts]):
            begin = tuple([cut[at] for cut, at in zip(cuts, index, strict=True)])
            end = tuple([cut[at + 1] for cut, at in zip(cuts, index, strict=True)])
            box = tuple([slice(a, b) for a, b in zip(begin, end, strict=True)])
            spec = part(value[box].shape, begin, whole)
            content = value[box].tobytes()
            saved = saved_value(spec, content, 7, block_bytes)
            checked = CheckedValue(MemoryReader(b"before!" + content), saved, "the file")
            fill(found, target, spec, checked.read_into)
    np.testing.assert_array_equal(found, value[wanted])


def test_no_more_than_the_blocks_of_some_rows_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes, "BLOCK_BYTES", 64)
    value = np.arange(1000, dtype=INT16).reshape(100, 10)
    whole = VariableSpec("w", INT16, value.shape)
    reader = MemoryReader(value.tobytes())
    saved = saved_value(whole, value.tobytes(), 0, 64)
    found = np.empty((5, 10), INT16)
    fill(found, part((5, 10), (50, 0), value.shape), whole, CheckedValue(reader, saved, "f").read_into)
    np.testing.assert_array_equal(found, value[50:55])
    assert reader.num_read <= 100 + 2 * 64


@pytest.mark.parametrize("flipped", [0, 63, 64, 199])
def test_a_flipped_bit_is_found_where_it_is(monkeypatch: pytest.MonkeyPatch, flipped: int) -> None:
    monkeypatch.setattr(boxes, "BLOCK_BYTES", 64)
    value = np.arange(100, dtype=INT16)
    spec = VariableSpec("w", INT16, value.shape)
    content = bytearray(value.tobytes())
    saved = saved_value(spec, bytes(content), 0, 64)
    content[flipped] ^= 4
    checked = CheckedValue(MemoryReader(bytes(content)), saved, "the/file")
    block = flipped // 64 * 64
    with pytest.raises(
        FailedPreconditionError, match=f"the/file .*variable w .*bytes {block} to {min(block + 64, 200)} "
    ):
        fill(np.empty(100, INT16), spec, spec, checked.read_into)


def test_a_value_that_is_cut_off() -> None:
    value = np.arange(100, dtype=INT16)
    spec = VariableSpec("w", INT16, value.shape)
    saved = saved_value(spec, value.tobytes(), 0, BLOCK_BYTES)
    checked = CheckedValue(MemoryReader(value.tobytes()[:-1]), saved, "the/file")
    with pytest.raises(FailedPreconditionError, match=r"the/file .*variable w is cut off: the file ends at byte 199"):
        fill(np.empty(100, INT16), spec, spec, checked.read_into)
