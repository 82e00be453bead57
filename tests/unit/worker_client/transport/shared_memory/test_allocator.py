from __future__ import annotations

import pytest

from ps_protocol.memory.regions import ALIGNMENT, Region
from worker_client.transport.shared_memory.allocator import SegmentAllocator


@pytest.fixture
def allocator() -> SegmentAllocator:
    """One segment with room for ten lines."""
    allocator = SegmentAllocator()
    allocator.add_segment(7, 10 * ALIGNMENT + 3)
    return allocator


def _taken(allocator: SegmentAllocator, size_bytes: int) -> Region:
    region = allocator.allocate(size_bytes)
    assert region is not None
    return region


def test_regions_are_aligned_and_of_the_size_asked_for(allocator: SegmentAllocator) -> None:
    assert _taken(allocator, 1) == Region(7, 0, 1)
    assert _taken(allocator, ALIGNMENT + 1) == Region(7, ALIGNMENT, ALIGNMENT + 1)
    assert _taken(allocator, 0) == Region(7, 3 * ALIGNMENT, 0)
    assert _taken(allocator, 6 * ALIGNMENT) == Region(7, 4 * ALIGNMENT, 6 * ALIGNMENT)
    assert allocator.allocate(1) is None
    assert allocator.taken_bytes == 10 * ALIGNMENT


def test_what_comes_back_is_handed_out_again(allocator: SegmentAllocator) -> None:
    region = _taken(allocator, 5 * ALIGNMENT)
    allocator.free(region)
    assert _taken(allocator, 5 * ALIGNMENT) == region


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1)])
def test_neighbouring_holes_are_joined(allocator: SegmentAllocator, order: tuple[int, ...]) -> None:
    regions = [_taken(allocator, 3 * ALIGNMENT) for _ in range(3)]
    for index in order:
        allocator.free(regions[index])
    assert allocator.idle_segments() == [7]
    assert _taken(allocator, 10 * ALIGNMENT).offset == 0


def test_the_smallest_hole_that_fits_is_taken(allocator: SegmentAllocator) -> None:
    large, _, small, _ = [_taken(allocator, lines * ALIGNMENT) for lines in (4, 1, 2, 3)]
    allocator.free(large)
    allocator.free(small)
    assert _taken(allocator, 2 * ALIGNMENT) == small
    assert _taken(allocator, 3 * ALIGNMENT).offset == large.offset


def test_another_segment_is_used_when_one_has_no_room(allocator: SegmentAllocator) -> None:
    _taken(allocator, 8 * ALIGNMENT)
    allocator.add_segment(9, 4 * ALIGNMENT)
    assert _taken(allocator, 3 * ALIGNMENT).segment == 9
    assert _taken(allocator, 2 * ALIGNMENT).segment == 7
    assert allocator.num_segments == 2


def test_only_idle_segments_can_be_given_up(allocator: SegmentAllocator) -> None:
    region = _taken(allocator, 1)
    assert allocator.idle_segments() == []
    with pytest.raises(ValueError, match="in use"):
        allocator.remove_segment(7)
    allocator.free(region)
    allocator.remove_segment(7)
    assert allocator.num_segments == 0
    assert allocator.allocate(1) is None


def test_misuse_is_found(allocator: SegmentAllocator) -> None:
    region = _taken(allocator, 1)
    allocator.free(region)
    with pytest.raises(ValueError, match="is not out"):
        allocator.free(region)
    with pytest.raises(ValueError, match="known already"):
        allocator.add_segment(7, 64)
