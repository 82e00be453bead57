"""Batches and replies as a protobuf header with tensor buffers beside it, and back.

Typed values become messages here; nothing behind this edge sees a message. Transports call ``request_bytes`` and
``reply_bytes``. These know common headers by their bytes, and call this module for all others. Both ways to read a
header give a ``RequestHead`` or a ``ReplyHead``.

What is decoded comes from another process. Whatever is malformed in it (a missing part, an unspecified enum, a tensor
header or a buffer of the wrong size, too many or too few buffers) is an ``InvalidArgumentError`` that says what, never
another exception. Encoding copies a tensor only where ``tensor_codec.encode`` must. Decoding copies none: the arrays of
a decoded batch or reply are views of the buffers given, writable if those are. Exceptions are tensors in a lossy form,
and tensors for which the caller gave an array. All functions are safe to call from many threads.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise, repeat
from typing import TypeAlias, cast
from zlib import crc32

import numpy as np

from ps_protocol.codec import tensor_codec
from ps_protocol.codec.error_codec import decode_error, encode_error
from ps_protocol.codec.operation_codec import decode_operation, encode_operation_into
from ps_protocol.codec.spec_codec import (
    TakeTensor,
    check_features,
    decode_enum,
    decode_spec,
    decode_uuid,
    encode_spec_into,
)
from ps_protocol.codec.tensor_codec import Buffer, TensorLayout
from ps_protocol.errors import InvalidArgumentError, ShardscopeError
from ps_protocol.operations import (
    READS,
    Array,
    Batch,
    BatchReply,
    Gather,
    PsOperation,
    Read,
    Reply,
    Result,
    VariableSpec,
    Verdict,
    WireDType,
)
from ps_protocol.v1 import batch_pb2
from ps_protocol.v1.tensor_pb2 import TensorHeader

_EXACT = WireDType.EXACT
_APPLIED = Verdict.APPLIED
_VERDICTS = {int(verdict): verdict for verdict in Verdict}
_PLACEHOLDER = np.empty(0, np.uint8)

WHOLE_BYTES = 16 * 1024
"""Tensors that are not more together have a checksum of all their bytes, which takes some 10 µs."""

_END_BYTES = 4 * 1024

_AT_A_TIME = 1024

CheckTime: TypeAlias = Callable[[], None]
"""Raises an error if time has run out."""

TensorReply: TypeAlias = tuple[int, bool, VariableSpec | None]
"""Version, initialized and spec of a reply whose tensor is beside the header."""

# -- requests -----------------------------------------------------------------------------------


class RequestHead(abc.ABC):
    """The header of a received request; its tensors may come later.

    Attributes:
        layouts: Of its tensors, in their order.
        data_bytes: Of all tensors together.
    """

    __slots__ = ("data_bytes", "layouts")

    layouts: Sequence[TensorLayout]
    data_bytes: int

    @abc.abstractmethod
    def batch(self, buffers: Sequence[Buffer]) -> Batch:
        """Returns the batch; its tensors are views of ``buffers`` where they travel exactly.

        Raises:
            InvalidArgumentError: The buffers are not those that belong beside the header.
        """

    @abc.abstractmethod
    def batch_of(self, data: memoryview) -> Batch:
        """The same, from tensors that lie end to end in ``data``; the views need not be aligned."""


class MessageRequest(RequestHead):
    """Any request. Checks the whole header first, so that no memory is taken for a malformed one.

    Args:
        message: The header.
        key: Its bytes apart from client and sequence, of which the checksum is made; empty for no checksum.
        check_time: Called now and then while operations are decoded; what it raises ends that.

    Raises:
        InvalidArgumentError: It is malformed.
    """

    __slots__ = ("_check_time", "_key", "_message")

    def __init__(self, message: batch_pb2.BatchRequest, key: bytes = b"", check_time: CheckTime | None = None):
        check_features(message.required_features, "the batch")
        self._message = message
        self._key = key
        self._check_time = check_time
        layouts: list[TensorLayout] = []

        def note(header: TensorHeader) -> Array:
            layouts.append(tensor_codec.parse_header(header))
            return _PLACEHOLDER

        _decode_batch(message, note, check_time)
        self.layouts = layouts
        self.data_bytes = sum([layout.size_bytes for layout in layouts])

    def batch(self, buffers: Sequence[Buffer]) -> Batch:
        check_number(buffers, self.layouts)
        tensors = map(tensor_codec.decode_as, self.layouts, buffers)
        batch = _decode_batch(self._message, lambda _header: next(tensors), self._check_time)
        if not batch.sequence or not self._key:
            return batch
        return replace(batch, checksum=batch_checksum(self._key, buffers, self.data_bytes))

    def batch_of(self, data: memoryview) -> Batch:
        check_size(data, self.data_bytes)
        ends = list(accumulate([layout.size_bytes for layout in self.layouts], initial=0))
        return self.batch([data[start:end] for start, end in pairwise(ends)])


def batch_checksum(key: bytes, buffers: Sequence[Buffer], data_bytes: int) -> int:
    """Returns what tells a batch from another one; the same whenever and however it is sent again. Never 0.

    Of larger tensors only the beginning and the end are looked at: all of 100 MiB would take longer than the update.

    Args:
        key: The bytes of its header apart from client and sequence.
        buffers: The bytes of its tensors.
        data_bytes: Of all of them together.
    """
    checksum = crc32(key)
    if data_bytes <= WHOLE_BYTES:
        for buffer in buffers:
            checksum = crc32(buffer, checksum)
    else:
        for buffer in buffers:
            if len(buffer) <= 2 * _END_BYTES:
                checksum = crc32(buffer, checksum)
            else:
                checksum = crc32(buffer[-_END_BYTES:], crc32(buffer[:_END_BYTES], checksum))
    return checksum or 1


def encode_batch(batch: Batch) -> tuple[batch_pb2.BatchRequest, list[memoryview]]:
    """Returns a batch as a header and the bytes of its tensors; they are the caller's own arrays where possible.

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


def _decode_operations(
    messages: Sequence[batch_pb2.Operation], take: TakeTensor, check_time: CheckTime | None
) -> tuple[PsOperation, ...]:
    if check_time is None or len(messages) <= _AT_A_TIME:
        return tuple([decode_operation(message, take) for message in messages])
    operations: list[PsOperation] = []
    for start in range(0, len(messages), _AT_A_TIME):
        check_time()
        operations += [decode_operation(message, take) for message in messages[start : start + _AT_A_TIME]]
    return tuple(operations)


def _decode_batch(header: batch_pb2.BatchRequest, take: TakeTensor, check_time: CheckTime | None) -> Batch:
    batch = Batch(
        client=decode_uuid(header.client_incarnation, "client incarnation"),
        store=decode_uuid(header.store_incarnation, "store incarnation"),
        sequence=header.sequence,
        operations=_decode_operations(header.operations, take, check_time),
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


# -- replies ------------------------------------------------------------------------------------


def encode_reply(
    reply: BatchReply, operations: Sequence[PsOperation] = ()
) -> tuple[batch_pb2.BatchReply, list[memoryview]]:
    """Returns a reply as a header and the bytes of its tensors; they are the caller's own arrays where possible.

    Args:
        reply: The reply.
        operations: Those that it answers. They say in which form the tensors travel; without them, all travel exactly.
            A tensor that cannot travel in the form asked for becomes an error of its operation.
    """
    header = batch_pb2.BatchReply()
    buffers: list[memoryview] = []
    add = header.replies.add
    for answer, operation in zip(reply.replies, operations or repeat(None), strict=False):
        if isinstance(answer, ShardscopeError):
            add(error=encode_error(answer))
            continue
        message = add(version=answer.version, initialized=answer.initialized)
        if answer.verdict is not _APPLIED:
            message.verdict = batch_pb2.OperationReply.Verdict.ValueType(answer.verdict)
        if answer.tensor is not None:
            if isinstance(operation, READS) and operation.wire is not _EXACT:
                _encode_lossy(message, answer.tensor, operation, buffers)
            else:
                buffers.append(tensor_codec.encode_into(message.tensor, answer.tensor))
        if answer.spec is not None:
            encode_spec_into(message.spec, answer.spec)
    return header, buffers


def _encode_lossy(
    message: batch_pb2.OperationReply, tensor: Array, operation: Read | Gather, buffers: list[memoryview]
) -> None:
    try:
        buffers.append(tensor_codec.encode_into(message.tensor, tensor, operation.wire))
    except InvalidArgumentError as error:
        refusal = InvalidArgumentError(f"{operation.name}: {error.message}", variable=operation.name)
        message.Clear()
        message.error.CopyFrom(encode_error(refusal))


class ReplyHead:
    """The header of a received reply; its tensors may come later.

    Args:
        operations: Those that it answers; empty if the caller gave no arrays for the tensors.
        replies: The replies, without their tensors.
        layouts: Of the tensors, in their order.
        targets: For each tensor the array that the caller gave for it, if any.

    Attributes:
        data_bytes: Of all tensors together.
    """

    __slots__ = ("_operations", "_replies", "data_bytes", "layouts", "targets")

    def __init__(
        self,
        operations: Sequence[PsOperation],
        replies: list[Reply | TensorReply],
        layouts: list[TensorLayout],
        targets: list[Array | None],
    ):
        self._operations = operations
        self._replies = replies
        self.layouts = layouts
        self.targets = targets
        self.data_bytes = sum([layout.size_bytes for layout in layouts]) if layouts else 0

    @property
    def answered(self) -> list[PsOperation]:
        """The operation that each of the tensors is the answer to."""
        replies = zip(self._replies, self._operations, strict=True)
        return [operation for reply, operation in replies if isinstance(reply, tuple)]

    def reply(self, buffers: Sequence[Buffer]) -> BatchReply:
        """Returns the reply.

        Args:
            buffers: The tensors' bytes. If the caller gave an array for a tensor, its buffer is best the array's own
                memory (``reply_targets.reply_buffers``); else the bytes are copied there.

        Raises:
            InvalidArgumentError: The buffers are not those that belong beside the header.
            InternalError: A caller's array does not fit its tensor.
        """
        check_number(buffers, self.layouts)
        return self._with_tensors(list(map(tensor_codec.decode_as, self.layouts, buffers, self.targets)))

    def reply_of(self, data: memoryview) -> BatchReply:
        """The same, from tensors that lie end to end in ``data``; each is copied into memory of its own."""
        check_size(data, self.data_bytes)
        tensors: list[Array] = []
        start = 0
        for layout, target in zip(self.layouts, self.targets, strict=True):
            if target is None and layout.wire is _EXACT:
                tensors.append(np.ndarray(layout.shape, layout.dtype, data, start).copy())
            else:
                tensors.append(tensor_codec.decode_as(layout, data[start : start + layout.size_bytes], target))
            start += layout.size_bytes
        return self._with_tensors(tensors)

    def _with_tensors(self, tensors: Sequence[Array]) -> BatchReply:
        if not tensors:
            return BatchReply(tuple(cast(list[Reply], self._replies)))
        taken = iter(tensors)
        return BatchReply(
            tuple(
                [
                    Result(each[0], each[1], next(taken), each[2]) if isinstance(each, tuple) else each
                    for each in self._replies
                ]
            )
        )


def reply_head(message: batch_pb2.BatchReply, operations: Sequence[PsOperation] = ()) -> ReplyHead:
    """Checks the header of a reply and returns what it says; ``operations`` are those that it answers, if known.

    Raises:
        InvalidArgumentError: It is malformed.
    """
    replies: list[Reply | TensorReply] = []
    layouts: list[TensorLayout] = []
    targets: list[Array | None] = []
    for each, operation in zip(message.replies, operations or repeat(None), strict=False):
        if each.HasField("error"):
            if each.HasField("tensor"):
                raise InvalidArgumentError("a reply has both an error and a tensor")
            replies.append(decode_error(each.error))
            continue
        spec = decode_spec(each.spec) if each.HasField("spec") else None
        if each.HasField("tensor"):
            layouts.append(tensor_codec.parse_header(each.tensor))
            targets.append(target_of(operation))
            replies.append((each.version, each.initialized, spec))
        else:
            verdict = decode_enum(_VERDICTS, each.verdict, "verdict on an update")
            replies.append(Result(each.version, each.initialized, None, spec, verdict))
    return ReplyHead(operations, replies, layouts, targets)


def target_of(operation: PsOperation | None) -> Array | None:
    """Returns the array that the caller gave for an operation's tensor, if any."""
    return operation.out if isinstance(operation, READS) else None


# -- both ---------------------------------------------------------------------------------------


def check_number(buffers: Sequence[Buffer], layouts: Sequence[TensorLayout]) -> None:
    """Raises InvalidArgumentError if tensors and buffers differ in number."""
    if len(buffers) != len(layouts):
        raise InvalidArgumentError(
            f"the message has {len(layouts)} tensor headers, but {len(buffers)} buffers are beside it"
        )


def check_size(data: memoryview, size_bytes: int) -> None:
    """Raises InvalidArgumentError if the tensors of a message have not that size."""
    if len(data) != size_bytes:
        raise InvalidArgumentError(f"the tensors of the message have {size_bytes} bytes, but {len(data)} are beside it")
