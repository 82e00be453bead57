from __future__ import annotations

import gc
import mmap
import os
import weakref
from collections.abc import Iterator

import pytest

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.memory.regions import Region
from ps_protocol.memory.segment_mapping import IS_SUPPORTED, MappedSegment

pytestmark = pytest.mark.skipif(not IS_SUPPORTED, reason="this system has no memfds")

SIZE_BYTES = 4 * mmap.PAGESIZE


@pytest.fixture
def descriptor() -> Iterator[int]:
    number = os.memfd_create("test")
    os.truncate(number, SIZE_BYTES)
    yield number
    os.close(number)


def test_two_mappings_share_their_bytes(descriptor: int) -> None:
    here, there = MappedSegment(1, descriptor, SIZE_BYTES), MappedSegment(1, descriptor, SIZE_BYTES)
    here.prefault()
    here.bytes_of(Region(1, 64, 5))[:] = b"hello"
    assert bytes(there.bytes_of(Region(1, 64, 5))) == b"hello"
    assert here.address != there.address


def test_a_region_elsewhere_is_refused(descriptor: int) -> None:
    segment = MappedSegment(1, descriptor, SIZE_BYTES)
    for region in (Region(2, 0, 8), Region(1, 0, SIZE_BYTES + 1), Region(1, SIZE_BYTES, 1), Region(1, 3, 8)):
        with pytest.raises(InvalidArgumentError):
            segment.bytes_of(region)


def test_bytes_keep_the_memory_mapped(descriptor: int) -> None:
    segment = MappedSegment(1, descriptor, SIZE_BYTES)
    unmapped = weakref.ref(segment.mapping)
    data = segment.bytes_of(Region(1, 0, 4))
    del segment
    gc.collect()
    assert unmapped() is not None
    data[:] = b"left"
    del data
    gc.collect()
    assert unmapped() is None
