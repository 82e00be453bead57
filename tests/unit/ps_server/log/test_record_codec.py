"""Records of every kind are written and read again; what is malformed is refused by its position."""

from __future__ import annotations

from uuid import UUID

import ml_dtypes
import numpy as np
import pytest

from ps_protocol.codec.tensor_codec import _DTYPE_OF_NAME
from ps_protocol.errors import InvalidArgumentError, OutOfRangeError
from ps_protocol.initializer_spec import InitializerSpec, ValueKind
from ps_protocol.operations import (
    BatchReply,
    CountUpTo,
    Declare,
    Initialize,
    Result,
    Update,
    UpdateRule,
    VariableSpec,
)
from ps_protocol.service_types import Placement
from ps_protocol.v1 import batch_pb2, directory_pb2, errors_pb2, records_pb2
from ps_server.log import record_codec
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

CLIENT = UUID(int=7)
SPEC = VariableSpec("w", np.dtype(np.float32), (2,))
VALUE = np.array([1.5, 2.5], np.float32)
RECORDS: list[Record] = [
    AppliedBatch(
        CLIENT,
        9,
        (Update("w", UpdateRule.ASSIGN, VALUE), CountUpTo("step", 3)),
        BatchReply((Result(4, True), OutOfRangeError("step: it is 3", variable="step"))),
        checksum=2**32 - 1,
    ),
    AppliedBatch(CLIENT, 2**64 - 1, (CountUpTo("step", 3),), BatchReply((Result(4, True, np.array(2)),))),
    Declared(Declare(SPEC)),
    Declared(Initialize("w", InitializerSpec(ValueKind(VALUE), 3))),
    Placed((Placement(SPEC, 1), Placement(VariableSpec("b", np.dtype(ml_dtypes.bfloat16), ()), 0))),
    Placed(()),
    ClientJoined(CLIENT, "worker:1"),
    ClientLeft(CLIENT, "has said goodbye"),
    Staged(CLIENT, VariableImage(SPEC, VALUE, 3)),
    Staged(CLIENT, VariableImage(SPEC, None, 0, VariableSpec("w", np.dtype(np.float32), (3,)))),
    Restored(RestoreMark(CLIENT, "/there/x", is_complete=False), (Placement(SPEC, 1),)),
    Restored(RestoreMark(CLIENT, "/there/x", is_complete=True)),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    logged = LoggedRecord(12, record)
    header, buffers = record_codec.encode_record(logged)
    parsed = record_codec.parse_record(header.SerializeToString())
    assert [layout.size_bytes for layout in record_codec.record_layouts(parsed)] == [len(each) for each in buffers]
    assert repr(record_codec.decode_record(parsed, buffers)) == repr(logged)
    assert repr(record_codec.decode_record_of(parsed, memoryview(b"".join(buffers)))) == repr(logged)


@pytest.mark.parametrize("name", [*_DTYPE_OF_NAME, "S3"])
def test_every_dtype_comes_back(name: str) -> None:
    dtype = np.dtype(name) if name == "S3" else _DTYPE_OF_NAME[name]
    value = np.zeros((2, 3), dtype)
    record = LoggedRecord(1, AppliedBatch(CLIENT, 1, (Update("w", UpdateRule.ASSIGN, value),), BatchReply(())))
    header, buffers = record_codec.encode_record(record)
    read = record_codec.decode_record_of(header, memoryview(b"".join(buffers))).record
    assert isinstance(read, AppliedBatch)
    operation = read.operations[0]
    assert isinstance(operation, Update)
    assert operation.value.dtype == dtype
    assert operation.value.shape == (2, 3)
    assert operation.value.tobytes() == value.tobytes()


def test_encoding_copies_no_tensor() -> None:
    _, buffers = record_codec.encode_record(LoggedRecord(1, RECORDS[0]))
    assert np.shares_memory(np.frombuffer(buffers[0], np.float32), VALUE)


def test_views_and_copies() -> None:
    header, buffers = record_codec.encode_record(LoggedRecord(1, RECORDS[3]))
    data = bytearray(buffers[0])
    view, copy = record_codec.decode_record(header, [data]), record_codec.decode_record_of(header, memoryview(data))
    data[:4] = np.float32(8).tobytes()

    def first(logged: LoggedRecord) -> float:
        assert isinstance(logged.record, Declared)
        assert isinstance(logged.record.operation, Initialize)
        kind = logged.record.operation.initializer.kind
        assert isinstance(kind, ValueKind)
        assert kind.array.flags.writeable
        return float(kind.array[0])

    assert (first(view), first(copy)) == (8, 1.5)


REFUSED = directory_pb2.Placement(error=errors_pb2.Error())
JOINED = records_pb2.ClientJoined(client_incarnation=CLIENT.bytes)


@pytest.mark.parametrize(
    ("header", "buffers", "message"),
    [
        (records_pb2.Record(position=3), [], "the record 3: it lacks its kind"),
        (
            records_pb2.Record(position=3, client_joined=JOINED, required_features=["halves"]),
            [],
            "the record 3: it needs 'halves', which this side does not know",
        ),
        (records_pb2.Record(client_joined=JOINED), [], "the record 0: it lacks its position"),
        (records_pb2.Record(position=3, client_joined=JOINED), [b"x"], "0 tensors, but 1 buffers"),
        (records_pb2.Record(position=3, client_left=records_pb2.ClientLeft()), [], "client incarnation has 0 bytes"),
        (records_pb2.Record(position=3, batch=records_pb2.AppliedBatch()), [], "client incarnation has 0 bytes"),
        (
            records_pb2.Record(position=3, declared=batch_pb2.Operation(name="w", describe=batch_pb2.Describe())),
            [],
            "the record 3: w: a Describe is no declaration",
        ),
        (
            records_pb2.Record(position=3, placed=records_pb2.Placed(placements=[REFUSED])),
            [],
            "one of its placements is an error",
        ),
    ],
)
def test_a_malformed_record_is_refused(header: records_pb2.Record, buffers: list[bytes], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        record_codec.decode_record(header, buffers)


@pytest.mark.parametrize("missing", [0, 1])
def test_missing_buffers_are_refused(missing: int) -> None:
    batch = AppliedBatch(CLIENT, 1, (Update("w", UpdateRule.ASSIGN, VALUE),), BatchReply((Result(1, True, VALUE),)))
    header, buffers = record_codec.encode_record(LoggedRecord(5, batch))
    with pytest.raises(InvalidArgumentError, match="the record 5: "):
        record_codec.decode_record(header, buffers[:missing])
    with pytest.raises(InvalidArgumentError, match="the record 5: "):
        record_codec.decode_record_of(header, memoryview(b"".join(buffers))[: 12 * missing])
    with pytest.raises(InvalidArgumentError, match="the record 5: "):
        record_codec.decode_record_of(header, memoryview(b"".join(buffers) + b"more"))


def test_bytes_that_are_no_header_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="are not the header of a record"):
        record_codec.parse_record(b"\xff\xff\xff")
