"""The ps's end of one connection of the socket transport: requests in, replies out, one after the other.

A batch is received whole before the core sees it, so that a client that breaks off has changed nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from ps_protocol.codec import spec_codec
from ps_protocol.codec.fast.request_bytes import parse_request
from ps_protocol.codec.message_codec import RequestHead
from ps_protocol.errors import (
    InvalidArgumentError,
    ResourceExhaustedError,
    ShardscopeError,
    UnavailableError,
)
from ps_protocol.memory.regions import Region, decode_regions
from ps_protocol.sockets.faults import before_send
from ps_protocol.sockets.frames import (
    FLAG_CLOSING,
    FLAG_PIPELINED,
    FLAG_SHARED,
    LOCATION_BYTES,
    FrameKind,
    FramePrefix,
)
from ps_protocol.sockets.stream import COPIED_BYTES, SCRATCH_BYTES, ConnectionEnded, Part, SocketStream
from ps_server.core.parameter_server import ParameterServer
from ps_server.memory.buffer_pool import BufferPool
from ps_server.memory.byte_budget import ByteBudget
from ps_server.memory.staging import StagingRoom
from ps_server.transport.shared_memory.batches import SharedBatches, put_reply
from ps_server.transport.sockets.batch_answers import UNSTAGED_BYTES, BatchAnswers, EncodedReply, UnskippableError

_LOG = logging.getLogger(__name__)

STALL_TIMEOUT_S: Final = 20.0
"""Longest that a client may pause in the middle of a frame, or of receiving a reply."""

SLOWEST_BYTES_PER_S: Final = 1e6
"""A whole frame that comes or leaves more slowly than this ends the connection."""


class SocketSession:
    """Serves one client's connection. One thread at a time.

    Args:
        stream: After the handshake; owned.
        client: Incarnation of the client, proved by its ticket.
        peer: Where the client is, for the log.
        core: Carries the batches out.
        staging: Room for tensors on their way, shared with the other transports.
        buffers: Pool of buffers for large tensors.
        stall_timeout_s: Longest that the client may keep the ps waiting in the middle of a frame.
        shared: Where tensors may lie in shared memory; None if none is shared on this connection.
        is_alone: Returns whether no other connection is served; then the thread may keep its processor while it waits
            for the next request.
    """

    def __init__(
        self,
        stream: SocketStream,
        *,
        client: UUID,
        peer: str,
        core: ParameterServer,
        staging: ByteBudget,
        buffers: BufferPool,
        stall_timeout_s: float = STALL_TIMEOUT_S,
        shared: SharedBatches | None = None,
        is_alone: Callable[[], bool] = lambda: False,
    ):
        self.stream = stream
        self.client = spec_codec.decode_uuid(client.bytes, "client")  # the object that decoded batches hold too
        self.peer = peer
        self._core = core
        self._answers = BatchAnswers(core, self.client)
        self._staging = staging
        self._buffers = buffers
        self._stall_timeout_s = stall_timeout_s
        self._stall_timeout_ms = max(1, int(stall_timeout_s * 1000))
        self._shared = shared
        self._is_alone = is_alone
        self._pooled: list[npt.NDArray[np.uint8]] = []
        stream.set_send_timeout(self._stall_timeout_ms)

    def serve(self, scratch: memoryview, linger_s: float) -> bool:
        """Serves requests until none comes for a while.

        Args:
            scratch: Memory of ``SCRATCH_BYTES`` to read into.
            linger_s: How long to wait for each next request.

        Returns:
            Whether the connection is idle and may be served again; False if it has ended, which has been logged.
        """
        stream, linger_ms = self.stream, int(linger_s * 1000)
        stream.lend_scratch(scratch)
        try:
            while True:
                stream.set_receive_timeout(linger_ms)
                if not stream.buffered_bytes:
                    stream.looks_first = self._is_alone()
                    try:
                        stream.fill()
                    except TimeoutError:
                        return True
                if not self.serve_frame():
                    return False
        # Errors are logged as text: a log record that is kept would keep their frames, and the memory of these.
        except ConnectionEnded as end:
            if end.in_frame:
                _LOG.info(
                    "%s: connection ended in the middle of a batch, of which nothing was applied: %s",
                    self._who,
                    str(end),
                )
            else:
                _LOG.debug("%s: connection closed", self._who)
        except TimeoutError as error:
            _LOG.warning("%s: connection ended, since the client kept the ps waiting: %s", self._who, str(error))
        except (ConnectionResetError, BrokenPipeError) as error:  # as when Ctrl-C ends a client: no fault of the ps
            _LOG.info("%s: connection ended by the client: %s", self._who, error.strerror)
        except OSError as error:
            _LOG.warning("%s: connection broke: %s", self._who, str(error))
        except (InvalidArgumentError, UnavailableError) as error:
            _LOG.warning("%s: connection ended by what it received: %s", self._who, error.message)
            self._send_reason(error)
        finally:
            stream.lend_scratch(memoryview(b""))
        return False

    @property
    def _who(self) -> str:
        return f"client {self.client} at {self.peer}"

    # -- one frame ----------------------------------------------------------------------------

    def serve_frame(self) -> bool:
        """Reads a frame, of which a byte has come, and answers it; returns whether another may follow.

        Raises:
            InvalidArgumentError: It is not a frame, or one that cannot be skipped.
            UnavailableError: The stream is damaged.
            TimeoutError, OSError: As for ``SocketStream``.
        """
        stream, framing = self.stream, self.stream.framing
        started_s = time.monotonic()
        if stream.buffered_bytes < framing.prefix_bytes:
            self._expect(framing.prefix_bytes, started_s)
        prefix = framing.parse(stream.take(framing.prefix_bytes))
        if prefix.num_locations and self._shared is None:
            raise InvalidArgumentError("a frame names places in shared memory on a connection that shares none")
        rest_bytes = prefix.header_bytes + LOCATION_BYTES * prefix.num_locations + prefix.buffer_bytes
        if rest_bytes > stream.buffered_bytes:
            self._expect(rest_bytes, started_s)
        if prefix.kind is FrameKind.SEGMENT_REQUEST and self._shared is not None:
            self._answer_segment_request(prefix, self._shared)
            return True
        if prefix.kind is not FrameKind.REQUEST:
            raise InvalidArgumentError(f"a client does not send frames of the kind {prefix.kind.name}")
        header = self._read(prefix.header_bytes)
        try:
            if prefix.num_locations and self._shared is not None:
                return self._answer_shared(header, prefix, started_s, self._shared)
            framing.check_header(header)
            return self._answer(header, prefix, started_s)
        finally:
            if self._pooled:
                self._buffers.give_back(self._pooled)

    def _expect(self, size_bytes: int, started_s: float) -> None:
        """Sets the bounds on waiting for the rest of a frame."""
        self.stream.set_receive_timeout(self._stall_timeout_ms)
        self.stream.deadline_s = started_s + self._stall_timeout_s + size_bytes / SLOWEST_BYTES_PER_S

    def _read(self, size_bytes: int) -> bytes:
        stream = self.stream
        return bytes(stream.take(size_bytes) if size_bytes <= SCRATCH_BYTES else stream.read_large(size_bytes))

    def _head(self, header: bytes) -> RequestHead:
        try:
            return parse_request(header, self.client)
        except DecodeError as error:
            raise UnskippableError(f"the header of a batch is no BatchRequest: {error}") from error

    def _answer(
        self,
        header: bytes,
        prefix: FramePrefix,
        started_s: float,
        target: memoryview | None = None,
    ) -> bool:
        """Receives the tensors of a batch, has it carried out and sends the reply, with room for both.

        Returns:
            Whether another frame may follow.
        """
        stream = self.stream
        with StagingRoom(self._staging) as room:
            if prefix.buffer_bytes <= UNSTAGED_BYTES:
                # The tensors are views of the scratch buffer, so the store must not keep them.
                data = stream.take(prefix.buffer_bytes)
                stream.framing.check_tensors((data,))
                reply = self._answers.reply(lambda: self._head(header).batch_of(data), prefix, started_s, room)
            else:
                try:
                    head = self._head(header)
                    _check_size(head.data_bytes, prefix)
                    buffers = self._make_room(head, room)
                except UnskippableError:
                    raise
                except (ShardscopeError, MemoryError) as error:
                    # The tensors are on their way already, and the next frame behind them.
                    stream.skip(prefix.buffer_bytes)
                    return self._send_answer(self._answers.error(error), prefix, 0)
                self._receive_into(buffers)
                stream.framing.check_tensors(buffers)
                reply = self._answers.reply(lambda: head.batch(buffers), prefix, started_s, room, take_operands=True)
                del buffers
                self._buffers.give_back(self._pooled)
                room.give_back(prefix.buffer_bytes)
            return self._send_answer(reply, prefix, prefix.buffer_bytes, target)

    def _answer_shared(self, header: bytes, prefix: FramePrefix, started_s: float, shared: SharedBatches) -> bool:
        """As ``_answer``, for a batch with its tensors or room for its reply in shared memory.

        Raises:
            InvalidArgumentError, UnavailableError: The client may not name that memory.
        """
        reply_region, *regions = self._read_locations(prefix, header)
        target = shared.reply_room(reply_region)
        if not regions:
            return self._answer(header, prefix, started_s, target)
        if prefix.buffer_bytes:
            raise InvalidArgumentError("a frame has tensors in shared memory and behind its header")
        with StagingRoom(self._staging) as room:
            try:
                head = self._head(header)
            except UnskippableError:
                raise
            except InvalidArgumentError as error:
                reply = self._answers.error(error)
            else:
                operands = shared.operands(head.layouts, regions)
                is_kept = self._core.keeps_operands
                reply = self._answers.reply(
                    lambda: operands.batch(head, room, is_kept=is_kept), prefix, started_s, room
                )
            received_bytes = sum([region.size_bytes for region in regions])
            return self._send_answer(reply, prefix, received_bytes, target)

    def _read_locations(self, prefix: FramePrefix, header: bytes = b"") -> list[Region]:
        locations = self._read(LOCATION_BYTES * prefix.num_locations)
        self.stream.framing.check_header(header, locations)
        return decode_regions(locations)

    def _answer_segment_request(self, prefix: FramePrefix, shared: SharedBatches) -> None:
        """Makes shared memory for the client, or takes it back."""
        if prefix.header_bytes or prefix.buffer_bytes or prefix.num_locations != 1:
            raise InvalidArgumentError("a request for shared memory has one region and nothing else")
        (asked,) = self._read_locations(prefix)
        try:
            shared.answer_segment_request(self.stream.sock, asked, self.stream.framing)
        except ResourceExhaustedError as error:
            _LOG.warning("%s: no memory is shared: %s", self._who, error.message)
            self._send(*self._answers.error(error), received_bytes=0)

    def _make_room(self, head: RequestHead, room: StagingRoom) -> list[memoryview]:
        """Returns memory for each of a batch's tensors.

        Raises:
            ResourceExhaustedError, MemoryError: There is not enough.
        """
        room.take(head.data_bytes + sum([each.decoded_bytes for each in head.layouts]), "the batch's tensors")
        return [self._buffers.memory(layout.size_bytes, self._pooled) for layout in head.layouts]

    def _receive_into(self, buffers: list[memoryview]) -> None:
        stream = self.stream
        for buffer in buffers:
            if len(buffer) <= COPIED_BYTES:
                buffer[:] = stream.take(len(buffer))
            else:
                stream.read_into(buffer)

    def _send_answer(
        self, answer: EncodedReply, prefix: FramePrefix, received_bytes: int, target: memoryview | None = None
    ) -> bool:
        """Sends the answer to a request; returns whether another frame may follow."""
        ends = answer[0] is FrameKind.ERROR and bool(prefix.flags & FLAG_PIPELINED)
        self._send(*answer, received_bytes=received_bytes, flags=FLAG_CLOSING if ends else 0, target=target)
        if ends:
            _LOG.info("%s: connection ended: a batch was refused, and those behind it must not overtake it", self._who)
        return not ends

    def _send(
        self,
        kind: FrameKind,
        header: bytes,
        buffers: list[memoryview],
        *,
        received_bytes: int,
        flags: int = 0,
        target: memoryview | None = None,
    ) -> None:
        buffer_bytes = size_bytes = sum(map(len, buffers))
        if target is not None and kind is FrameKind.REPLY and put_reply(buffers, target):
            buffers.clear()  # lent values are given back before the client can send an update
            flags |= FLAG_SHARED
            size_bytes = 0
        framing = self.stream.framing
        prefix = framing.prefix(kind, header, buffers=buffers, buffer_bytes=size_bytes, flags=flags, is_answer=True)
        size_bytes += framing.prefix_bytes + len(header)
        self.stream.deadline_s = time.monotonic() + self._stall_timeout_s + size_bytes / SLOWEST_BYTES_PER_S
        # Counted before it is sent, so that a client that has the reply finds it counted.
        self._core.count_bytes(received=received_bytes, sent=buffer_bytes)
        parts: list[Part] = [prefix, header, *buffers]
        before_send("reply.send", self.stream, parts, size_bytes)
        self.stream.send(parts, size_bytes)

    def _send_reason(self, error: ShardscopeError) -> None:
        """Sends the reason why the connection ends, if the client still reads."""
        try:
            self._send(*self._answers.error(error), received_bytes=0, flags=FLAG_CLOSING)
        except OSError as failure:
            _LOG.debug("%s: not told why: %s", self._who, str(failure))

    def close(self) -> None:
        """Drops the shared memory of this connection; the listener closes the socket."""
        if self._shared is not None:
            self._shared.close()


def _check_size(size_bytes: int, prefix: FramePrefix) -> None:
    if size_bytes != prefix.buffer_bytes:
        raise UnskippableError(
            f"a frame announces tensors of {prefix.buffer_bytes} bytes, but those of its header have {size_bytes}"
        )
