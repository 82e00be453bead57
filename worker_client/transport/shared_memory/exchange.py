"""One exchange whose tensors travel in shared memory, as the client prepares it and takes its reply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ps_protocol.codec.message_codec import ReplyHead
from ps_protocol.codec.reply_targets import reply_buffers
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.memory.large_copies import copy_bytes
from ps_protocol.memory.regions import INLINE_LIMIT_BYTES, NOWHERE, Region, packed_bytes, packed_offsets
from ps_protocol.operations import READS, Batch, WireDType
from worker_client.transport.shared_memory.pool import Lease, SegmentPool


@dataclass(frozen=True, slots=True)
class SharedExchange:
    """Where the tensors of a request are and those of its reply may be put.

    Holds the memory, so it has to be kept until the reply has come.

    Attributes:
        generation: Of the pool, to be retired if no reply comes.
        request: A region for each tensor of the request, or None if they travel on the socket.
        room: For the reply, or None if there is none.
        copies: What the tensors were copied into.
    """

    generation: int
    request: tuple[Region, ...] | None
    room: Lease | None
    copies: Lease | None

    @property
    def locations(self) -> list[Region]:
        """What the frame of the request says: the room for the reply, then where the tensors are."""
        return [self.room.region if self.room else NOWHERE, *(self.request or ())]

    def reply_buffers(self, head: ReplyHead) -> list[memoryview]:
        """Returns the tensors of a reply that the ps has put into the room, for ``head.reply``.

        Those that are read as views stay where they are, read-only, and keep the room; so do those in a lossy form,
        which decoding copies anyway. The others are copied into the caller's arrays or into new ones.

        Raises:
            InvalidArgumentError: The reply is malformed, or too large for the room.
            InternalError: An array does not fit its tensor.
            ResourceExhaustedError: There is no memory for a tensor.
        """
        offsets, end = packed_offsets([layout.size_bytes for layout in head.layouts])
        if self.room is None or end > self.room.region.size_bytes:
            raise InvalidArgumentError("a reply is said to lie in shared memory, but it is larger than the room for it")
        memory = self.room.array(writable=False)
        places = [
            memory[offset : offset + layout.size_bytes] for layout, offset in zip(head.layouts, offsets, strict=True)
        ]
        stays = [
            layout.wire is not WireDType.EXACT or (isinstance(operation, READS) and operation.view)
            for layout, operation in zip(head.layouts, head.answered, strict=True)
        ]
        moving = [index for index, stay in enumerate(stays) if not stay]
        buffers = [place.data for place in places]
        targets = head.targets
        for index, buffer in zip(
            moving,
            reply_buffers([head.layouts[index] for index in moving], [targets[index] for index in moving]),
            strict=True,
        ):
            copy_bytes(np.frombuffer(buffer, np.uint8), places[index])
            buffers[index] = buffer
        return buffers


def share(pool: SegmentPool, batch: Batch, buffers: Sequence[memoryview], *, timeout_s: float) -> SharedExchange | None:
    """Puts the tensors of a request into shared memory, unless they are there, and takes room for the reply.

    Args:
        pool: Where memory comes from.
        batch: The request; room is only taken where its ``expected_reply_bytes`` is known.
        buffers: Bytes of its tensors.
        timeout_s: Bound on waiting for the ps to make a segment.

    Returns:
        The exchange; None if nothing of it travels in shared memory, or if another thread has just given up all
        segments.
    """
    request_bytes, reply_bytes = sum(map(len, buffers)), batch.expected_reply_bytes or 0
    if request_bytes < INLINE_LIMIT_BYTES and reply_bytes < INLINE_LIMIT_BYTES:
        return None
    generation = pool.generation
    placed = _placed(pool, buffers, timeout_s) if request_bytes >= INLINE_LIMIT_BYTES else None
    room = None
    if reply_bytes >= INLINE_LIMIT_BYTES:
        room = pool.lease(packed_bytes(reply_bytes, len(batch.operations)), timeout_s=timeout_s)
    if (placed is None and room is None) or pool.generation != generation:
        return None
    regions, copies = placed or (None, None)
    return SharedExchange(generation, regions, room, copies)


def _placed(
    pool: SegmentPool, buffers: Sequence[memoryview], timeout_s: float
) -> tuple[tuple[Region, ...], Lease | None] | None:
    """Returns where the tensors of a request are, and copies those that are elsewhere; None if there is no room."""
    found = pool.locate(buffers)
    sizes = [len(buffer) if region is None else 0 for buffer, region in zip(buffers, found, strict=True)]
    offsets, missing_bytes = packed_offsets(sizes)
    if not missing_bytes:
        return tuple([region or NOWHERE for region in found]), None
    lease = pool.lease(missing_bytes, timeout_s=timeout_s)
    if lease is None:
        return None
    target, place = lease.array(writable=True), lease.region
    regions = []
    for buffer, region, offset, size in zip(buffers, found, offsets, sizes, strict=True):
        if size:
            copy_bytes(target[offset : offset + size], np.frombuffer(buffer, np.uint8))
            regions.append(Region(place.segment, place.offset + offset, size))
        else:
            regions.append(region or NOWHERE)
    return tuple(regions), lease
