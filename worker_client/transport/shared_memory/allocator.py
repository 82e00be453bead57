"""Divides segments of shared memory into regions. Pure bookkeeping: it never touches the memory."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

from ps_protocol.memory.regions import ALIGNMENT, Region, aligned


@dataclass(slots=True)
class _Segment:
    """Holes are sorted by offset, aligned, not empty, and never touch each other."""

    size_bytes: int
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)


class SegmentAllocator:
    """Hands out regions of segments: the smallest hole that fits, with neighbouring holes joined. Not thread-safe."""

    def __init__(self) -> None:
        self._segments: dict[int, _Segment] = {}
        self._taken: dict[tuple[int, int], int] = {}

    @property
    def num_segments(self) -> int:
        return len(self._segments)

    @property
    def taken_bytes(self) -> int:
        """Bytes of the regions that are out, each rounded up to ``ALIGNMENT``."""
        return sum(self._taken.values())

    def add_segment(self, number: int, size_bytes: int) -> None:
        """Takes a segment in, all of it free.

        Raises:
            ValueError: There is one of this number.
        """
        if number in self._segments:
            raise ValueError(f"segment {number} is known already")
        usable_bytes = size_bytes // ALIGNMENT * ALIGNMENT
        self._segments[number] = _Segment(usable_bytes, [0], [usable_bytes])

    def remove_segment(self, number: int) -> None:
        """Gives a segment up.

        Raises:
            ValueError: Regions of it are out.
        """
        if not self._is_idle(self._segments[number]):
            raise ValueError(f"segment {number} is in use")
        del self._segments[number]

    def idle_segments(self) -> list[int]:
        """Segments of which no region is out."""
        return [number for number, segment in self._segments.items() if self._is_idle(segment)]

    def allocate(self, size_bytes: int) -> Region | None:
        """Takes a region, at a multiple of ``ALIGNMENT``; None if no hole is large enough.

        Of holes of the same size the first one is taken, so that memory used a moment ago is used again.
        """
        needed_bytes = max(ALIGNMENT, aligned(size_bytes))
        best: tuple[int, int, int] | None = None  # size of the hole, number of the segment, index of the hole
        for number, segment in self._segments.items():
            for index, hole_bytes in enumerate(segment.sizes):
                if hole_bytes >= needed_bytes and (best is None or hole_bytes < best[0]):
                    best = hole_bytes, number, index
        if best is None:
            return None
        hole_bytes, number, index = best
        segment = self._segments[number]
        offset = segment.offsets[index]
        if hole_bytes == needed_bytes:
            del segment.offsets[index], segment.sizes[index]
        else:
            segment.offsets[index] += needed_bytes
            segment.sizes[index] -= needed_bytes
        self._taken[number, offset] = needed_bytes
        return Region(number, offset, size_bytes)

    def free(self, region: Region) -> None:
        """Gives a region back.

        Raises:
            ValueError: It is not out.
        """
        size_bytes = self._taken.pop((region.segment, region.offset), None)
        if size_bytes is None:
            raise ValueError(f"{region} is not out")
        segment = self._segments[region.segment]
        offsets, sizes, offset = segment.offsets, segment.sizes, region.offset
        index = bisect.bisect(offsets, offset)
        if index < len(offsets) and offset + size_bytes == offsets[index]:
            size_bytes += sizes[index]
            del offsets[index], sizes[index]
        if index and offsets[index - 1] + sizes[index - 1] == offset:
            sizes[index - 1] += size_bytes
        else:
            offsets.insert(index, offset)
            sizes.insert(index, size_bytes)

    @staticmethod
    def _is_idle(segment: _Segment) -> bool:
        return segment.sizes == [segment.size_bytes]
