"""The headers of replies as bytes, made and read without message objects where they hold nothing but usual results.

As with ``request_bytes``, on the wire they are the protobuf of ``batch.proto``: errors, specs, lossy forms and whatever
else is not recognised here go through ``message_codec``. A tensor's header comes again and again, so its bytes are kept
by its dtype and shape, and its layout by its bytes; versions are written and read by hand.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError

from ps_protocol import message_codec, tensor_codec
from ps_protocol.bounded_table import ENTRY_BYTES, BoundedTable
from ps_protocol.errors import InvalidArgumentError, ShardscopeError
from ps_protocol.operations import READS, Array, BatchReply, Operation, Result, WireDType
from ps_protocol.tensor_codec import Buffer, TensorLayout
from ps_protocol.v1 import batch_pb2
from ps_protocol.v1.tensor_pb2 import TensorHeader
from ps_protocol.varints import decode_varint, encode_varint

# Tags: (number of the field << 3) | wire type, of batch.proto.
_REPLY: Final = 0x0A
_VERSION: Final = 0x10
_INITIALIZED: Final = b"\x18\x01"
_TENSOR: Final = 0x22
_CONTINUED: Final = 0x80  # a byte of a varint from here on is not its last

_MAX_TENSOR_FIELD_BYTES: Final = 126
_EXACT: Final = WireDType.EXACT

_tensor_fields: Final[BoundedTable[bytes]] = BoundedTable()
_tensor_layouts: Final[BoundedTable[TensorLayout]] = BoundedTable()


def encode_answer(reply: BatchReply, operations: Sequence[Operation]) -> tuple[bytes, list[memoryview]]:
    """Returns the header of a reply and the bytes of its tensors, as ``message_codec.encode_reply``."""
    fields: list[bytes] = []
    buffers: list[memoryview] = []
    for result, operation in zip(reply.replies, operations, strict=False):
        if isinstance(result, ShardscopeError) or result.spec is not None or not result.initialized:
            break
        tensor = result.tensor
        if tensor is None:
            data = b""
        elif isinstance(operation, READS) and operation.wire is not _EXACT:
            break
        else:
            data = _tensor_field(tensor)
            buffers.append(tensor_codec.contiguous_bytes(tensor))
        version = b"\x10" + encode_varint(result.version) if result.version else b""
        data = version + _INITIALIZED + data
        fields.append(b"\x0a" + encode_varint(len(data)) + data)
    if len(fields) == len(reply.replies):
        return b"".join(fields), buffers
    message, buffers = message_codec.encode_reply(reply, operations)
    return message.SerializeToString(), buffers


def _tensor_field(tensor: Array) -> bytes:
    key = (tensor.dtype, tensor.shape)
    field = _tensor_fields.get(key)
    if field is None:
        header = TensorHeader()
        tensor_codec.encode_into(header, tensor)
        data = header.SerializeToString()
        field = b"\x22" + encode_varint(len(data)) + data
        _tensor_fields.put(key, field, len(field) + ENTRY_BYTES)
    return field


class ReplyHead(abc.ABC):
    """The header of a reply as received, whose tensors may be still to come.

    Attributes:
        layouts: Of the tensors that belong beside it, in their order.
        data_bytes: What they have together.
    """

    layouts: Sequence[TensorLayout]
    data_bytes: int

    @property
    @abc.abstractmethod
    def answered(self) -> list[Operation]:
        """The operation that each of the tensors is the answer to."""

    @property
    def targets(self) -> list[Array | None]:
        """For each tensor the array that the caller gave for it, if any."""
        return [operation.out if isinstance(operation, READS) else None for operation in self.answered]

    @abc.abstractmethod
    def reply(self, buffers: Sequence[Buffer]) -> BatchReply:
        """Returns the reply.

        Args:
            buffers: The tensors' bytes. Of one that belongs into an array of the caller's, as its operation says, they
                are best that array's own (``reply_targets.reply_buffers``); else they are copied there.

        Raises:
            InvalidArgumentError: The buffers are not those that belong beside the header.
            InternalError: A caller's array does not fit its tensor.
        """

    @abc.abstractmethod
    def reply_of(self, data: memoryview) -> BatchReply:
        """The same with the tensors end to end, which are copied: each has memory of its own."""


class _UsualHead(ReplyHead):
    """Of versions, and tensors in their exact form."""

    def __init__(self, versions: list[int], layouts: list[TensorLayout | None], operations: Sequence[Operation]):
        self._versions = versions
        self._layouts = layouts
        self._operations = operations
        self.layouts = [layout for layout in layouts if layout is not None]
        self.data_bytes = sum([layout.size_bytes for layout in self.layouts])

    @property
    def answered(self) -> list[Operation]:
        return [
            operation for operation, layout in zip(self._operations, self._layouts, strict=True) if layout is not None
        ]

    def reply(self, buffers: Sequence[Buffer]) -> BatchReply:
        if [len(buffer) for buffer in buffers] != [layout.size_bytes for layout in self.layouts]:
            raise InvalidArgumentError("the buffers beside a reply are not those that its header announces")
        remaining = iter(buffers)
        replies: list[Result] = []
        for version, layout, operation in zip(self._versions, self._layouts, self._operations, strict=True):
            array: Array | None = None
            if layout is not None:
                array = np.ndarray(layout.shape, layout.dtype, next(remaining))
                target = operation.out if isinstance(operation, READS) else None
                if target is not None:
                    array = _in_place(target, array)
            replies.append(Result(version, True, array))
        return BatchReply(tuple(replies))

    def reply_of(self, data: memoryview) -> BatchReply:
        if len(data) != self.data_bytes:
            raise InvalidArgumentError(
                f"the tensors of the message have {self.data_bytes} bytes, but {len(data)} are beside it"
            )
        offset = 0
        replies: list[Result] = []
        for version, layout, operation in zip(self._versions, self._layouts, self._operations, strict=True):
            array: Array | None = None
            if layout is not None:
                array = np.ndarray(layout.shape, layout.dtype, data, offset)
                offset += layout.size_bytes
                target = operation.out if isinstance(operation, READS) else None
                array = array.copy() if target is None else _copied(target, array)
            replies.append(Result(version, True, array))
        return BatchReply(tuple(replies))


class _MessageHead(ReplyHead):
    """Of anything."""

    def __init__(self, message: batch_pb2.BatchReply, operations: Sequence[Operation]):
        self._message = message
        self._operations = operations
        self.layouts = message_codec.reply_layouts(message)
        self.data_bytes = sum([layout.size_bytes for layout in self.layouts])

    @property
    def answered(self) -> list[Operation]:
        return [
            operation
            for message, operation in zip(self._message.replies, self._operations, strict=True)
            if message.HasField("tensor")
        ]

    def reply(self, buffers: Sequence[Buffer]) -> BatchReply:
        return message_codec.decode_reply(self._message, buffers, self._operations)

    def reply_of(self, data: memoryview) -> BatchReply:
        return message_codec.decode_reply_of(self._message, data, self._operations)


def parse_reply(header: bytes, operations: Sequence[Operation]) -> ReplyHead:
    """Returns what the header of a reply says.

    Args:
        header: As received.
        operations: Of the batch that it answers.

    Raises:
        InvalidArgumentError: It is no message, malformed, or not the answer to so many operations.
    """
    usual = _usual_head(header, operations)
    if usual is not None:
        return usual
    try:
        message = batch_pb2.BatchReply.FromString(header)
    except DecodeError as error:
        raise InvalidArgumentError(f"a header of {len(header)} bytes is no BatchReply: {error}") from error
    if len(message.replies) != len(operations):
        raise InvalidArgumentError(f"a reply has {len(message.replies)} answers to {len(operations)} operations")
    return _MessageHead(message, operations)


def _usual_head(header: bytes, operations: Sequence[Operation]) -> _UsualHead | None:
    versions: list[int] = []
    layouts: list[TensorLayout | None] = []
    position, size = 0, len(header)
    try:
        while position < size:
            if header[position] != _REPLY:
                return None
            length, start = header[position + 1], position + 2
            if length >= _CONTINUED:
                length, start = decode_varint(header, position + 1) or (0, size)
            position = start + length
            version = 0
            if header[start] == _VERSION:
                version, start = header[start + 1], start + 2
                if version >= _CONTINUED:
                    version, start = decode_varint(header, start - 1) or (0, size)
            if header[start] != _INITIALIZED[0] or header[start + 1] != _INITIALIZED[1]:
                return None
            start += len(_INITIALIZED)
            if start > position or position > size:
                return None
            layout = None
            if start != position:
                layout = _tensor_layout(header[start:position])
                if layout is None:
                    return None
            versions.append(version)
            layouts.append(layout)
    except IndexError:  # it ends too early
        return None
    return _UsualHead(versions, layouts, operations) if len(versions) == len(operations) else None


def _tensor_layout(field: bytes) -> TensorLayout | None:
    layout = _tensor_layouts.get(field)
    if layout is None:
        if field[0] != _TENSOR or len(field) > _MAX_TENSOR_FIELD_BYTES:
            return None
        # As the only field of a reply that has one: so the generated parser says whether it is well-formed.
        try:
            reply = batch_pb2.OperationReply.FromString(field)
        except DecodeError:
            return None
        if [known.name for known, _ in reply.ListFields()] != ["tensor"]:
            return None
        layout = tensor_codec.parse_header(reply.tensor)
        if layout.wire is not _EXACT:
            return None
        _tensor_layouts.put(field, layout, len(field) + ENTRY_BYTES)
    return layout


def _in_place(target: Array, array: Array) -> Array:
    """Returns the caller's array with what was received, which may be there already."""
    return target if np.may_share_memory(array, target) else _copied(target, array)


def _copied(target: Array, array: Array) -> Array:
    tensor_codec.check_target(target, array.dtype, array.shape)
    np.copyto(target, array)
    return target
