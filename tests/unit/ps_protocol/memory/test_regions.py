from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.memory.regions import (
    ALIGNMENT,
    ELEMENT_ALIGNMENT,
    REGION_BYTES,
    Region,
    check_region,
    decode_regions,
    encode_regions,
    packed_bytes,
    packed_offsets,
)

NUMBERS = st.integers(0, 2**64 - 1)


@given(st.lists(st.builds(Region, NUMBERS, NUMBERS, NUMBERS), max_size=20))
def test_regions_survive_the_way(regions: list[Region]) -> None:
    data = encode_regions(regions)
    assert len(data) == REGION_BYTES * len(regions)
    assert decode_regions(data) == regions
    assert decode_regions(memoryview(data)) == regions


def test_half_a_region_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="25 bytes"):
        decode_regions(bytes(REGION_BYTES + 1))


@pytest.mark.parametrize(
    "region",
    [
        Region(1, 0, 1025),
        Region(1, 1024, 1),
        Region(1, 1024 - ELEMENT_ALIGNMENT, ELEMENT_ALIGNMENT + 1),
        Region(1, 2**64 - ELEMENT_ALIGNMENT, 2 * ELEMENT_ALIGNMENT),
        Region(1, 0, 2**64 - 1),
        Region(1, 1, 8),
        Region(1, ELEMENT_ALIGNMENT // 2, 8),
    ],
)
def test_a_region_outside_or_unaligned_is_refused(region: Region) -> None:
    with pytest.raises(InvalidArgumentError):
        check_region(region, 1024)


@given(st.integers(0, 2**64 - 1) | st.integers(0, 5000), NUMBERS | st.integers(0, 5000), st.integers(0, 5000))
def test_a_region_that_is_accepted_is_inside(offset: int, size_bytes: int, segment_bytes: int) -> None:
    is_inside = offset % ELEMENT_ALIGNMENT == 0 and offset + size_bytes <= segment_bytes
    try:
        check_region(Region(1, offset, size_bytes), segment_bytes)
    except InvalidArgumentError:
        assert not is_inside
    else:
        assert is_inside
        assert len(bytes(segment_bytes)[offset : offset + size_bytes]) == size_bytes


@pytest.mark.parametrize("region", [Region(1, 0, 1024), Region(1, 1024, 0), Region(1, ELEMENT_ALIGNMENT, 1)])
def test_a_region_inside_is_accepted(region: Region) -> None:
    check_region(region, 1024)


@given(st.lists(st.integers(0, 10_000), max_size=50))
def test_packed_tensors_are_aligned_apart_and_fit_the_room(sizes_bytes: list[int]) -> None:
    offsets, end = packed_offsets(sizes_bytes)
    position = 0
    for offset, size_bytes in zip(offsets, sizes_bytes, strict=True):
        assert offset % ALIGNMENT == 0
        assert offset >= position
        position = offset + size_bytes
    assert position <= end <= packed_bytes(sum(sizes_bytes), len(sizes_bytes))
