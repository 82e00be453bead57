"""Writes and reads the headers of replies as bytes, without message objects where all results are of the usual form.

On the wire they are the protobuf of ``batch.proto``, as in ``request_bytes``. Errors, specs, lossy forms and all else
that is not recognised here go through ``message_codec``. The same tensor headers come again and again, so their bytes
are kept by dtype and shape, and their layouts by those bytes. Versions are written and read by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError

from ps_protocol.codec import message_codec, tensor_codec
from ps_protocol.codec.fast.bounded_table import ENTRY_BYTES, BoundedTable
from ps_protocol.codec.fast.varints import LENGTH_DELIMITED, VARINT, decode_varint, encode_varint, field_tag
from ps_protocol.codec.message_codec import ReplyHead, TensorReply, target_of
from ps_protocol.codec.tensor_codec import TensorLayout
from ps_protocol.errors import InvalidArgumentError, ShardscopeError
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import READS, Array, BatchReply, PsOperation, Reply, Result, Verdict, WireDType
from ps_protocol.v1 import batch_pb2
from ps_protocol.v1.batch_pb2 import OperationReply
from ps_protocol.v1.tensor_pb2 import TensorHeader

_REPLY: Final = field_tag(batch_pb2.BatchReply.REPLIES_FIELD_NUMBER, LENGTH_DELIMITED)
_VERSION: Final = field_tag(OperationReply.VERSION_FIELD_NUMBER, VARINT)
_INITIALIZED: Final = field_tag(OperationReply.INITIALIZED_FIELD_NUMBER, VARINT) + b"\x01"
_TENSOR: Final = field_tag(OperationReply.TENSOR_FIELD_NUMBER, LENGTH_DELIMITED)
_REPLY_BYTE, _VERSION_BYTE, _TENSOR_BYTE = _REPLY[0], _VERSION[0], _TENSOR[0]
_INITIALIZED_BYTE, _TRUE = _INITIALIZED
_CONTINUED: Final = 0x80  # a byte of a varint from here on is not its last

_MAX_TENSOR_FIELD_BYTES: Final = 126
_EXACT: Final = WireDType.EXACT
_APPLIED: Final = Verdict.APPLIED

_tensor_fields: Final[BoundedTable[bytes]] = BoundedTable()
_tensor_layouts: Final[BoundedTable[TensorLayout]] = BoundedTable()


def encode_answer(reply: BatchReply, operations: Sequence[PsOperation]) -> tuple[bytes, list[memoryview]]:
    """Returns the header of a reply and the bytes of its tensors, as ``message_codec.encode_reply``."""
    fields: list[bytes] = []
    buffers: list[memoryview] = []
    for result, operation in zip(reply.replies, operations, strict=False):
        if isinstance(result, ShardscopeError) or result.spec is not None or not result.initialized:
            break
        if result.verdict is not _APPLIED:
            break
        tensor = result.tensor
        if tensor is None:
            data = b""
        elif isinstance(operation, READS) and operation.wire is not _EXACT:
            break
        else:
            data = _tensor_field(tensor)
            buffers.append(tensor_codec.contiguous_bytes(tensor))
        version = _VERSION + encode_varint(result.version) if result.version else b""
        data = version + _INITIALIZED + data
        fields.append(_REPLY + encode_varint(len(data)) + data)
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
        field = _TENSOR + encode_varint(len(data)) + data
        _tensor_fields.put(key, field, len(field) + ENTRY_BYTES)
    return field


def parse_reply(header: bytes, operations: Sequence[PsOperation]) -> ReplyHead:
    """Returns what the header of a reply says.

    Args:
        header: As received.
        operations: Of the batch that it answers.

    Raises:
        InvalidArgumentError: It is no message, is malformed, or answers another number of operations.
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
    return message_codec.reply_head(message, operations)


def _usual_head(header: bytes, operations: Sequence[PsOperation]) -> ReplyHead | None:
    """Returns what a header of versions and exact tensors says; None if there is anything else in it."""
    replies: list[Reply | TensorReply] = []
    layouts: list[TensorLayout] = []
    targets: list[Array | None] = []
    position, size = 0, len(header)
    try:
        for operation in operations:
            if header[position] != _REPLY_BYTE:
                return None
            length, start = header[position + 1], position + 2
            if length >= _CONTINUED:
                length, start = decode_varint(header, position + 1) or (0, size)
            position = start + length
            version = 0
            if header[start] == _VERSION_BYTE:
                version, start = header[start + 1], start + 2
                if version >= _CONTINUED:
                    version, start = decode_varint(header, start - 1) or (0, size)
            if header[start] != _INITIALIZED_BYTE or header[start + 1] != _TRUE:
                return None
            start += 2
            if start > position or position > size:
                return None
            if start == position:
                replies.append(Result(version, True))
                continue
            layout = _tensor_layout(header[start:position])
            if layout is None:
                return None
            layouts.append(layout)
            targets.append(target_of(operation))
            replies.append((version, True, None))
    except IndexError as error:  # it ends too early
        raise_interrupt(error)
        return None
    return ReplyHead(operations, replies, layouts, targets) if position == size else None


def _tensor_layout(field: bytes) -> TensorLayout | None:
    layout = _tensor_layouts.get(field)
    if layout is None:
        if field[0] != _TENSOR_BYTE or len(field) > _MAX_TENSOR_FIELD_BYTES:
            return None
        # Parsed as a reply with this field alone, so that the generated parser checks it.
        try:
            reply = OperationReply.FromString(field)
        except DecodeError:
            return None
        if [known.name for known, _ in reply.ListFields()] != ["tensor"]:
            return None
        layout = tensor_codec.parse_header(reply.tensor)
        if layout.wire is not _EXACT:
            return None
        _tensor_layouts.put(field, layout, len(field) + ENTRY_BYTES)
    return layout
