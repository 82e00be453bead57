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
from ps_protocol.codec.header_bounds import HeaderBounds
from ps_protocol.codec.message_codec import CheckTime, RequestHead
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
from ps_protocol.sockets.stream import COPIED_BYTES, SCRATCH_BYTES, ConnectionEnded, Part
from ps_server.core.parameter_server import ParameterServer
from ps_server.memory.buffer_pool import BufferPool
from ps_server.memory.byte_budget import ByteBudget, readable_bytes
from ps_server.memory.staging import StagingRoom
from ps_server.transport.shared_memory.batches import SharedBatches, put_reply
from ps_server.transport.sockets.batch_answers import UNSTAGED_BYTES, BatchAnswers, EncodedReply, UnskippableError
from ps_server.transport.sockets.slow_peers import NOT_BEGUN, PeerStream
from ps_server.transport.time_left import TimeLeft

_LOG = logging.getLogger(__name__)

MAX_SKIPPED_BYTES: Final = 64 * 1024**2
"""Most bytes of a refused batch that are read and forgotten; with more behind its prefix the connection ends."""


class SocketSession:
    """Serves one client's connection. One thread at a time.

    Args:
        stream: After the handshake; owned.
        client: Incarnation of the client, proved by its ticket.
        core: Carries the batches out.
        staging: Room for tensors on their way, shared with the other transports.
        buffers: Pool of buffers for large tensors.
        shared: Where tensors may lie in shared memory; None if none is shared on this connection.
        header_bounds: What the header of a batch may be.
        is_alone: Returns whether no other connection is served; then the thread may keep its processor while it waits
            for the next request.
    """

    def __init__(
        self,
        stream: PeerStream,
        *,
        client: UUID,
        core: ParameterServer,
        staging: ByteBudget,
        buffers: BufferPool,
        shared: SharedBatches | None = None,
        header_bounds: HeaderBounds | None = None,
        is_alone: Callable[[], bool] = lambda: False,
    ):
        self.stream = stream
        self.client = spec_codec.decode_uuid(client.bytes, "client")  # the object that decoded batches hold too
        self._core = core
        self._answers = BatchAnswers(core, self.client, lambda: stream.is_open)
        self._staging = staging
        self._buffers = buffers
        self._shared = shared
        self._header_bounds = header_bounds or HeaderBounds()
        self._check_time: CheckTime | None = None  # while a large header is decoded
        self._is_alone = is_alone
        self._pooled: list[npt.NDArray[np.uint8]] = []
        self.is_unused = True
        """Whether nothing has come on it since the handshake."""

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
            self._log_end(end)
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
            stream.settle()
            stream.lend_scratch(memoryview(b""))
        return False

    def _log_end(self, end: ConnectionEnded) -> None:
        if self.stream.is_ended or not end.in_frame:
            _LOG.debug("%s: connection closed", self._who)
        else:
            _LOG.info(
                "%s: connection ended in the middle of a batch, of which nothing was applied: %s", self._who, str(end)
            )

    @property
    def _who(self) -> str:
        return self.stream.peer

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
            self._expect(started_s)
        prefix = framing.parse(stream.take(framing.prefix_bytes))
        if prefix.num_locations and self._shared is None:
            raise InvalidArgumentError("a frame names places in shared memory on a connection that shares none")
        rest_bytes = prefix.header_bytes + LOCATION_BYTES * prefix.num_locations + prefix.buffer_bytes
        if rest_bytes > stream.buffered_bytes:
            self._expect(started_s)
        if prefix.kind is FrameKind.SEGMENT_REQUEST and self._shared is not None:
            self._answer_segment_request(prefix, self._shared)
            return True
        if prefix.kind is not FrameKind.REQUEST:
            raise InvalidArgumentError(f"a client does not send frames of the kind {prefix.kind.name}")
        try:
            with StagingRoom(self._staging) as room:
                if rest_bytes > SCRATCH_BYTES:
                    try:
                        self._admit(prefix, room)
                    except ResourceExhaustedError as error:
                        return self._refuse(error, prefix, rest_bytes)
                header = self._read(prefix.header_bytes)
                try:
                    self._check_time = self._bounded(header, prefix, started_s, room)
                except ResourceExhaustedError as error:
                    return self._refuse(error, prefix, rest_bytes - prefix.header_bytes)
                if prefix.num_locations and self._shared is not None:
                    return self._answer_shared(header, prefix, started_s, self._shared, room)
                framing.check_header(header)
                return self._answer(header, prefix, started_s, room)
        finally:
            if self._pooled:
                self._buffers.give_back(self._pooled)

    def _admit(self, prefix: FramePrefix, room: StagingRoom) -> None:
        """Takes room for what of a large frame is received before its header is understood.

        Raises:
            ResourceExhaustedError: There is none now, or the tensors could never be staged, however long they took.
        """
        limit_bytes = self._staging.limit_bytes
        if limit_bytes and prefix.buffer_bytes > limit_bytes:
            raise ResourceExhaustedError(
                f"a batch announces tensors of {readable_bytes(prefix.buffer_bytes)}, and a batch may have "
                f"{readable_bytes(limit_bytes)} here altogether; move fewer variables at a time, or raise "
                f"--staging-limit",
                retryable=False,
            )
        head_bytes = prefix.header_bytes + LOCATION_BYTES * prefix.num_locations
        if head_bytes > SCRATCH_BYTES:
            room.take(head_bytes, "the batch's header")

    def _bounded(self, header: bytes, prefix: FramePrefix, started_s: float, room: StagingRoom) -> CheckTime | None:
        """Takes room for what a header becomes when it is decoded; returns what looks at the time meanwhile, or None.

        Raises:
            ResourceExhaustedError: There is none, or the header is beyond the bounds.
            InvalidArgumentError: It is no message.
        """
        decoded_bytes = self._header_bounds.decoded_bytes(header)
        if not decoded_bytes:
            return None
        room.take(decoded_bytes, "the batch's header")
        return TimeLeft(prefix.timeout_ms / 1000 - (time.monotonic() - started_s), time.monotonic).check

    def _expect(self, started_s: float) -> None:
        """Begins to wait for the rest of a frame."""
        self.stream.set_receive_timeout(self.stream.look_ms)
        self.stream.begin(started_s)

    def _read(self, size_bytes: int) -> bytes:
        stream = self.stream
        return bytes(stream.take(size_bytes) if size_bytes <= SCRATCH_BYTES else stream.read_large(size_bytes))

    def _head(self, header: bytes) -> RequestHead:
        try:
            return parse_request(header, self.client, self._check_time)
        except DecodeError as error:
            raise UnskippableError(f"the header of a batch is no BatchRequest: {error}") from error

    def _answer(
        self,
        header: bytes,
        prefix: FramePrefix,
        started_s: float,
        room: StagingRoom,
        target: memoryview | None = None,
    ) -> bool:
        """Receives the tensors of a batch, has it carried out and sends the reply, with room for both.

        Returns:
            Whether another frame may follow.
        """
        stream = self.stream
        if prefix.buffer_bytes <= UNSTAGED_BYTES:
            # The tensors are views of the scratch buffer, so the store must not keep them.
            data = stream.take(prefix.buffer_bytes)
            stream.framing.check_tensors((data,))
            if stream.is_slow:
                stream.settle()
            reply = self._answers.reply(lambda: self._head(header).batch_of(data), prefix, started_s, room)
        else:
            try:
                head = self._head(header)
                _check_size(head.data_bytes, prefix)
                buffers = self._make_room(head, room)
            except UnskippableError:
                raise
            except (ShardscopeError, MemoryError) as error:
                return self._refuse(error, prefix, prefix.buffer_bytes)
            self._receive_into(buffers)
            stream.framing.check_tensors(buffers)
            if stream.is_slow:
                stream.settle()
            reply = self._answers.reply(lambda: head.batch(buffers), prefix, started_s, room, take_operands=True)
            del buffers
            self._buffers.give_back(self._pooled)
            room.give_back(prefix.buffer_bytes)
        return self._send_answer(reply, prefix, prefix.buffer_bytes, target)

    def _refuse(self, error: Exception, prefix: FramePrefix, rest_bytes: int) -> bool:
        """Answers a batch of which the rest is not received: it is on its way already, and the next frame behind it.

        A rest that is too much to be skipped ends the connection. So does one of a peer that takes its time for it.

        Returns:
            Whether another frame may follow.
        """
        stream = self.stream
        if rest_bytes > MAX_SKIPPED_BYTES or (isinstance(error, ResourceExhaustedError) and not error.retryable):
            _LOG.warning("%s: connection ended: a batch was refused unread: %s", self._who, str(error))
            self._send_reason(error)
            return False
        stream.skip(rest_bytes)
        stream.settle()
        return self._send_answer(self._answers.error(error), prefix, 0)

    def _answer_shared(
        self, header: bytes, prefix: FramePrefix, started_s: float, shared: SharedBatches, room: StagingRoom
    ) -> bool:
        """As ``_answer``, for a batch with its tensors or room for its reply in shared memory.

        Raises:
            InvalidArgumentError, UnavailableError: The client may not name that memory.
        """
        reply_region, *regions = self._read_locations(prefix, header)
        target = shared.reply_room(reply_region)
        if not regions:
            return self._answer(header, prefix, started_s, room, target)
        if prefix.buffer_bytes:
            raise InvalidArgumentError("a frame has tensors in shared memory and behind its header")
        if self.stream.is_slow:
            self.stream.settle()
        try:
            head = self._head(header)
        except UnskippableError:
            raise
        except InvalidArgumentError as error:
            reply = self._answers.error(error)
        else:
            operands = shared.operands(head.layouts, regions)
            is_kept = self._core.keeps_operands
            reply = self._answers.reply(lambda: operands.batch(head, room, is_kept=is_kept), prefix, started_s, room)
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
        stream, framing = self.stream, self.stream.framing
        prefix = framing.prefix(kind, header, buffers=buffers, buffer_bytes=size_bytes, flags=flags, is_answer=True)
        size_bytes += framing.prefix_bytes + len(header)
        stream.deadline_s = NOT_BEGUN
        # Counted before it is sent, so that a client that has the reply finds it counted.
        self._core.count_bytes(received=received_bytes, sent=buffer_bytes)
        parts: list[Part] = [prefix, header, *buffers]
        before_send("reply.send", stream, parts, size_bytes)
        stream.send(parts, size_bytes)
        if stream.is_slow:
            stream.settle()

    def _send_reason(self, error: Exception) -> None:
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
