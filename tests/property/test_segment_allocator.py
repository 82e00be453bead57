"""The allocator against a map of single bytes: regions never overlap, and no hole is ever lost."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from ps_protocol.memory.regions import ALIGNMENT, Region, aligned
from worker_client.transport.shared_memory.allocator import SegmentAllocator

SEGMENT_LINES = 12
MAX_SEGMENTS = 3


class AllocatorMachine(RuleBasedStateMachine):
    """Takes and gives back at random; the model marks each line of each segment as taken or free."""

    regions: Bundle[Region] = Bundle("regions")

    def __init__(self) -> None:
        super().__init__()
        self.allocator = SegmentAllocator()
        self.lines: dict[int, list[bool]] = {}
        self.next_number = 1

    @rule(lines=st.integers(1, SEGMENT_LINES), odd_bytes=st.integers(0, ALIGNMENT - 1))
    def add_segment(self, lines: int, odd_bytes: int) -> None:
        if len(self.lines) < MAX_SEGMENTS:
            self.allocator.add_segment(self.next_number, lines * ALIGNMENT + odd_bytes)
            self.lines[self.next_number] = [False] * lines
            self.next_number += 1

    @rule(target=regions, size_bytes=st.integers(0, SEGMENT_LINES * ALIGNMENT))
    def allocate(self, size_bytes: int) -> Region:
        lines = max(1, aligned(size_bytes) // ALIGNMENT)
        region = self.allocator.allocate(size_bytes)
        if region is None:
            assert self.longest_hole() < lines
            return Region(0, 0, 0)
        assert region.size_bytes == size_bytes
        assert region.offset % ALIGNMENT == 0
        start = region.offset // ALIGNMENT
        taken = self.lines[region.segment]
        assert start + lines <= len(taken)
        assert not any(taken[start : start + lines])
        taken[start : start + lines] = [True] * lines
        return region

    @rule(region=consumes(regions))
    def free(self, region: Region) -> None:
        if region.segment:
            self.allocator.free(region)
            start, lines = region.offset // ALIGNMENT, max(1, aligned(region.size_bytes) // ALIGNMENT)
            self.lines[region.segment][start : start + lines] = [False] * lines

    @rule()
    def give_up_idle(self) -> None:
        for number in self.allocator.idle_segments():
            assert not any(self.lines.pop(number))
            self.allocator.remove_segment(number)

    @invariant()
    def counts_agree(self) -> None:
        assert self.allocator.taken_bytes == ALIGNMENT * sum(map(sum, self.lines.values()))
        idle = {number for number, taken in self.lines.items() if not any(taken)}
        assert set(self.allocator.idle_segments()) == idle

    def longest_hole(self) -> int:
        longest = 0
        for taken in self.lines.values():
            run = 0
            for line in taken:
                run = 0 if line else run + 1
                longest = max(longest, run)
        return longest


TestAllocator = AllocatorMachine.TestCase
