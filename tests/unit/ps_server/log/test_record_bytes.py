"""Records are written and read by hand as protobuf has them; what is malformed is refused in both ways."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import pytest

from ps_protocol.codec.fast.bounded_table import BoundedTable
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import BatchReply, Describe, Read, Result, Update, UpdateRule, WireDType
from ps_server.log import record_bytes, record_codec
from ps_server.log.record_bytes import decode_record_bytes, encode_record_bytes
from ps_server.log.records import AppliedBatch, LoggedRecord, Record
from tests.unit.ps_server.log.test_record_codec import RECORDS

CLIENT = UUID(int=7)


@pytest.fixture(autouse=True)
def templates(monkeypatch: pytest.MonkeyPatch) -> BoundedTable[record_bytes._Template]:
    kept: BoundedTable[record_bytes._Template] = BoundedTable()
    monkeypatch.setattr(record_bytes, "_templates", kept)
    return kept


def a_batch(position: int, value: float, checksum: int = 0) -> LoggedRecord:
    operations = (Update("w", UpdateRule.ASSIGN_ADD, np.full(3, value, np.float32)), Describe("w"))
    reply = BatchReply((Result(position, True), Result(position, True, np.array(value))))
    return LoggedRecord(position, AppliedBatch(CLIENT, 1000 + position, operations, reply, checksum))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_the_bytes_are_those_of_protobuf(record: Record) -> None:
    logged = LoggedRecord(300, record)
    header, buffers = record_codec.encode_record(logged)
    data, by_hand = encode_record_bytes(logged)
    assert data == header.SerializeToString()
    assert by_hand == buffers
    for _ in range(2):
        assert repr(decode_record_bytes(data, memoryview(b"".join(buffers)))) == repr(logged)


def test_operations_that_come_again_are_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(logged: LoggedRecord) -> str:
        data, buffers = encode_record_bytes(logged)
        return repr(decode_record_bytes(data, memoryview(b"".join(buffers))))

    assert decoded(a_batch(1, 1.0)) == repr(a_batch(1, 1.0))
    monkeypatch.setattr(record_bytes, "parse_record", pytest.fail)
    for logged in (a_batch(2, 2.5), a_batch(2**40, -1.0, checksum=7)):
        assert decoded(logged) == repr(logged)


def test_the_answer_to_a_read_is_written_exactly_whatever_form_it_was_asked_for() -> None:
    read = Read("w", wire=WireDType.BFLOAT16)
    reply = BatchReply((Result(1, True, np.array([1.0001], np.float32)),))
    logged = LoggedRecord(1, AppliedBatch(CLIENT, 1, (read,), reply))
    data, buffers = encode_record_bytes(logged)
    assert repr(decode_record_bytes(data, memoryview(b"".join(buffers)))) == repr(logged)


def test_tensors_of_operations_are_views_and_those_of_replies_are_not() -> None:
    """The ledger keeps the replies, and memory that is received into is used again."""
    data, buffers = encode_record_bytes(a_batch(1, 1.0))
    received = bytearray(b"".join(buffers))
    decode_record_bytes(data, memoryview(received))  # what the operations mean is known from here on
    record = decode_record_bytes(data, memoryview(received).toreadonly()).record
    received[:] = bytes(len(received))
    assert isinstance(record, AppliedBatch)
    update, answer = record.operations[0], record.reply.replies[1]
    assert isinstance(update, Update)
    assert isinstance(answer, Result)
    assert (update.value == 0).all()
    assert answer.tensor == 1.0


@pytest.mark.parametrize("is_known", [False, True])
def test_tensors_that_do_not_fit_are_refused_by_position(is_known: bool) -> None:
    data, buffers = encode_record_bytes(a_batch(12, 1.0))
    tensors = b"".join(buffers)
    if is_known:
        decode_record_bytes(data, memoryview(tensors))
    for wrong in (b"", tensors[:5], tensors[:-1], tensors + b"x"):
        with pytest.raises(InvalidArgumentError, match="record 12"):
            decode_record_bytes(data, memoryview(wrong))


def test_a_batch_with_a_field_more_is_left_to_protobuf(templates: BoundedTable[record_bytes._Template]) -> None:
    header, buffers = record_codec.encode_record(a_batch(3, 1.0))
    header.required_features.append("halves")
    for _ in range(2):
        with pytest.raises(InvalidArgumentError, match="'halves'"):
            decode_record_bytes(header.SerializeToString(), memoryview(b"".join(buffers)))
    assert not templates.used_bytes
