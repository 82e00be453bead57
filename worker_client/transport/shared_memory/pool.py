"""The segments of shared memory that this client has at one ps, and the arrays that lie in them."""

from __future__ import annotations

import contextlib
import logging
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import numpy as np

from ps_protocol.errors import ResourceExhaustedError, ShardscopeError
from ps_protocol.forks import new_lock, tell_in_child
from ps_protocol.interrupts import sheltered
from ps_protocol.memory.regions import ELEMENT_ALIGNMENT, MAX_SEGMENTS, MIN_SEGMENT_BYTES, Region
from ps_protocol.memory.segment_mapping import MappedSegment
from ps_protocol.operations import Array
from worker_client.transport.shared_memory.allocator import SegmentAllocator
from worker_client.transport.shared_memory.inherited_memory import keep_in_child

_LOG = logging.getLogger(__name__)

_ROUND_BYTES: Final = 2 * 1024**2
_REFUSAL_HOLDS_S: Final = 30.0

GROWTH_TIMEOUT_S: Final = 1.0
"""Longest that the ps may take to make a segment, besides the time for its memory; a batch that waits for it can still
go over the socket then."""

_LONGEST_GROWTH_S: Final = 10.0
_CLEARED_BYTES_PER_S: Final = 200e6


class SegmentSource(Protocol):
    """Where segments come from: a connection to the ps, which drops them when it ends."""

    def request(self, size_bytes: int, *, timeout_s: float) -> MappedSegment:
        """Returns a new segment of at least that size.

        Raises:
            ResourceExhaustedError: The ps, or this system, has none to give.
            ShardscopeError: The connection is lost.
        """
        ...

    def release(self, number: int, *, timeout_s: float) -> None:
        """Gives a segment back to the ps."""
        ...

    def close(self) -> None:
        """Ends the connection, and with it all segments."""
        ...


class Lease:
    """A region that this process uses; given back when neither this object nor an array of it is left.

    Args:
        segment: Where it lies.
        region: What it is.
    """

    def __init__(self, segment: MappedSegment, region: Region):
        self.segment: Final = segment
        self.region: Final = region
        keep_in_child(self)

    @property
    def address(self) -> int:
        """Of the first byte, in this process."""
        return self.segment.address + self.region.offset

    @property
    def size_bytes(self) -> int:
        """Of the region."""
        return self.region.size_bytes

    def array(self, *, writable: bool) -> Array:
        """Returns the region's bytes as a uint8 array, which keeps the lease as long as it, or a view of it, lives."""
        return np.asarray(_Memory(self, writable=writable))


class _Out(weakref.ref[Lease]):
    """A lease that is out, and its region, which the lease's end gives back without a line of Python.

    What a signal handler raises in the callback of a weak reference is lost, so the callback has to be C's.
    """

    __slots__ = ("region",)
    region: Region


class _Memory:
    """What NumPy makes an array of; such an array refers to this, and so to the lease."""

    def __init__(self, lease: Lease, *, writable: bool):
        self._lease = lease
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "typestr": "|u1",
            "shape": (lease.region.size_bytes,),
            "data": (lease.address, not writable),
        }


def _region_of(buffer: memoryview, segments: Sequence[MappedSegment]) -> Region | None:
    size_bytes = len(buffer)
    if not size_bytes:
        return None
    address: int = np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]
    for segment in segments:
        offset = address - segment.address
        if offset >= 0 and offset + size_bytes <= segment.size_bytes:
            return None if offset % ELEMENT_ALIGNMENT else Region(segment.number, offset, size_bytes)
    return None


class SegmentPool:
    """Leases regions, asking the ps for more segments when none has room. Thread-safe.

    Args:
        connect: Opens the connection that segments come from, within the seconds given; called when the first one
            is needed, and again after ``retire``.
        task: Name of the ps task, for the log.
        clock: Monotonic seconds.
    """

    def __init__(
        self, connect: Callable[[float], SegmentSource], *, task: str, clock: Callable[[], float] = time.monotonic
    ):
        self._connect = connect
        self._task = task
        self._clock = clock
        # guards: _generation, _allocator, _segments, _out, _returned, _is_changing, _refused_until_s, _has_reported,
        # _closed. No I/O and no other lock under it.
        self._lock = new_lock()
        # guards: _source. Held while the ps is asked for a segment, with a bound on that; taken before _lock.
        self._growth_lock = new_lock()
        self._source: SegmentSource | None = None
        self._closed = False
        self._has_reported = False
        self._refused_until_s = float("-inf")
        self._generation = 0
        self._begin_generation()
        tell_in_child(self)

    def _begin_generation(self) -> None:
        self._generation += 1
        self._allocator = SegmentAllocator()
        self._segments: dict[int, MappedSegment] = {}
        # Appended to by finalizers, which may run anywhere, also while a lock is held, and so must not take one. Each
        # generation has its own: a region of an older one is not used again.
        self._returned: deque[_Out] = deque()
        self._out: set[_Out] = set()
        self._is_changing = False  # without anybody in the middle of it: an interrupt has left it half changed

    # -- leases -------------------------------------------------------------------------------

    def lease(self, size_bytes: int, *, timeout_s: float) -> Lease | None:
        """Returns a region of at least ``size_bytes``, or None if there is no room and the ps gives no more.

        Args:
            size_bytes: How much.
            timeout_s: Bound on waiting for the ps to make a segment, besides ``GROWTH_TIMEOUT_S``.
        """
        timeout_s = min(timeout_s, GROWTH_TIMEOUT_S + size_bytes / _CLEARED_BYTES_PER_S, _LONGEST_GROWTH_S)
        deadline_s = self._clock() + timeout_s
        lease = self._lease_now(size_bytes)
        if lease is not None or not (self._is_changing or self._may_grow()):
            return lease
        return sheltered(self._lease_growing, size_bytes, deadline_s)

    def _lease_growing(self, size_bytes: int, deadline_s: float) -> Lease | None:
        if not self._growth_lock.acquire(timeout=max(0.0, deadline_s - self._clock())):
            return None
        try:
            with self._lock:
                was_interrupted = self._is_changing
            if was_interrupted:
                self._retire_locked()
            lease = self._lease_now(size_bytes)  # another thread may have brought a segment meanwhile
            if lease is None and self._may_grow() and self._grow(size_bytes, deadline_s):
                lease = self._lease_now(size_bytes)
            return lease
        finally:
            self._growth_lock.release()

    def locate(self, buffers: Sequence[memoryview]) -> list[Region | None]:
        """Returns where each buffer lies, or None if it is in no segment that the ps knows."""
        with self._lock:
            segments = list(self._segments.values())
        if not segments:
            return [None] * len(buffers)
        return [_region_of(buffer, segments) for buffer in buffers]

    def _lease_now(self, size_bytes: int) -> Lease | None:
        with self._lock:
            if self._is_changing:
                return None  # until all segments are given up
            self._is_changing = True
            lease = None
            self._take_back()
            region = self._allocator.allocate(size_bytes)
            if region is not None:
                lease = Lease(self._segments[region.segment], region)
                out = _Out(lease, self._returned.append)
                out.region = region
                self._out.add(out)
            self._is_changing = False
            return lease

    def _take_back(self) -> None:
        while self._returned:
            out = self._returned.popleft()
            self._out.discard(out)
            self._allocator.free(out.region)

    # -- segments -----------------------------------------------------------------------------

    def _may_grow(self) -> bool:
        with self._lock:
            return not self._closed and self._clock() >= self._refused_until_s

    def _grow(self, size_bytes: int, deadline_s: float) -> bool:
        """Asks for a segment; if that is refused, gives back what is idle and asks once more."""
        wanted_bytes = max(MIN_SEGMENT_BYTES, -(-size_bytes // _ROUND_BYTES) * _ROUND_BYTES)
        try:
            if self._source is None:
                self._source = self._connect(self._remaining_s(deadline_s))
            try:
                segment = self._request(self._source, wanted_bytes, deadline_s)
            except ResourceExhaustedError:
                if not self._give_back_idle(self._source, deadline_s):
                    raise
                segment = self._request(self._source, wanted_bytes, deadline_s)
        except ResourceExhaustedError as error:
            self._refused(error)
            return False
        except ShardscopeError as error:
            self._refused(error)
            self._retire_locked()
            return False
        with self._lock:
            self._segments[segment.number] = segment
            self._allocator.add_segment(segment.number, segment.size_bytes)
        return True

    def _request(self, source: SegmentSource, size_bytes: int, deadline_s: float) -> MappedSegment:
        with self._lock:
            num_segments = len(self._segments)
        if num_segments >= MAX_SEGMENTS:
            raise ResourceExhaustedError(f"this client has {num_segments} segments already", retryable=False)
        return source.request(size_bytes, timeout_s=self._remaining_s(deadline_s))

    def _give_back_idle(self, source: SegmentSource, deadline_s: float) -> bool:
        with self._lock:
            self._take_back()
            idle = self._allocator.idle_segments()
            for number in idle:
                self._allocator.remove_segment(number)
                del self._segments[number]
        for number in idle:
            source.release(number, timeout_s=self._remaining_s(deadline_s))
        return bool(idle)

    def _refused(self, error: ShardscopeError) -> None:
        with self._lock:
            self._refused_until_s = self._clock() + _REFUSAL_HOLDS_S
            has_reported, self._has_reported = self._has_reported, True
        if not has_reported:
            _LOG.warning(
                "%s shares no memory for now, tensors go over the socket instead: %s", self._task, error.message
            )

    def _remaining_s(self, deadline_s: float) -> float:
        return max(0.001, deadline_s - self._clock())

    # -- the end ------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """Counts the times that all segments were given up; leases and locations are good for one generation."""
        return self._generation

    def retire(self, generation: int) -> None:
        """Gives up the segments of a generation, if that is not done yet.

        Call it after an exchange without an answer: the ps may still use what they hold, or may have dropped them.
        Arrays that lie in them stay as they are. The next lease comes from new segments.
        """
        with self._growth_lock:  # its holder waits for the ps for a bounded time
            if generation == self._generation:
                self._retire_locked()

    def _retire_locked(self) -> None:
        source, self._source = self._source, None
        with self._lock:
            self._begin_generation()
        if source is not None:
            with contextlib.suppress(ShardscopeError, OSError):
                source.close()

    def become_copy(self) -> None:
        """In a forked child: forgets all segments, which are the parent's. Arrays that lie in them stay as they are."""
        self._closed = True
        self._source = None
        self._begin_generation()

    def close(self) -> None:
        """Gives up all segments for good; leases are None from now on. Arrays that lie in them stay as they are."""
        with self._lock:
            self._closed = True
        self.retire(self._generation)
