"""Where tensors lie in memory that a client and a ps share: regions of segments, how they are written, what is checked.

A segment is a piece of memory that the ps made for one client and that both have mapped (``segment_mapping``). The
client decides what lies where. A message whose tensors travel in shared memory says it in a list of regions instead
of their bytes; ``docs/socket-protocol.md`` has the form. What the ps receives from another process is checked here
before any byte is touched: a region must be aligned and lie inside its segment.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ps_protocol.errors import InvalidArgumentError

ALIGNMENT: Final = 64
"""Tensors begin at multiples of this many bytes: a cache line."""

ELEMENT_ALIGNMENT: Final = 16
"""Bytes that the offset of every region must be a multiple of: what the widest element needs."""

INLINE_LIMIT_BYTES: Final = 64 * 1024
"""A message whose tensors have fewer bytes carries them itself: placing and finding them would take longer."""

MIN_SEGMENT_BYTES: Final = 64 * 1024**2
"""A client asks for segments of at least this size, so that it has few of them."""

MAX_SEGMENTS: Final = 64
"""Most segments that one client may have at a ps at the same time."""

_REGION: Final = struct.Struct("<QQQ")

REGION_BYTES: Final = _REGION.size
"""Size of a region as it travels."""


@dataclass(frozen=True, slots=True)
class Region:
    """Bytes of a segment.

    Attributes:
        segment: Number of the segment, from 1; 0 in ``NOWHERE``, which stands for no room.
        offset: Of the first byte in the segment.
        size_bytes: How many.
    """

    segment: int
    offset: int
    size_bytes: int

    @property
    def end(self) -> int:
        """Offset behind the last byte."""
        return self.offset + self.size_bytes


NOWHERE: Final = Region(0, 0, 0)


def aligned(size_bytes: int) -> int:
    """The next multiple of ``ALIGNMENT``."""
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT


def packed_offsets(sizes_bytes: Iterable[int]) -> tuple[list[int], int]:
    """Lays tensors one behind the other, each aligned; returns their offsets and the bytes of all together."""
    offsets, end = [], 0
    for size_bytes in sizes_bytes:
        offsets.append(end)
        end += aligned(size_bytes)
    return offsets, end


def packed_bytes(total_bytes: int, num_tensors: int) -> int:
    """Most bytes that tensors of ``total_bytes`` together take when they are laid as ``packed_offsets`` does."""
    return aligned(total_bytes) + ALIGNMENT * num_tensors


def check_region(region: Region, segment_bytes: int) -> None:
    """Checks a region that another process has named.

    Raises:
        InvalidArgumentError: It is not aligned, or not inside a segment of that size.
    """
    if region.offset % ELEMENT_ALIGNMENT:
        raise InvalidArgumentError(
            f"a tensor lies at offset {region.offset} of segment {region.segment}, which is no multiple of "
            f"{ELEMENT_ALIGNMENT}"
        )
    if region.end > segment_bytes:  # Python's integers do not overflow
        raise InvalidArgumentError(
            f"a tensor lies at [{region.offset}, {region.end}) of segment {region.segment}, which has {segment_bytes} "
            f"bytes"
        )


def encode_regions(regions: Sequence[Region]) -> bytes:
    """Returns regions as they travel: three little-endian 64-bit numbers each."""
    return b"".join([_REGION.pack(region.segment, region.offset, region.size_bytes) for region in regions])


def decode_regions(data: bytes | memoryview) -> list[Region]:
    """Returns the regions that were encoded so; none of them is checked yet.

    Raises:
        InvalidArgumentError: The size is no multiple of a region's.
    """
    if len(data) % _REGION.size:
        raise InvalidArgumentError(
            f"a list of regions has {len(data)} bytes, which is no multiple of {_REGION.size}, the size of one"
        )
    return [Region(*fields) for fields in _REGION.iter_unpack(data)]
