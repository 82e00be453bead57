"""The service ``Data`` of ``data.proto``: batches and their tensors over gRPC."""
# ruff: noqa: N802 - the names of the methods are the contract's

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Final
from uuid import UUID

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from ps_protocol.codec import service_codec, spec_codec
from ps_protocol.codec.chunks import Assembler, pieces
from ps_protocol.codec.fast.reply_bytes import encode_answer
from ps_protocol.codec.fast.request_bytes import parse_request
from ps_protocol.codec.header_bounds import SMALL_HEADER_BYTES, HeaderBounds
from ps_protocol.codec.limits import CHUNK_SIZE_BYTES, MAX_TAKEN_BYTES, UNARY_LIMIT_BYTES
from ps_protocol.codec.message_codec import RequestHead
from ps_protocol.errors import DeadlineExceededError, InvalidArgumentError, ResourceExhaustedError
from ps_protocol.grpc_edge.chunk_frames import REQUESTS, data_frame, exchange_message, header_frame, header_part
from ps_protocol.memory.allocator import keep_freed_chunks
from ps_protocol.operations import Batch, BatchReply
from ps_protocol.service_types import Welcome
from ps_protocol.v1 import data_pb2
from ps_server.core.parameter_server import ParameterServer
from ps_server.memory.buffer_pool import BufferPool
from ps_server.memory.byte_budget import ByteBudget, readable_bytes
from ps_server.memory.staging import StagingRoom
from ps_server.transport.grpc import faults as grpc_faults
from ps_server.transport.grpc.boundary import errors_as_status, message_handler, remaining_s, timeout_s, unary
from ps_server.transport.grpc.kept_streams import KeptStreams
from ps_server.transport.time_left import TimeLeft

_HEADER: Final = "the header of the batch, decoded,"
_PART: Final = "a part of the header of the batch"
_MESSAGE: Final = "the message of the batch"
_SLOWEST_BYTES_PER_S: Final = 1024**2
_SERVICE_NAME: Final = data_pb2.DESCRIPTOR.services_by_name["Data"].full_name


class DataServicer:
    """Hands batches to the core. Thread-safe.

    A batch is received whole before the core sees it, so that a client that breaks off has changed nothing. The bytes
    of requests and replies on their way, over all streams, are bounded.

    The two methods that carry tensors take and give messages as bytes (``ps_protocol.grpc_edge.chunk_frames``).

    Args:
        core: Carries the batches out.
        staging: Room for tensors on their way, shared with the other transports.
        buffers: Pool of buffers for large tensors, shared as well.
        offer: Adds the offers of other transports to the answer to a client's hello.
        max_kept_streams: How many streams may stay open between two batches; each occupies one of the server's threads.
        header_bounds: What the header of a batch may be.
        message_timeout_s: How long a client may take for a message; the tensors of a batch on a stream, or a header in
            parts, may take that long and a second for each MiB. 0 for ever.
        max_message_bytes: Most bytes of a message that the server takes, which clients are told.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        core: ParameterServer,
        *,
        staging: ByteBudget,
        buffers: BufferPool,
        offer: Callable[[Welcome, UUID], Welcome] | None = None,
        max_kept_streams: int = 32,
        header_bounds: HeaderBounds | None = None,
        message_timeout_s: float = 0.0,
        max_message_bytes: int = MAX_TAKEN_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._core = core
        self.task = core.task
        self._offer = offer
        self._staging = staging
        self._buffers = buffers
        self._kept_streams = KeptStreams(max_kept_streams)
        self._header_bounds = header_bounds or HeaderBounds()
        self._message_timeout_s = message_timeout_s
        self._max_message_bytes = max_message_bytes
        self._clock = clock

    @property
    def staged_bytes(self) -> int:
        """Bytes of batches on their way."""
        return self._staging.used_bytes

    def add_to(self, server: grpc.Server) -> None:
        """Adds the service to a server."""
        keep_freed_chunks()
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Hello": message_handler(self.Hello, data_pb2.HelloRequest, data_pb2.HelloReply),
            "Goodbye": message_handler(self.Goodbye, data_pb2.GoodbyeRequest, data_pb2.GoodbyeReply),
            "Exchange": grpc.unary_unary_rpc_method_handler(self.Exchange),
            "ExchangeMany": grpc.stream_stream_rpc_method_handler(self.ExchangeMany),
            "ExchangeStream": grpc.stream_stream_rpc_method_handler(self.ExchangeStream),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE_NAME, handlers),))

    def ExchangeStream(self, request_iterator: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Carries out the batches in ``RequestFrame``s; yields ``ReplyFrame``s."""
        with errors_as_status(context, self._core.task):
            _check_deadline(context)
            for first in request_iterator:
                yield from self._answer(first, request_iterator, context)

    def ExchangeMany(self, request_iterator: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Carries out ``ExchangeRequest``s; yields an ``ExchangeReply`` for each."""
        with errors_as_status(context, self._core.task):
            _check_deadline(context)
            with self._kept_streams.open() as stays_open:
                for request in request_iterator:
                    yield self._exchange(request, timeout_s(context), context.is_active)
                    if not stays_open():
                        return

    @unary
    def Hello(self, request: data_pb2.HelloRequest, timeout_s: float) -> data_pb2.HelloReply:
        version = service_codec.version_of_hello(request)
        client = spec_codec.decode_uuid(request.client_incarnation, "client incarnation")
        welcome = self._core.hello(
            client,
            request.task,
            num_ps_tasks=request.num_ps_tasks,
            for_reads=request.for_reads,
            timeout_s=timeout_s,
        )
        welcome = dataclasses.replace(welcome, max_message_bytes=self._max_message_bytes)
        return service_codec.encode_welcome(welcome if self._offer is None else self._offer(welcome, client), version)

    @unary
    def Goodbye(self, request: data_pb2.GoodbyeRequest, timeout_s: float) -> data_pb2.GoodbyeReply:
        client = spec_codec.decode_uuid(request.client_incarnation, "client incarnation")
        self._core.goodbye(client, timeout_s=timeout_s)
        return data_pb2.GoodbyeReply()

    def Exchange(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Carries out an ``ExchangeRequest``; returns the ``ExchangeReply``."""
        with errors_as_status(context, self._core.task):
            return self._exchange(request, timeout_s(context), context.is_active)

    def _exchange(self, request: bytes, timeout_s: float, is_wanted: Callable[[], bool]) -> bytes:
        time_left = TimeLeft(timeout_s, self._clock)
        with StagingRoom(self._staging) as room:
            if len(request) > SMALL_HEADER_BYTES:
                room.take(len(request), _MESSAGE)
            header, buffers = REQUESTS.message(request)
            if header_bytes := self._header_bounds.decoded_bytes(header):
                room.take(header_bytes, _HEADER)
            return self._exchange_message(_head(header, time_left).batch(buffers), buffers, time_left, is_wanted)

    def _exchange_message(
        self, batch: Batch, buffers: list[memoryview], time_left: TimeLeft, is_wanted: Callable[[], bool]
    ) -> bytes:
        reply_bytes = self._core.reply_size_bytes(batch.operations)
        if reply_bytes > UNARY_LIMIT_BYTES:
            raise ResourceExhaustedError(
                f"the reply's tensors have {readable_bytes(reply_bytes)}, more than the "
                f"{readable_bytes(UNARY_LIMIT_BYTES)} of one message; send the batch on ExchangeStream",
                retryable=False,
            )
        reply = self._have_carried_out(batch, time_left.checked_s(), is_wanted, take_operands=False)
        reply_header, reply_buffers = encode_answer(reply, batch.operations)
        self._core.count_bytes(received=sum(map(len, buffers)), sent=sum(map(len, reply_buffers)))
        (message,) = grpc_faults.sent(iter([exchange_message(reply_header, reply_buffers)]))
        return message

    def _have_carried_out(
        self, batch: Batch, timeout_s: float, is_wanted: Callable[[], bool], *, take_operands: bool
    ) -> BatchReply:
        for _ in range(grpc_faults.times_received()):
            reply = self._core.exchange(
                batch, timeout_s=timeout_s, lend_values=True, take_operands=take_operands, is_wanted=is_wanted
            )
        return reply

    def _answer(self, first: bytes, rest: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Takes in one batch and yields its reply, with room for both."""
        with StagingRoom(self._staging) as room:
            pooled: list[npt.NDArray[np.uint8]] = []
            try:
                header, buffers = self._carry_out(first, rest, context, room, pooled)
            finally:
                # The call above has dropped its views of them. Buffers that the store keeps are not free, and stay.
                self._buffers.give_back(pooled)
            yield from grpc_faults.sent(self._reply_frames(header, buffers))

    def _reply_frames(self, header: bytes, buffers: list[memoryview]) -> Iterator[bytes]:
        yield header_frame(header)
        for parts in pieces(buffers, CHUNK_SIZE_BYTES):
            yield data_frame(parts)
            self._core.count_bytes(received=0, sent=sum(map(len, parts)))

    def _carry_out(
        self,
        first: bytes,
        rest: Iterator[bytes],
        context: grpc.ServicerContext,
        room: StagingRoom,
        pooled: list[npt.NDArray[np.uint8]],
    ) -> tuple[bytes, list[memoryview]]:
        """Receives a batch and has it carried out; returns the reply, for which it leaves room taken.

        Args:
            first: The frame that it begins with.
            rest: The frames after that.
            context: Of the call.
            room: Gives room for the tensors of request and reply.
            pooled: The pool's buffers that were used are appended to it.

        Raises:
            InvalidArgumentError: The frames do not match the header.
            ResourceExhaustedError: There is no room for the tensors.
        """
        time_left = TimeLeft(timeout_s(context), self._clock)
        header = self._whole_header(first, rest, room)
        header_bytes = self._header_bounds.decoded_bytes(header)
        room.take(header_bytes, _HEADER)
        head = _head(header, time_left)
        layouts, received_bytes = head.layouts, head.data_bytes
        staged_bytes = received_bytes + sum([layout.decoded_bytes for layout in layouts])
        room.take(staged_bytes, "the batch's tensors")
        targets = [self._buffers.memory(layout.size_bytes, pooled) for layout in layouts]
        self._receive(rest, Assembler(targets))
        batch = head.batch(targets)
        room.take(self._core.reply_size_bytes(batch.operations), "the reply's tensors")
        reply = self._have_carried_out(batch, time_left.checked_s(), context.is_active, take_operands=True)
        room.give_back(staged_bytes + header_bytes)
        self._core.count_bytes(received=received_bytes, sent=0)
        return encode_answer(reply, batch.operations)

    def _whole_header(self, first: bytes, rest: Iterator[bytes], room: StagingRoom) -> bytes:
        """Returns the header of a batch, whose further parts it reads, as long as they come at a bearable speed."""
        began_s, received_bytes, parts, frame = self._clock(), 0, [], first
        while (part := header_part(frame)) is not None:
            received_bytes += len(part)
            self._header_bounds.check_size(received_bytes)
            room.take(len(part), _PART)
            parts.append(part)
            allowed_s = self._message_timeout_s + received_bytes / _SLOWEST_BYTES_PER_S
            if self._message_timeout_s and self._clock() > began_s + allowed_s:
                raise DeadlineExceededError(
                    f"the header of a batch was not whole after {allowed_s:.0f} s; nothing was applied: over a network "
                    f"that is so slow, raise --message-timeout of the ps"
                )
            following = next(rest, None)
            if following is None:
                raise InvalidArgumentError("the stream ended in the middle of a header; nothing was applied")
            frame = following
        return b"".join([*parts, _header_in(frame)]) if parts else _header_in(frame)

    def _receive(self, frames: Iterator[bytes], assembler: Assembler) -> None:
        """Reads the data frames that belong to a header, as long as they come at a bearable speed."""
        allowed_s = self._message_timeout_s + assembler.missing_bytes / _SLOWEST_BYTES_PER_S
        ends_s = self._clock() + allowed_s if self._message_timeout_s else math.inf
        while assembler.missing_bytes:
            frame = next(frames, None)
            if frame is None:
                raise InvalidArgumentError(
                    f"the stream ended {assembler.missing_bytes} bytes before the end of its batch; nothing was applied"
                )
            data = REQUESTS.data(frame)
            if data is None:
                raise InvalidArgumentError(
                    f"a frame that is not data came {assembler.missing_bytes} bytes before the end of a batch; nothing "
                    f"was applied"
                )
            assembler.feed(data)
            if self._clock() > ends_s and assembler.missing_bytes:
                raise DeadlineExceededError(
                    f"{assembler.missing_bytes} bytes of a batch's tensors had not come after {allowed_s:.0f} s; "
                    f"nothing was applied: over a network that is so slow, raise --message-timeout of the ps"
                )


def _check_deadline(context: grpc.ServicerContext) -> None:
    if remaining_s(context) is None:
        raise InvalidArgumentError("a stream without a deadline could be left open for ever; give the call a deadline")


def _header_in(frame: bytes) -> bytes:
    header = REQUESTS.header(frame)
    if header is None:
        raise InvalidArgumentError(
            "a batch on a stream begins with its header, but another frame came: the header is missing, or the batch "
            "before it was longer than its own header announced"
        )
    return header


def _head(header: bytes, time_left: TimeLeft) -> RequestHead:
    try:
        return parse_request(header, None, time_left.check)
    except DecodeError as error:
        raise InvalidArgumentError(f"a header of {len(header)} bytes is no BatchRequest: {error}") from error
