from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
import pytest

from ps_protocol.errors import ResourceExhaustedError, UnavailableError
from ps_protocol.memory.regions import MAX_SEGMENTS, MIN_SEGMENT_BYTES, Region
from ps_protocol.memory.segment_mapping import IS_SUPPORTED, MappedSegment
from ps_server.transport.shared_memory.registry import SegmentRegistry
from worker_client.transport.shared_memory.pool import Lease, SegmentPool

pytestmark = pytest.mark.skipif(not IS_SUPPORTED, reason="this system has no memfds")

TIMEOUT_S = 30.0
MIB = 1024**2
CLIENT = UUID(int=1)


@dataclass
class FakePs:
    """Gives segments without a connection, as long as ``failure`` is not set."""

    registry: SegmentRegistry = field(default_factory=lambda: SegmentRegistry(512 * MIB))
    failure: Callable[[], Exception] | None = None
    asked: list[int] = field(default_factory=list)
    num_connected: int = 0
    num_closed: int = 0

    def connect(self, timeout_s: float) -> FakeSource:
        assert timeout_s > 0
        self.num_connected += 1
        return FakeSource(self)


class FakeSource:
    def __init__(self, ps: FakePs):
        self.ps = ps
        self.grant = ps.registry.grant(CLIENT)

    def request(self, size_bytes: int, *, timeout_s: float) -> MappedSegment:
        assert timeout_s > 0
        self.ps.asked.append(size_bytes)
        if self.ps.failure is not None:
            raise self.ps.failure()
        with self.grant.new_segment(size_bytes) as (segment, descriptor):
            return MappedSegment(segment.number, descriptor, segment.size_bytes)

    def release(self, number: int, *, timeout_s: float) -> None:
        assert timeout_s > 0
        self.grant.release(number)

    def close(self) -> None:
        self.ps.num_closed += 1
        self.grant.close()


@dataclass
class Clock:
    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def ps() -> FakePs:
    return FakePs()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pool(ps: FakePs, clock: Clock) -> SegmentPool:
    return SegmentPool(ps.connect, task="ps:0", clock=clock)


def _leased(pool: SegmentPool, size_bytes: int) -> Lease:
    lease = pool.lease(size_bytes, timeout_s=TIMEOUT_S)
    assert lease is not None
    return lease


def _exhausted() -> ResourceExhaustedError:
    return ResourceExhaustedError("no memory is left to share", retryable=False)


def test_the_ps_sees_what_is_written_to_a_lease(ps: FakePs, pool: SegmentPool) -> None:
    lease = _leased(pool, 1000)
    array = lease.array(writable=True)
    array[:] = 7
    assert bytes(ps.registry.bytes_of(CLIENT, lease.region)) == bytes([7]) * 1000
    assert ps.asked == [MIN_SEGMENT_BYTES]


def test_nothing_is_asked_for_before_it_is_needed(ps: FakePs, pool: SegmentPool) -> None:
    assert pool.locate([memoryview(b"1234")]) == [None]
    assert ps.num_connected == 0


def test_a_read_only_array_stays_so(pool: SegmentPool) -> None:
    lease = _leased(pool, 1000)
    array = lease.array(writable=False)
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


def test_a_region_comes_back_when_its_last_view_is_gone(pool: SegmentPool) -> None:
    lease = _leased(pool, 4096)
    region = lease.region
    view = lease.array(writable=True).view(np.float32).reshape(32, 32)[3:5]
    memory = lease.array(writable=False)[:8].data
    del lease
    gc.collect()
    assert _leased(pool, 4096).region != region
    del view
    gc.collect()
    assert _leased(pool, 4096).region != region
    del memory
    gc.collect()
    assert _leased(pool, 4096).region == region


def test_memory_that_comes_back_is_used_again(ps: FakePs, pool: SegmentPool) -> None:
    for _ in range(10):
        _leased(pool, MIN_SEGMENT_BYTES)
    assert len(ps.asked) == 1


def test_a_large_lease_gets_a_segment_of_its_size(ps: FakePs, pool: SegmentPool) -> None:
    lease = _leased(pool, MIN_SEGMENT_BYTES + 1)
    assert ps.asked == [MIN_SEGMENT_BYTES + 2 * MIB]
    small = _leased(pool, 1)
    assert small.region.segment == lease.region.segment


def test_arrays_are_found_by_where_they_lie(pool: SegmentPool) -> None:
    lease = _leased(pool, 4096)
    array = lease.array(writable=True)
    segment, start = lease.region.segment, lease.region.offset
    elsewhere = np.zeros(16, np.uint8)
    assert pool.locate([array.data, array[64:80].data, array[1:17].data, elsewhere.data, memoryview(b"")]) == [
        lease.region,
        Region(segment, start + 64, 16),
        None,  # not aligned
        None,
        None,
    ]


def test_a_refusal_is_reported_once_and_not_tried_again_for_a_while(
    ps: FakePs, pool: SegmentPool, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    ps.failure = _exhausted
    with caplog.at_level(logging.WARNING):
        assert pool.lease(1, timeout_s=TIMEOUT_S) is None
        assert pool.lease(1, timeout_s=TIMEOUT_S) is None
        assert len(ps.asked) == 1
        clock.now_s += 60
        assert pool.lease(1, timeout_s=TIMEOUT_S) is None
        assert len(ps.asked) == 2
    assert [record.message for record in caplog.records] == [
        "ps:0 shares no memory for now, tensors go over the socket instead: no memory is left to share"
    ]
    ps.failure = None
    clock.now_s += 60
    assert _leased(pool, 1).region.size_bytes == 1


def test_idle_segments_are_given_back_before_a_refusal_counts(ps: FakePs, pool: SegmentPool) -> None:
    ps.registry = SegmentRegistry(6 * MIN_SEGMENT_BYTES)  # of which this client may have three
    kept = _leased(pool, 1)
    _leased(pool, MIN_SEGMENT_BYTES)
    assert ps.registry.num_segments == 2
    lease = _leased(pool, 2 * MIN_SEGMENT_BYTES)
    assert ps.registry.num_segments == 2
    assert ps.registry.bytes_of(CLIENT, kept.region) is not None
    assert ps.registry.bytes_of(CLIENT, lease.region) is not None


def test_the_number_of_segments_is_bounded(ps: FakePs, pool: SegmentPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker_client.transport.shared_memory.pool.MAX_SEGMENTS", 2)
    assert MAX_SEGMENTS > 2
    leases = [_leased(pool, MIN_SEGMENT_BYTES) for _ in range(2)]
    assert pool.lease(1, timeout_s=TIMEOUT_S) is None
    assert len(ps.asked) == len(leases)


def test_a_lost_connection_gives_all_segments_up(ps: FakePs, pool: SegmentPool, clock: Clock) -> None:
    lease = _leased(pool, MIN_SEGMENT_BYTES)
    array = lease.array(writable=True)
    ps.failure = lambda: UnavailableError("the connection broke")
    assert pool.lease(1, timeout_s=TIMEOUT_S) is None
    assert ps.num_closed == 1
    assert pool.locate([array.data]) == [None]
    array[:] = 1  # still mapped
    ps.failure = None
    clock.now_s += 60
    assert _leased(pool, 1).region.segment != lease.region.segment
    assert ps.num_connected == 2


def test_retiring_gives_a_generation_up_once(ps: FakePs, pool: SegmentPool) -> None:
    lease, generation = _leased(pool, 64), pool.generation
    pool.retire(generation)
    assert ps.registry.num_segments == 0
    again = _leased(pool, 64)
    pool.retire(generation)  # of another thread, whose exchange failed at the same time
    assert pool.locate([again.array(writable=False).data]) == [again.region]
    del lease
    gc.collect()
    assert _leased(pool, 64).region != again.region, "what comes back of an old generation is no room in the new one"
    assert ps.num_closed == 1


def test_after_closing_there_is_nothing_to_lease(ps: FakePs, pool: SegmentPool) -> None:
    lease = _leased(pool, 64)
    pool.close()
    pool.close()
    assert pool.lease(1, timeout_s=TIMEOUT_S) is None
    assert ps.registry.num_segments == 0
    lease.array(writable=True)[:] = 1


def test_many_threads_share_one_pool(ps: FakePs, pool: SegmentPool) -> None:
    barrier = threading.Barrier(8)

    def work(number: int) -> bool:
        barrier.wait(TIMEOUT_S)
        for turn in range(200):
            lease = _leased(pool, 64 * (1 + turn % 7))
            array = lease.array(writable=True)
            array[:] = number
            del lease
            if not (array == number).all():
                return False
        return True

    with ThreadPoolExecutor(8) as executor:
        assert all(executor.map(work, range(8)))
    assert ps.asked == [MIN_SEGMENT_BYTES]
    gc.collect()
    assert _leased(pool, MIN_SEGMENT_BYTES).region.offset == 0
