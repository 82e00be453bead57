"""The service ``Data`` of ``data.proto``: batches and their tensors over gRPC."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from ps_protocol import message_codec
from ps_protocol.channel_options import CHUNK_SIZE_BYTES, UNARY_LIMIT_BYTES
from ps_protocol.errors import InvalidArgumentError, ResourceExhaustedError
from ps_protocol.frames import Assembler, cut
from ps_protocol.operations import Batch, BatchReply
from ps_protocol.v1 import batch_pb2, data_pb2, data_pb2_grpc
from ps_server.byte_budget import ByteBudget, readable_bytes
from ps_server.parameter_server import ParameterServer
from ps_server.rpc_boundary import errors_as_status, timeout_s, unary
from ps_server.transport.staging import StagingRoom


class DataServicer(data_pb2_grpc.DataServicer):
    """Hands batches to the core. Thread-safe.

    A batch is staged whole before the core sees it, so that a client that breaks off has changed nothing. The bytes
    staged, of requests and replies over all streams, are bounded.

    Args:
        core: Carries the batches out.
        staging_limit_bytes: The most that may be staged.
    """

    def __init__(self, core: ParameterServer, *, staging_limit_bytes: int):
        self._core = core
        self._staging = ByteBudget(staging_limit_bytes)

    @property
    def staged_bytes(self) -> int:
        """Bytes of batches on their way."""
        return self._staging.used_bytes

    def Hello(  # noqa: N802 - the name is the contract's
        self, request: data_pb2.HelloRequest, context: grpc.ServicerContext
    ) -> data_pb2.HelloReply:
        return unary(self._hello, request, context, self._core.task)

    def Goodbye(  # noqa: N802 - the name is the contract's
        self, request: data_pb2.GoodbyeRequest, context: grpc.ServicerContext
    ) -> data_pb2.GoodbyeReply:
        return unary(self._goodbye, request, context, self._core.task)

    def Exchange(  # noqa: N802 - the name is the contract's
        self, request: data_pb2.ExchangeRequest, context: grpc.ServicerContext
    ) -> data_pb2.ExchangeReply:
        return unary(self._exchange, request, context, self._core.task)

    def ExchangeStream(  # noqa: N802 - the name is the contract's
        self, request_iterator: Iterator[data_pb2.RequestFrame], context: grpc.ServicerContext
    ) -> Iterator[data_pb2.ReplyFrame]:
        with errors_as_status(context, self._core.task):
            if context.time_remaining() is None:
                raise InvalidArgumentError(
                    "a stream without a deadline could be left open for ever; give the call a deadline"
                )
            for first in request_iterator:
                yield from self._answer(first, request_iterator, context)

    def _hello(self, request: data_pb2.HelloRequest, timeout_s: float) -> data_pb2.HelloReply:
        message_codec.check_protocol_version(request.protocol_version, request.task or "the client")
        client = message_codec.decode_uuid(request.client_incarnation, "client incarnation")
        return message_codec.encode_welcome(self._core.hello(client, request.task, timeout_s=timeout_s))

    def _goodbye(self, request: data_pb2.GoodbyeRequest, timeout_s: float) -> data_pb2.GoodbyeReply:
        client = message_codec.decode_uuid(request.client_incarnation, "client incarnation")
        self._core.goodbye(client, timeout_s=timeout_s)
        return data_pb2.GoodbyeReply()

    def _exchange(self, request: data_pb2.ExchangeRequest, timeout_s: float) -> data_pb2.ExchangeReply:
        batch = message_codec.decode_batch(request.header, request.buffers)
        reply_bytes = self._core.reply_size_bytes(batch.operations)
        if reply_bytes > UNARY_LIMIT_BYTES:
            raise ResourceExhaustedError(
                f"the reply's tensors have {readable_bytes(reply_bytes)}, more than the "
                f"{readable_bytes(UNARY_LIMIT_BYTES)} of one message; send the batch on ExchangeStream",
                retryable=False,
            )
        header, buffers = message_codec.encode_reply(self._core.exchange(batch, timeout_s=timeout_s))
        reply = data_pb2.ExchangeReply(header=header, buffers=[bytes(buffer) for buffer in buffers])
        self._core.count_bytes(received=sum(map(len, request.buffers)), sent=sum(map(len, buffers)))
        return reply

    def _answer(
        self, first: data_pb2.RequestFrame, rest: Iterator[data_pb2.RequestFrame], context: grpc.ServicerContext
    ) -> Iterator[data_pb2.ReplyFrame]:
        """Takes in one batch and yields its reply, with room for both."""
        with StagingRoom(self._staging) as room:
            batch, received_bytes = _received_batch(first, rest, room)
            room.take(self._core.reply_size_bytes(batch.operations), "the reply's tensors")
            reply = self._core.exchange(batch, timeout_s=timeout_s(context))
            del batch
            room.give_back(received_bytes)
            self._core.count_bytes(received=received_bytes, sent=0)
            yield from self._reply_frames(reply)

    def _reply_frames(self, reply: BatchReply) -> Iterator[data_pb2.ReplyFrame]:
        header, buffers = message_codec.encode_reply(reply)
        yield data_pb2.ReplyFrame(header=header)
        for chunk in cut(buffers, CHUNK_SIZE_BYTES):
            yield data_pb2.ReplyFrame(data=chunk)
            self._core.count_bytes(received=0, sent=len(chunk))


def _received_batch(
    first: data_pb2.RequestFrame, rest: Iterator[data_pb2.RequestFrame], room: StagingRoom
) -> tuple[Batch, int]:
    """Reads the data frames that belong to a header; returns the batch and the bytes of its tensors.

    Raises:
        InvalidArgumentError: The frames are not what the header announces.
        ResourceExhaustedError: There is no room for the tensors.
    """
    header = _header_of(first)
    layouts = message_codec.request_layouts(header)
    size_bytes = sum(layout.size_bytes for layout in layouts)
    room.take(size_bytes, "the batch's tensors")
    assembler = Assembler(layouts)
    while assembler.missing_bytes:
        frame = next(rest, None)
        if frame is None:
            raise InvalidArgumentError(
                f"the stream ended {assembler.missing_bytes} bytes before the end of its batch; nothing was applied"
            )
        if frame.WhichOneof("frame") != "data":
            raise InvalidArgumentError(
                f"a frame that is not data came {assembler.missing_bytes} bytes before the end of a batch; nothing was "
                f"applied"
            )
        assembler.feed(frame.data)
    return message_codec.decode_batch(header, assembler.buffers), size_bytes


def _header_of(frame: data_pb2.RequestFrame) -> batch_pb2.BatchRequest:
    if frame.WhichOneof("frame") != "header":
        raise InvalidArgumentError(
            "a batch on a stream begins with its header, but another frame came: the header is missing, or the batch "
            "before it was longer than its own header announced"
        )
    return frame.header
