"""Batches and replies as a protobuf header with tensor buffers beside it, and back.

The edge where typed values become messages: servicer and transports use it, nothing behind them sees a message. The
messages of the other services are turned here as well (from ``service_codec``, ``spec_codec`` and ``error_codec``).

What is decoded comes from another process. Whatever is malformed in it (a missing part, an unspecified enum, a tensor
header or a buffer of the wrong size, too many or too few buffers) is an ``InvalidArgumentError`` that says what, never
another exception. Encoding copies no tensor that ``tensor_codec.encode`` need not copy, decoding copies none at all:
the arrays of a decoded batch or reply are views of the buffers given, writable if those are. All functions are safe
to call from many threads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ps_protocol import tensor_codec
from ps_protocol.error_codec import decode_error, encode_error
from ps_protocol.errors import InvalidArgumentError, ShardscopeError
from ps_protocol.operation_codec import decode_operation, encode_operation_into
from ps_protocol.operations import Array, Batch, BatchReply, Reply, Result
from ps_protocol.service_codec import (
    check_protocol_version,
    decode_member,
    decode_placement,
    decode_proposal,
    decode_status,
    decode_variable_info,
    decode_welcome,
    encode_member,
    encode_placement,
    encode_proposal,
    encode_status,
    encode_variable_info,
    encode_welcome,
)
from ps_protocol.spec_codec import TakeTensor, decode_spec, decode_uuid, encode_spec, encode_spec_into
from ps_protocol.tensor_codec import Buffer, TensorLayout
from ps_protocol.v1 import batch_pb2
from ps_protocol.v1.tensor_pb2 import TensorHeader

__all__ = [
    "check_protocol_version",
    "decode_batch",
    "decode_error",
    "decode_member",
    "decode_placement",
    "decode_proposal",
    "decode_reply",
    "decode_spec",
    "decode_status",
    "decode_uuid",
    "decode_variable_info",
    "decode_welcome",
    "encode_batch",
    "encode_error",
    "encode_member",
    "encode_placement",
    "encode_proposal",
    "encode_reply",
    "encode_spec",
    "encode_status",
    "encode_variable_info",
    "encode_welcome",
    "reply_layouts",
    "request_layouts",
]


def encode_batch(batch: Batch) -> tuple[batch_pb2.BatchRequest, list[memoryview]]:
    """Returns a batch as a header and the bytes of its tensors, which stay the caller's arrays' where they can.

    Raises:
        InvalidArgumentError: A tensor has a dtype that cannot be sent.
    """
    header = batch_pb2.BatchRequest(
        client_incarnation=batch.client.bytes, store_incarnation=batch.store.bytes, sequence=batch.sequence
    )
    buffers: list[memoryview] = []
    add = header.operations.add
    for operation in batch.operations:
        encode_operation_into(add(), operation, buffers)
    return header, buffers


def decode_batch(header: batch_pb2.BatchRequest, buffers: Sequence[Buffer]) -> Batch:
    """Returns the batch that a header and the buffers beside it hold.

    Raises:
        InvalidArgumentError: Header or buffers are malformed, or do not fit each other.
    """
    source = _BufferSource(buffers)
    batch = _decode_batch(header, source.take)
    source.finish()
    return batch


def request_layouts(header: batch_pb2.BatchRequest) -> list[TensorLayout]:
    """Returns the layouts of the buffers that belong beside a header, in their order.

    The whole header is checked, so that a malformed one is refused before memory is taken for its tensors.

    Raises:
        InvalidArgumentError: The header is malformed.
    """
    source = _LayoutSource()
    _decode_batch(header, source.take)
    return source.layouts


def encode_reply(reply: BatchReply) -> tuple[batch_pb2.BatchReply, list[memoryview]]:
    """Returns a reply as a header and the bytes of its tensors, which stay the caller's arrays' where they can."""
    header = batch_pb2.BatchReply()
    buffers: list[memoryview] = []
    add = header.replies.add
    for answer in reply.replies:
        if isinstance(answer, ShardscopeError):
            add(error=encode_error(answer))
        else:
            _encode_result(add(version=answer.version, initialized=answer.initialized), answer, buffers)
    return header, buffers


def decode_reply(header: batch_pb2.BatchReply, buffers: Sequence[Buffer]) -> BatchReply:
    """Returns the reply that a header and the buffers beside it hold.

    Raises:
        InvalidArgumentError: Header or buffers are malformed, or do not fit each other.
    """
    source = _BufferSource(buffers)
    reply = _decode_reply(header, source.take)
    source.finish()
    return reply


def reply_layouts(header: batch_pb2.BatchReply) -> list[TensorLayout]:
    """Returns the layouts of the buffers that belong beside a header, in their order; checks the whole header.

    Raises:
        InvalidArgumentError: The header is malformed.
    """
    source = _LayoutSource()
    _decode_reply(header, source.take)
    return source.layouts


class _BufferSource:
    """Hands out the tensors of a message, each a view of the next buffer."""

    def __init__(self, buffers: Sequence[Buffer]):
        self._num_buffers = len(buffers)
        self._remaining = iter(buffers)
        self._taken = 0

    def take(self, header: TensorHeader) -> Array:
        buffer = next(self._remaining, None)
        if buffer is None:
            raise InvalidArgumentError(
                f"the message has more tensor headers than buffers; there are {self._num_buffers} buffers beside it"
            )
        self._taken += 1
        return tensor_codec.decode(header, buffer)

    def finish(self) -> None:
        if self._taken != self._num_buffers:
            raise InvalidArgumentError(
                f"the message has {self._taken} tensor headers, but {self._num_buffers} buffers are beside it"
            )


class _LayoutSource:
    """Stands in for the tensors, which have not arrived, and notes their layouts.

    So the layouts come from the same walk over the header as the tensors later, and their order cannot differ.
    """

    _PLACEHOLDER = np.empty(0, np.uint8)

    def __init__(self) -> None:
        self.layouts: list[TensorLayout] = []

    def take(self, header: TensorHeader) -> Array:
        self.layouts.append(tensor_codec.parse_header(header))
        return self._PLACEHOLDER


def _decode_batch(header: batch_pb2.BatchRequest, take: TakeTensor) -> Batch:
    batch = Batch(
        client=decode_uuid(header.client_incarnation, "client incarnation"),
        store=decode_uuid(header.store_incarnation, "store incarnation"),
        sequence=header.sequence,
        operations=tuple([decode_operation(message, take) for message in header.operations]),
    )
    if batch.mutates and not batch.sequence:
        raise InvalidArgumentError(
            "the batch changes variables but has the sequence 0; number such batches 1, 2, 3, ... so that a batch "
            "sent twice counts once"
        )
    if batch.sequence and not batch.mutates:
        raise InvalidArgumentError(
            f"the batch changes nothing but has the sequence {batch.sequence}; send such batches with 0"
        )
    return batch


def _encode_result(message: batch_pb2.OperationReply, result: Result, buffers: list[memoryview]) -> None:
    if result.tensor is not None:
        buffers.append(tensor_codec.encode_into(message.tensor, result.tensor))
    if result.spec is not None:
        encode_spec_into(message.spec, result.spec)


def _decode_reply(header: batch_pb2.BatchReply, take: TakeTensor) -> BatchReply:
    return BatchReply(tuple([_decode_operation_reply(message, take) for message in header.replies]))


def _decode_operation_reply(message: batch_pb2.OperationReply, take: TakeTensor) -> Reply:
    has_tensor = message.HasField("tensor")
    if message.HasField("error"):
        if has_tensor:
            raise InvalidArgumentError("a reply has both an error and a tensor")
        return decode_error(message.error)
    return Result(
        message.version,
        message.initialized,
        take(message.tensor) if has_tensor else None,
        decode_spec(message.spec) if message.HasField("spec") else None,
    )
