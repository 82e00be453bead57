"""Batches and replies as a protobuf header with tensor buffers beside it, and back.

The edge where typed values become messages: servicer and transports use it, nothing behind them sees a message. The
messages of the other services are turned here as well (from ``service_codec``, ``spec_codec`` and ``error_codec``).

What is decoded comes from another process. Whatever is malformed in it (a missing part, an unspecified enum, a tensor
header or a buffer of the wrong size, too many or too few buffers) is an ``InvalidArgumentError`` that says what, never
another exception. Encoding copies no tensor that ``tensor_codec.encode`` need not copy, decoding copies none at all:
the arrays of a decoded batch or reply are views of the buffers given, writable if those are, except for tensors in a
lossy form and for those that are to be put into an array of the caller's. All functions are safe to call from many
threads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ps_protocol import tensor_codec
from ps_protocol.error_codec import decode_error, encode_error
from ps_protocol.errors import InvalidArgumentError, ShardscopeError
from ps_protocol.operation_codec import decode_operation, encode_operation_into
from ps_protocol.operations import (
    READS,
    Array,
    Batch,
    BatchReply,
    Gather,
    Operation,
    Read,
    Reply,
    Result,
    WireDType,
)
from ps_protocol.reply_targets import has_targets, reply_targets
from ps_protocol.service_codec import (
    check_protocol_version,
    decode_member,
    decode_placement,
    decode_proposal,
    decode_ps_address,
    decode_status,
    decode_variable_info,
    decode_welcome,
    encode_member,
    encode_placement,
    encode_proposal,
    encode_ps_address,
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
    "decode_batch_of",
    "decode_error",
    "decode_member",
    "decode_placement",
    "decode_proposal",
    "decode_ps_address",
    "decode_reply",
    "decode_reply_of",
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
    "encode_ps_address",
    "encode_reply",
    "encode_spec",
    "encode_status",
    "encode_variable_info",
    "encode_welcome",
    "reply_layouts",
    "request_layouts",
]


_EXACT = WireDType.EXACT


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


def decode_batch_of(header: batch_pb2.BatchRequest, data: memoryview) -> Batch:
    """The same for buffers that lie end to end in ``data``, cut by what the header says of them, in one walk.

    The tensors are views of ``data`` and need not be aligned.

    Raises:
        InvalidArgumentError: Header or data are malformed, or do not fit each other.
    """
    source = _EndToEndSource(data)
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


def encode_reply(
    reply: BatchReply, operations: Sequence[Operation] = ()
) -> tuple[batch_pb2.BatchReply, list[memoryview]]:
    """Returns a reply as a header and the bytes of its tensors, which stay the caller's arrays' where they can.

    Args:
        reply: What was answered.
        operations: Of the batch that it answers, which say in what form the tensors are to travel; without them all
            travel exactly. A tensor that cannot travel in the form asked for becomes an error of its operation.
    """
    header = batch_pb2.BatchReply()
    buffers: list[memoryview] = []
    add = header.replies.add
    lossy = _lossy_replies(operations) if operations else {}
    for position, answer in enumerate(reply.replies):
        if isinstance(answer, ShardscopeError):
            add(error=encode_error(answer))
        elif lossy and position in lossy:
            _encode_lossy_result(add(), answer, lossy[position], buffers)
        else:
            _encode_result(add(version=answer.version, initialized=answer.initialized), answer, buffers)
    return header, buffers


def decode_reply(
    header: batch_pb2.BatchReply, buffers: Sequence[Buffer], operations: Sequence[Operation] = ()
) -> BatchReply:
    """Returns the reply that a header and the buffers beside it hold.

    Args:
        header: As received.
        buffers: As received; of an exact tensor that has its place in an ``out`` best that array's own bytes
            (``reply_targets.reply_buffers``), or else they are copied there.
        operations: Of the batch that it answers, which say where to put the tensors.

    Raises:
        InvalidArgumentError: Header or buffers are malformed, or do not fit each other.
        InternalError: An ``out`` does not fit its tensor.
    """
    targets = reply_targets(header, operations) if has_targets(operations) else ()
    source = _TargetSource(buffers, targets) if targets else _BufferSource(buffers)
    reply = _decode_reply(header, source.take)
    source.finish()
    return reply


def decode_reply_of(header: batch_pb2.BatchReply, data: memoryview, operations: Sequence[Operation] = ()) -> BatchReply:
    """The same for buffers that lie end to end in ``data``; the tensors are copies, each with memory of its own.

    Raises:
        InvalidArgumentError: Header or data are malformed, or do not fit each other.
        InternalError: An ``out`` does not fit its tensor.
    """
    source = _EndToEndSource(data)
    if has_targets(operations):
        reply = decode_reply(header, source.cut(reply_layouts(header)), operations)
    else:
        reply = _decode_reply(header, source.take_copy)
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
        return tensor_codec.decode(header, self._next_buffer())

    def _next_buffer(self) -> Buffer:
        buffer = next(self._remaining, None)
        if buffer is None:
            raise InvalidArgumentError(
                f"the message has more tensor headers than buffers; there are {self._num_buffers} buffers beside it"
            )
        self._taken += 1
        return buffer

    def finish(self) -> None:
        if self._taken != self._num_buffers:
            raise InvalidArgumentError(
                f"the message has {self._taken} tensor headers, but {self._num_buffers} buffers are beside it"
            )


class _TargetSource(_BufferSource):
    """The same where the caller has given arrays for some tensors: those are filled, and are the tensors."""

    def __init__(self, buffers: Sequence[Buffer], targets: Sequence[Array | None]):
        super().__init__(buffers)
        self._targets = iter(targets)

    def take(self, header: TensorHeader) -> Array:
        target = next(self._targets, None)
        if target is None:
            return super().take(header)
        array = tensor_codec.decode(header, self._next_buffer(), target)
        if array is not target:
            tensor_codec.check_target(target, array.dtype, array.shape)
            if not np.may_share_memory(array, target):  # else it was received in its place
                np.copyto(target, array)
        return target


class _EndToEndSource:
    """Hands out the tensors of a message, each a view of the next bytes."""

    def __init__(self, data: memoryview):
        self._data = data
        self._offset = 0

    def take(self, header: TensorHeader) -> Array:
        array, self._offset = tensor_codec.decode_at(header, self._data, self._offset)
        return array

    def take_copy(self, header: TensorHeader) -> Array:
        return self.take(header).copy()

    def cut(self, layouts: Sequence[TensorLayout]) -> list[Buffer]:
        """Returns copies of the next buffers, in memory of their own."""
        buffers: list[Buffer] = []
        for layout in layouts:
            start = self._offset
            self._offset = start + layout.size_bytes
            buffers.append(bytearray(self._data[start : self._offset]))
        return buffers

    def finish(self) -> None:
        if self._offset != len(self._data):
            raise InvalidArgumentError(
                f"the tensors of the message have {self._offset} bytes, but {len(self._data)} are beside it"
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


def _lossy_replies(operations: Sequence[Operation]) -> dict[int, Read | Gather]:
    return {
        position: operation
        for position, operation in enumerate(operations)
        if isinstance(operation, READS) and operation.wire is not _EXACT
    }


def _encode_lossy_result(
    message: batch_pb2.OperationReply, result: Result, operation: Read | Gather, buffers: list[memoryview]
) -> None:
    if result.tensor is not None:
        try:
            buffers.append(tensor_codec.encode_into(message.tensor, result.tensor, operation.wire))
        except InvalidArgumentError as error:
            message.ClearField("tensor")
            refusal = InvalidArgumentError(f"{operation.name}: {error.message}", variable=operation.name)
            message.error.CopyFrom(encode_error(refusal))
            return
    message.version, message.initialized = result.version, result.initialized


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
