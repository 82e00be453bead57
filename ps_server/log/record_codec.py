"""Records of a ps task's changes as a protobuf header with tensor buffers beside it, and back.

The only module that knows ``records.proto``; the journal and the stream to a backup use it. Operations are written
exactly: logged operations have no lossy form (``logged_batches``).

Decoded bytes come from a disk or from another process. A malformed record raises ``InvalidArgumentError`` with the
record's position, never another exception. Encoding copies only the tensors that ``tensor_codec.encode`` has to copy.
All functions are safe to call from many threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError

from ps_protocol.codec import message_codec, tensor_codec
from ps_protocol.codec.operation_codec import decode_operation, encode_operation_into
from ps_protocol.codec.service_codec import decode_placement, encode_placement
from ps_protocol.codec.spec_codec import TakeTensor, check_features, decode_spec, decode_uuid, encode_spec_into
from ps_protocol.codec.tensor_codec import Buffer, TensorLayout
from ps_protocol.errors import InvalidArgumentError, ShardscopeError
from ps_protocol.operation_kinds import KINDS, Logged
from ps_protocol.operations import Array, BatchReply
from ps_protocol.service_types import Placement
from ps_protocol.v1 import batch_pb2, records_pb2, snapshot_pb2
from ps_protocol.v1.tensor_pb2 import TensorHeader
from ps_server.log.records import (
    AppliedBatch,
    ClientJoined,
    ClientLeft,
    Declared,
    LoggedRecord,
    Placed,
    Record,
    Restored,
    Staged,
)
from ps_server.log.restore_mark import RestoreMark
from ps_server.store.stored_variable import VariableImage

_T = TypeVar("_T")
_PLACEHOLDER = np.empty(0, np.uint8)


def encode_record(logged: LoggedRecord) -> tuple[records_pb2.Record, list[memoryview]]:
    """Returns a record as a header and the bytes of its tensors, which are views of the record's arrays where possible.

    Raises:
        InvalidArgumentError: A tensor has a dtype that cannot be written; no batch that a transport received has one.
    """
    header = records_pb2.Record(position=logged.position)
    buffers: list[memoryview] = []
    _encode_kind(header, logged.record, buffers)
    return header, buffers


def parse_record(data: Buffer) -> records_pb2.Record:
    """Returns the header that its serialised bytes hold.

    Raises:
        InvalidArgumentError: They are not a header.
    """
    try:
        return records_pb2.Record.FromString(bytes(data))
    except DecodeError as error:
        raise InvalidArgumentError(f"{len(data)} bytes are not the header of a record: {error}") from error


def record_layouts(header: records_pb2.Record) -> list[TensorLayout]:
    """Returns the layouts of the buffers that belong beside a header, in their order; checks the whole header.

    Raises:
        InvalidArgumentError: The header is malformed.
    """
    layouts: list[TensorLayout] = []

    def note(tensor: TensorHeader) -> Array:
        layouts.append(tensor_codec.parse_header(tensor))
        return _PLACEHOLDER

    def decode_reply(reply: batch_pb2.BatchReply) -> BatchReply:
        layouts.extend(message_codec.reply_head(reply).layouts)
        return BatchReply(())

    _named(header, lambda: _decode_kind(header, note, decode_reply))
    return layouts


def decode_record(header: records_pb2.Record, buffers: Sequence[Buffer]) -> LoggedRecord:
    """Returns the record that a header and the buffers beside it hold; its tensors are views of those.

    Raises:
        InvalidArgumentError: Header or buffers are malformed, or do not fit each other.
    """
    taken = 0

    def take(tensor: TensorHeader) -> Array:
        nonlocal taken
        if taken == len(buffers):
            raise InvalidArgumentError(f"it has more tensors than the {len(buffers)} buffers beside it")
        taken += 1
        return tensor_codec.decode(tensor, buffers[taken - 1])

    def decode_reply(reply: batch_pb2.BatchReply) -> BatchReply:
        nonlocal taken
        start, taken = taken, len(buffers)
        return message_codec.reply_head(reply).reply(buffers[start:])

    def decode() -> Record:
        record = _decode_kind(header, take, decode_reply)
        if taken != len(buffers):
            raise InvalidArgumentError(f"it has {taken} tensors, but {len(buffers)} buffers are beside it")
        return record

    return LoggedRecord(header.position, _named(header, decode))


def decode_record_of(header: records_pb2.Record, data: memoryview) -> LoggedRecord:
    """As ``decode_record``, for buffers that lie end to end in ``data``; each tensor is a copy.

    Raises:
        InvalidArgumentError: Header or data are malformed, or do not fit each other.
    """
    offset = 0

    def take(tensor: TensorHeader) -> Array:
        nonlocal offset
        array, offset = tensor_codec.decode_at(tensor, data, offset)
        return array.copy()

    def decode_reply(reply: batch_pb2.BatchReply) -> BatchReply:
        nonlocal offset
        start, offset = offset, len(data)
        return message_codec.reply_head(reply).reply_of(data[start:])

    def decode() -> Record:
        record = _decode_kind(header, take, decode_reply)
        if offset != len(data):
            raise InvalidArgumentError(f"its tensors have {offset} bytes, but {len(data)} are beside it")
        return record

    return LoggedRecord(header.position, _named(header, decode))


# -- encoding ---------------------------------------------------------------------------------


def _encode_kind(header: records_pb2.Record, record: Record, buffers: list[memoryview]) -> None:
    match record:
        case AppliedBatch():
            _encode_batch(header.batch, record, buffers)
        case Declared(operation):
            encode_operation_into(header.declared, operation, buffers)
        case Placed(placements):
            header.placed.SetInParent()
            header.placed.placements.extend([encode_placement(placement) for placement in placements])
        case ClientJoined(client, task):
            header.client_joined.client_incarnation, header.client_joined.task = client.bytes, task
        case Staged(restore, image):
            header.staged.restore = restore.bytes
            encode_image_into(header.staged.variable, image, buffers)
        case Restored(mark, placements):
            encode_mark_into(header.restored, mark)
            header.restored.placements.extend([encode_placement(placement) for placement in placements])
        case ClientLeft(client, reason):
            header.client_left.client_incarnation, header.client_left.reason = client.bytes, reason


def _encode_batch(message: records_pb2.AppliedBatch, record: AppliedBatch, buffers: list[memoryview]) -> None:
    message.client_incarnation, message.sequence = record.client.bytes, record.sequence
    message.checksum = record.checksum
    add = message.operations.add
    for operation in record.operations:
        encode_operation_into(add(), operation, buffers)
    reply, tensors = message_codec.encode_reply(record.reply)
    message.reply.CopyFrom(reply)
    buffers += tensors


def encode_image_into(message: snapshot_pb2.ImageVariable, variable: VariableImage, buffers: list[memoryview]) -> None:
    """Fills an empty message with a variable, and appends the bytes of its value."""
    encode_spec_into(message.spec, variable.spec)
    message.version = variable.version
    if variable.declared is not None:
        encode_spec_into(message.declared, variable.declared)
    if variable.value is not None:
        header, buffer = tensor_codec.encode(variable.value)
        message.value.CopyFrom(header)
        buffers.append(buffer)


def encode_mark_into(message: snapshot_pb2.RestoreMark, mark: RestoreMark) -> None:
    """Fills an empty message."""
    message.restore, message.source, message.complete = mark.restore.bytes, mark.source, mark.is_complete


# -- decoding ---------------------------------------------------------------------------------


def _named(header: records_pb2.Record, decode: Callable[[], _T]) -> _T:
    try:
        return decode()
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"the record {header.position}: {error.message}", variable=error.variable) from error


def _decode_kind(
    header: records_pb2.Record, take: TakeTensor, decode_reply: Callable[[batch_pb2.BatchReply], BatchReply]
) -> Record:
    if not header.position:
        raise InvalidArgumentError("it lacks its position")
    check_features(header.required_features, "it")
    kind = header.WhichOneof("kind")
    if kind == "batch":
        batch = header.batch
        return AppliedBatch(
            client=decode_uuid(batch.client_incarnation, "client incarnation"),
            sequence=batch.sequence,
            operations=tuple([decode_operation(message, take) for message in batch.operations]),
            reply=decode_reply(batch.reply),
            checksum=batch.checksum,
        )
    decode: Callable[[Any, TakeTensor], Record] | None = _DECODERS.get(kind or "")
    if decode is None:
        raise InvalidArgumentError("it lacks its kind, or has one that this version does not know")
    return decode(getattr(header, kind or ""), take)


def _decode_declared(message: batch_pb2.Operation, take: TakeTensor) -> Declared:
    operation = decode_operation(message, take)
    if KINDS[type(operation)].logged is not Logged.BEFORE_ITS_BATCH:
        raise InvalidArgumentError(f"{operation.name}: a {type(operation).__name__} is no declaration")
    return Declared(operation)


def _decode_placed(message: records_pb2.Placed, _take: TakeTensor) -> Placed:
    return Placed(tuple([_granted(decode_placement(each)) for each in message.placements]))


def _granted(placement: Placement | ShardscopeError) -> Placement:
    if isinstance(placement, ShardscopeError):
        raise InvalidArgumentError(f"one of its placements is an error: {placement.message}")
    return placement


def _decode_joined(message: records_pb2.ClientJoined, _take: TakeTensor) -> ClientJoined:
    return ClientJoined(decode_uuid(message.client_incarnation, "client incarnation"), message.task)


def _decode_left(message: records_pb2.ClientLeft, _take: TakeTensor) -> ClientLeft:
    return ClientLeft(decode_uuid(message.client_incarnation, "client incarnation"), message.reason)


def decode_image(message: snapshot_pb2.ImageVariable, take: TakeTensor) -> VariableImage:
    """Returns a variable; its value may not fit its spec."""
    value = take(message.value) if message.HasField("value") else None
    declared = decode_spec(message.declared) if message.HasField("declared") else None
    return VariableImage(decode_spec(message.spec), value, message.version, declared)


def decode_mark(message: snapshot_pb2.RestoreMark) -> RestoreMark:
    return RestoreMark(decode_uuid(message.restore, "restore"), message.source, message.complete)


def _decode_staged(message: records_pb2.Staged, take: TakeTensor) -> Staged:
    return Staged(decode_uuid(message.restore, "restore"), decode_image(message.variable, take))


def _decode_restored(message: snapshot_pb2.RestoreMark, _take: TakeTensor) -> Restored:
    return Restored(decode_mark(message), tuple([_granted(decode_placement(each)) for each in message.placements]))


_DECODERS: dict[str, Callable[[Any, TakeTensor], Record]] = {
    "declared": _decode_declared,
    "placed": _decode_placed,
    "client_joined": _decode_joined,
    "client_left": _decode_left,
    "staged": _decode_staged,
    "restored": _decode_restored,
}
