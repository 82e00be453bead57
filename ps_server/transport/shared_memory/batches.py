"""Batches whose tensors lie in shared memory, for one connection of the socket transport.

The client may write to that memory at any time. So the ps copies first what it checks before it uses it: indices,
integer divisors, initial values, what functions of a team take. Floating-point operands are used in place, gradients
too; a client that changes them meanwhile, also after they were found to be finite, spoils only its own update.
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import numpy as np

from ps_protocol.codec.message_codec import RequestHead
from ps_protocol.codec.tensor_codec import TensorLayout
from ps_protocol.dtype_traits import DTypeCategory, dtype_category
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.memory.large_copies import copy_bytes
from ps_protocol.memory.regions import INLINE_LIMIT_BYTES, Region, encode_regions, packed_offsets
from ps_protocol.operation_kinds import KINDS, map_tensors, tensors_of
from ps_protocol.operations import Array, Batch, PsOperation
from ps_protocol.sockets.frames import FrameKind
from ps_protocol.sockets.framing import Framing
from ps_server.memory.staging import StagingRoom
from ps_server.transport.shared_memory.registry import SegmentRegistry

_USED_IN_PLACE: Final = (DTypeCategory.FLOAT, DTypeCategory.COMPLEX)
_NOTHING: Final = memoryview(b"")


class SharedBatches:
    """What one connection needs to take and answer batches in shared memory. Used by one thread at a time.

    Args:
        registry: Holds the segments of all clients.
        client: The client of the connection.
    """

    def __init__(self, registry: SegmentRegistry, client: UUID):
        self._registry = registry
        self._client = client
        self._grant = registry.grant(client)

    def answer_segment_request(self, sock: socket.socket, asked: Region, framing: Framing) -> None:
        """Makes a segment and sends it, or takes one back and says so.

        Args:
            sock: A Unix socket in blocking mode, with a bound on sending.
            asked: Segment 0 and a size to make one, or a segment's number and no size to give it back.
            framing: Of the connection.

        Raises:
            ResourceExhaustedError: There is no memory to share.
            InvalidArgumentError: It asks for something else.
            OSError: The connection is broken; no segment is left.
        """
        if asked.segment and not asked.size_bytes:
            self._grant.release(asked.segment)
            sock.sendall(_segment_reply(asked, framing))
            return
        if asked.segment:
            raise InvalidArgumentError(f"{asked.size_bytes} bytes of segment {asked.segment} were asked for")
        with self._grant.new_segment(asked.size_bytes) as (segment, descriptor):
            reply = _segment_reply(Region(segment.number, 0, segment.size_bytes), framing)
            sent = socket.send_fds(sock, [reply], [descriptor])
            if sent < len(reply):
                sock.sendall(reply[sent:])

    def operands(self, layouts: Sequence[TensorLayout], regions: Sequence[Region]) -> SharedOperands:
        """Returns a request's tensors, which lie in shared memory.

        Args:
            layouts: What the header of the request announces.
            regions: Where they are, as the client says.

        Raises:
            InvalidArgumentError: The regions do not fit the tensors or the segments.
            UnavailableError: The client has no such segment.
        """
        if len(layouts) != len(regions):
            raise InvalidArgumentError(
                f"the batch has {len(layouts)} tensors, but says of {len(regions)} where they are"
            )
        for layout, region in zip(layouts, regions, strict=True):
            if layout.size_bytes != region.size_bytes:
                raise InvalidArgumentError(
                    f"a tensor {layout.dtype}{list(layout.shape)} has {layout.size_bytes} bytes, but its region "
                    f"{region.size_bytes}"
                )
        buffers = [
            self._registry.bytes_of(self._client, region) if region.size_bytes else _NOTHING for region in regions
        ]
        return SharedOperands(buffers, sum([layout.decoded_bytes for layout in layouts]))

    def reply_room(self, region: Region) -> memoryview | None:
        """Returns the memory that the client offers for a reply, or None if it offers none.

        Raises:
            InvalidArgumentError: It is not aligned or not inside its segment.
            UnavailableError: The client has no such segment.
        """
        return self._registry.bytes_of(self._client, region) if region.size_bytes else None

    def close(self) -> None:
        """Drops the segments that this connection asked for."""
        self._grant.close()


@dataclass(frozen=True, slots=True)
class SharedOperands:
    """The tensors of a request in shared memory.

    Attributes:
        buffers: Their bytes; they keep the memory mapped.
        decoded_bytes: Memory needed to decode those in a lossy form.
    """

    buffers: list[memoryview]
    decoded_bytes: int

    def batch(self, head: RequestHead, room: StagingRoom, *, is_kept: bool = False) -> Batch:
        """Returns their batch; takes room for the tensors that are copied.

        Args:
            head: Of the request.
            room: Taken for the copies.
            is_kept: Whether the operands are needed after the batch, so that all are copied.

        Raises:
            InvalidArgumentError: The header is malformed.
            ResourceExhaustedError: There is no room.
        """
        room.take(self.decoded_bytes, "the batch's tensors")
        batch = head.batch(self.buffers)
        copied_bytes = private_bytes(batch, is_kept=is_kept)
        if not copied_bytes:
            return batch
        room.take(copied_bytes, "copies of the batch's tensors")
        return with_private_operands(batch, is_kept=is_kept)


def put_reply(buffers: Sequence[memoryview], room: memoryview) -> bool:
    """Copies the tensors of a reply into the client's memory, if they fit and are large enough.

    Args:
        buffers: Bytes of the tensors.
        room: Where to put them, one behind the other, each aligned as ``packed_offsets`` says.

    Returns:
        Whether they are there now.
    """
    sizes = [len(buffer) for buffer in buffers]
    offsets, end = packed_offsets(sizes)
    if end > len(room) or sum(sizes) < INLINE_LIMIT_BYTES:
        return False
    target = np.frombuffer(room, np.uint8)
    for buffer, offset, size in zip(buffers, offsets, sizes, strict=True):
        copy_bytes(target[offset : offset + size], np.frombuffer(buffer, np.uint8))
    return True


def private_bytes(batch: Batch, *, is_kept: bool = False) -> int:
    """Bytes of the copies that ``with_private_operands`` makes, so that room can be taken first."""
    tensors = [(each, tensor) for each in batch.operations for tensor in tensors_of(each)]
    return sum(tensor.nbytes for each, tensor in tensors if is_kept or _is_private(each, tensor))


def with_private_operands(batch: Batch, *, is_kept: bool = False) -> Batch:
    """Returns the batch with copies of those tensors that must not change once they have been checked.

    Args:
        batch: Its tensors lie in memory that a client may write to.
        is_kept: Whether none may change, since they are logged too.
    """

    def with_private(operation: PsOperation) -> PsOperation:
        return map_tensors(
            operation, lambda tensor: tensor.copy() if is_kept or _is_private(operation, tensor) else tensor
        )

    return dataclasses.replace(batch, operations=tuple([with_private(each) for each in batch.operations]))


def _is_private(operation: PsOperation, tensor: Array) -> bool:
    is_operand = tensor is KINDS[type(operation)].operand(operation)
    return not is_operand or dtype_category(tensor.dtype) not in _USED_IN_PLACE


def _segment_reply(region: Region, framing: Framing) -> bytes:
    locations = encode_regions([region])
    prefix = framing.prefix(FrameKind.SEGMENT_REPLY, locations=locations, num_locations=1, is_answer=True)
    return prefix + locations
