"""The segments of shared memory that a ps has made for its clients: making, sealing, counting, looking up.

A segment belongs to the connection on which a client asked for it, and is dropped when that connection ends; the kernel
ends the connections of a client that was killed. Only this connection is told the segment's number, which is random and
cannot be guessed. So the other connections of the client may refer to it, since the client tells them, and nobody else
can: not even who says hello under the client's incarnation, which is no secret.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final
from uuid import UUID

import psutil

from ps_protocol.errors import InvalidArgumentError, ResourceExhaustedError, UnavailableError
from ps_protocol.memory.regions import MAX_SEGMENTS, Region
from ps_protocol.memory.segment_mapping import MappedSegment, seal_size
from ps_server.memory.byte_budget import ByteBudget, readable_bytes
from ps_server.transport.descriptors import DescriptorReserve

_PAGE_BYTES: Final = 4096
_NUMBER_BITS: Final = 63
_MFD_NOEXEC_SEAL: Final = 0x0008  # of linux/memfd.h; not in Python 3.11


class SegmentRegistry:
    """All segments of a ps. Thread-safe.

    Args:
        limit_bytes: The most that the segments of all clients may take together; one client may have half of it.
            0 for no segments at all.
        reserve: Descriptors that no segment gets.
    """

    def __init__(self, limit_bytes: int, reserve: DescriptorReserve | None = None):
        self.limit_bytes: Final = limit_bytes
        self._budget = ByteBudget(limit_bytes)
        self._reserve = DescriptorReserve() if reserve is None else reserve
        # Appended to by finalizers. These may run while any lock is held, so they must not take one.
        self._unmapped_bytes: deque[int] = deque()
        # guards: _claims, and changes of _segments, a look into which is atomic and done without it; no other lock is
        # taken under it
        self._lock = threading.Lock()
        self._claims: dict[UUID, dict[int, int]] = {}
        self._segments: dict[tuple[UUID, int], MappedSegment] = {}

    @property
    def used_bytes(self) -> int:
        """Bytes of the segments that are mapped here."""
        self._count_unmapped()
        return self._budget.used_bytes

    @property
    def num_segments(self) -> int:
        """Segments that clients may refer to."""
        with self._lock:
            return len(self._segments)

    def grant(self, client: UUID) -> SegmentGrant:
        """Returns the segments of one connection of a client; to be closed with the connection."""
        return SegmentGrant(self, client)

    def bytes_of(self, client: UUID, region: Region) -> memoryview:
        """Returns the bytes of a region that a client has named; they keep the segment mapped.

        Raises:
            UnavailableError: The client has no such segment; its connection may have ended.
            InvalidArgumentError: The region is not aligned, or not inside the segment.
        """
        segment = self._segments.get((client, region.segment))
        if segment is None:
            raise UnavailableError(f"the client has no segment {region.segment} of shared memory; ask for a new one")
        return segment.bytes_of(region)

    def create(self, client: UUID, size_bytes: int) -> tuple[MappedSegment, int]:
        """Makes a segment; returns it and the descriptor to pass to the client, which is the caller's to close.

        Raises:
            ResourceExhaustedError: A limit is reached, or the system has no memory or descriptors left.
            InvalidArgumentError: The size is not positive.
        """
        if size_bytes <= 0:
            raise InvalidArgumentError(f"a segment of {size_bytes} bytes was asked for")
        size_bytes = -(-size_bytes // _PAGE_BYTES) * _PAGE_BYTES
        number = self._claim(client, size_bytes)
        with contextlib.ExitStack() as undo:
            undo.callback(self.forget, client, {number})
            self._take(size_bytes)
            undo.callback(self._budget.give_back, size_bytes)
            segment, descriptor = _made(number, size_bytes, self._reserve)
            undo.pop_all()
        # The memory counts while it is mapped, which may be longer than the client may refer to it.
        weakref.finalize(segment.mapping, self._unmapped_bytes.append, size_bytes).atexit = False
        with self._lock:
            self._segments[client, number] = segment
        return segment, descriptor

    def forget(self, client: UUID, numbers: Iterable[int]) -> None:
        """Drops segments of a client; their memory is given back when the batches that use it are done."""
        with self._lock:
            claims = self._claims.get(client, {})
            for number in numbers:
                claims.pop(number, None)
                self._segments.pop((client, number), None)
            if not claims:
                self._claims.pop(client, None)

    def _claim(self, client: UUID, size_bytes: int) -> int:
        share_bytes = self.limit_bytes // 2
        with self._lock:
            claims = self._claims.setdefault(client, {})
            num_claims, claimed_bytes = len(claims), sum(claims.values())
            if num_claims < MAX_SEGMENTS and claimed_bytes + size_bytes <= share_bytes:
                number = self._new_number(client)
                claims[number] = size_bytes
                return number
            if not claims:
                del self._claims[client]
        raise ResourceExhaustedError(
            f"a segment of {readable_bytes(size_bytes)} was asked for by a client that has {num_claims} of "
            f"{readable_bytes(claimed_bytes)} together; one client may have {MAX_SEGMENTS} of "
            f"{readable_bytes(share_bytes)} together, half of --shared-memory-limit",
            retryable=False,
        )

    def _new_number(self, client: UUID) -> int:
        """With the lock held: a number that nobody can name who was not told it."""
        number = 0
        while not number or (client, number) in self._segments:
            number = secrets.randbits(_NUMBER_BITS)
        return number

    def _take(self, size_bytes: int) -> None:
        self._count_unmapped()
        if not self._budget.try_take(size_bytes):
            used = readable_bytes(self._budget.used_bytes)
            raise ResourceExhaustedError(
                f"a segment of {readable_bytes(size_bytes)} was asked for, but {used} of "
                f"{readable_bytes(self.limit_bytes)} of shared memory are taken; raise --shared-memory-limit",
                retryable=False,
            )

    def _count_unmapped(self) -> None:
        while self._unmapped_bytes:
            with contextlib.suppress(IndexError):  # another thread was faster
                self._budget.give_back(self._unmapped_bytes.popleft())


class SegmentGrant:
    """The segments that a client asked for on one connection. Used by one thread at a time.

    Args:
        registry: Holds them.
        client: Whose they are.
    """

    def __init__(self, registry: SegmentRegistry, client: UUID):
        self._registry = registry
        self._client = client
        self._numbers: set[int] = set()

    @contextlib.contextmanager
    def new_segment(self, size_bytes: int) -> Iterator[tuple[MappedSegment, int]]:
        """Makes a segment; gives it, and its descriptor inside the block to be passed to the client.

        The descriptor is closed at the end of the block. If that raises, the segment is dropped.

        Raises:
            ResourceExhaustedError: The limit is reached, or the system has no memory or descriptors left.
            InvalidArgumentError: The size is not positive.
        """
        segment, descriptor = self._registry.create(self._client, size_bytes)
        self._numbers.add(segment.number)
        try:
            yield segment, descriptor
        except BaseException:
            self.release(segment.number)
            raise
        finally:
            os.close(descriptor)

    def release(self, number: int) -> None:
        """Drops a segment that the client no longer uses; ignored if there is no such segment."""
        if number in self._numbers:
            self._numbers.discard(number)
            self._registry.forget(self._client, {number})

    def close(self) -> None:
        """Drops all of them. Their memory is given back when batches that use it are done."""
        numbers, self._numbers = self._numbers, set()
        self._registry.forget(self._client, numbers)


def _new_memfd() -> int:
    """Makes a memfd that cannot be executed, where the kernel supports that (Linux 6.3); some systems require it."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("shardscope", flags | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return os.memfd_create("shardscope", flags)


def _made(number: int, size_bytes: int, reserve: DescriptorReserve) -> tuple[MappedSegment, int]:
    """Makes a memfd that can neither shrink nor grow: touching memory that is gone would kill the process.

    Its memory is allocated here, so that a lack of it is an error now and not a signal at the first touch. Free memory
    is checked first, since a system that runs out of memory kills processes before it refuses memory.
    """
    available_bytes = psutil.virtual_memory().available
    if size_bytes > available_bytes:
        raise ResourceExhaustedError(
            f"a segment of {readable_bytes(size_bytes)} was asked for, but the system has "
            f"{readable_bytes(available_bytes)} of memory left",
            retryable=False,
        )
    try:
        descriptor = _new_memfd()
        try:
            if reserve.holds(descriptor):
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))  # noqa: TRY301  # as of the kernel
            os.posix_fallocate(descriptor, 0, size_bytes)
            seal_size(descriptor)
            segment = MappedSegment(number, descriptor, size_bytes)
            segment.prefault()
        except BaseException:
            os.close(descriptor)
            raise
    except (OSError, MemoryError) as error:
        raise ResourceExhaustedError(
            f"the system has no segment of {readable_bytes(size_bytes)} to share ({error}); give the ps more memory, "
            f"or lower --shared-memory-limit",
            retryable=False,
        ) from error
    return segment, descriptor
