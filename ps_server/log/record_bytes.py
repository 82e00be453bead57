"""Writes and reads the commonest records by hand: protobuf's bytes, but faster; for the stream to a backup.

On the wire they are those of ``record_codec``, which all else goes through. Most records are of batches whose
operations come again and again, with other numbers and tensors. So the bytes of their operations are kept by what is
the same in them, and what they mean by those bytes, as ``ps_protocol.codec.fast.request_bytes`` does for requests. All
tables are bounded. All functions are safe to call from many threads.
"""

from __future__ import annotations

import itertools
import struct
from typing import Final, NamedTuple

from ps_protocol.codec.fast.bounded_table import ENTRY_BYTES, BoundedTable
from ps_protocol.codec.fast.reply_bytes import encode_answer, parse_reply
from ps_protocol.codec.fast.request_bytes import KEYS, Maker, operation_field, operation_maker, without_tensors
from ps_protocol.codec.fast.varints import FIXED32, LENGTH_DELIMITED, VARINT, decode_varint, encode_varint, field_tag
from ps_protocol.codec.spec_codec import decode_uuid
from ps_protocol.codec.tensor_codec import TensorLayout
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operation_kinds import KINDS
from ps_protocol.operations import Describe, PsOperation
from ps_protocol.v1 import records_pb2
from ps_server.log.record_codec import decode_record, decode_record_of, encode_record, parse_record, record_layouts
from ps_server.log.records import AppliedBatch, LoggedRecord

_MAX_KEPT_BYTES: Final = 64 * 1024
_UUID_BYTES: Final = 16
_FIXED32: Final = struct.Struct("<I")
_EXACTLY: Final = Describe("")
"""In place of operations that might have asked for their answers in a lossy form."""

_Batch = records_pb2.AppliedBatch
_POSITION: Final = field_tag(records_pb2.Record.POSITION_FIELD_NUMBER, VARINT)
_BATCH: Final = field_tag(records_pb2.Record.BATCH_FIELD_NUMBER, LENGTH_DELIMITED)
_CLIENT: Final = field_tag(_Batch.CLIENT_INCARNATION_FIELD_NUMBER, LENGTH_DELIMITED) + bytes((_UUID_BYTES,))
_SEQUENCE: Final = field_tag(_Batch.SEQUENCE_FIELD_NUMBER, VARINT)
_OPERATION: Final = field_tag(_Batch.OPERATIONS_FIELD_NUMBER, LENGTH_DELIMITED)
_REPLY: Final = field_tag(_Batch.REPLY_FIELD_NUMBER, LENGTH_DELIMITED)
_CHECKSUM: Final = field_tag(_Batch.CHECKSUM_FIELD_NUMBER, FIXED32)


# -- written ------------------------------------------------------------------------------------


def encode_record_bytes(logged: LoggedRecord) -> tuple[bytes, list[memoryview]]:
    """Returns a record as the bytes of its header, and those of its tensors, as ``record_codec.encode_record``.

    Raises:
        InvalidArgumentError: A tensor has a dtype that cannot be written.
    """
    record = logged.record
    if type(record) is not AppliedBatch:
        header, buffers = encode_record(logged)
        return header.SerializeToString(), buffers
    tensors: list[memoryview] = []
    operations = [_OPERATION + operation_field(operation, tensors)[1:] for operation in record.operations]
    reply, of_reply = encode_answer(record.reply, (_EXACTLY,) * len(record.reply.replies))
    batch = b"".join(
        [
            _CLIENT,
            record.client.bytes,
            _SEQUENCE,
            encode_varint(record.sequence),
            *operations,
            _REPLY,
            encode_varint(len(reply)),
            reply,
            _CHECKSUM + _FIXED32.pack(record.checksum) if record.checksum else b"",
        ]
    )
    return _POSITION + encode_varint(logged.position) + _BATCH + encode_varint(len(batch)) + batch, tensors + of_reply


# -- read ---------------------------------------------------------------------------------------


class _Parts(NamedTuple):
    """The fields of the record of a batch."""

    position: int
    client: bytes
    sequence: int
    operations: bytes  # all of them, with their tags
    reply: bytes
    checksum: int


class _Template(NamedTuple):
    """What the operations of a batch mean, apart from their tensors."""

    like: tuple[PsOperation, ...]
    makers: tuple[Maker, ...]
    starts: tuple[int, ...]  # of the tensors, which lie end to end
    data_bytes: int


_templates: Final[BoundedTable[_Template]] = BoundedTable()


def decode_record_bytes(header: bytes, data: memoryview) -> LoggedRecord:
    """Returns the record that a header and the tensors beside it hold.

    Args:
        header: As received.
        data: The tensors, end to end. Those of operations may be views of it; those of replies have memory of their
            own.

    Raises:
        InvalidArgumentError: They are malformed, or do not fit each other.
    """
    parts = _parts(header)
    template = None if parts is None else _templates.get(parts.operations)
    if parts is None or template is None:
        logged = _decode(header, data)
        if parts is not None and len(parts.operations) <= _MAX_KEPT_BYTES:
            _keep(parts.operations, logged)
        return logged
    if len(data) < template.data_bytes:
        return _decode(header, data)  # which says what is wrong
    try:
        reply = parse_reply(parts.reply, template.like).reply_of(data[template.data_bytes :])
    except InvalidArgumentError:
        return _decode(header, data)  # likewise
    starts = template.starts
    buffers = (data,) * len(starts)
    operations = tuple([make(buffers, starts) for make in template.makers])
    client = decode_uuid(parts.client, "client incarnation")
    return LoggedRecord(parts.position, AppliedBatch(client, parts.sequence, operations, reply, parts.checksum))


def _decode(header: bytes, data: memoryview) -> LoggedRecord:
    message = parse_record(header)
    if data.readonly:
        return decode_record_of(message, data)
    buffers: list[memoryview] = []
    start = 0
    for layout in record_layouts(message):
        buffers.append(data[start : start + layout.size_bytes])
        start += layout.size_bytes
    if start != len(data):
        raise InvalidArgumentError(f"the tensors of a record have {start} bytes, but {len(data)} are beside it")
    return decode_record(message, buffers)


def _parts(header: bytes) -> _Parts | None:
    """Returns the fields of the record of a batch; None if it is another record, or has them in another order."""
    size = len(header)
    try:
        position, at = _number(header, 0, _POSITION)
        length, at = _number(header, at, _BATCH)
        if not position or at + length != size or not header.startswith(_CLIENT, at):
            return None
        at += len(_CLIENT)
        client, at = header[at : at + _UUID_BYTES], at + _UUID_BYTES
        sequence, at = _number(header, at, _SEQUENCE)
        start = at
        while header[at] == _OPERATION[0]:
            length, at = _number(header, at, _OPERATION)
            at += length
        operations = header[start:at]
        length, at = _number(header, at, _REPLY)
        reply, at = header[at : at + length], at + length
        checksum = 0
        if at != size:
            if header[at] != _CHECKSUM[0] or at + 1 + _FIXED32.size != size:
                return None
            (checksum,) = _FIXED32.unpack_from(header, at + 1)
    except (IndexError, ValueError):
        return None
    return _Parts(position, client, sequence, operations, reply, checksum)


def _number(header: bytes, at: int, tag: bytes) -> tuple[int, int]:
    """Returns the number behind a tag, and where it ends; ValueError if there is none."""
    if header[at] != tag[0]:
        raise ValueError
    number = header[at + 1]
    if number < 0x80:
        return number, at + 2
    decoded = decode_varint(header, at + 1)
    if decoded is None:
        raise ValueError
    return decoded


def _keep(key: bytes, logged: LoggedRecord) -> None:
    """Keeps what the operations of a batch mean, if they are of the usual kinds."""
    record = logged.record
    assert isinstance(record, AppliedBatch)
    for operation in record.operations:
        key_of = KEYS.get(type(operation))
        if key_of is None or key_of(operation) is None:
            return
    makers: list[Maker] = []
    layouts: list[TensorLayout] = []
    for operation in record.operations:
        tensors = KINDS[type(operation)].tensors(operation)
        own = [TensorLayout(tensor.dtype, tensor.shape, tensor.nbytes) for tensor in tensors]
        makers.append(operation_maker(operation, own, len(layouts)))
        layouts += own
    *starts, data_bytes = itertools.accumulate([layout.size_bytes for layout in layouts], initial=0)
    template = _Template(
        like=tuple(map(without_tensors, record.operations)),
        makers=tuple(makers),
        starts=tuple(starts),
        data_bytes=data_bytes,
    )
    _templates.put(key, template, len(key) + ENTRY_BYTES * (1 + len(makers)))
