"""Whatever record is written, it is read again; whatever bytes are read, they are a record or refused."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Declare, Initialize
from ps_protocol.service_types import Placement
from ps_server.log import record_bytes, record_codec
from ps_server.log.records import AppliedBatch, ClientJoined, ClientLeft, Declared, LoggedRecord, Placed, Record
from tests.property.test_message_codec import BUFFERS, INITIALIZERS, NAMES, OPERATIONS, REPLIES, mutations, specs

POSITIONS = st.integers(1, 2**64 - 1)
RECORDS: st.SearchStrategy[Record] = st.one_of(
    st.builds(AppliedBatch, st.uuids(), POSITIONS, st.lists(OPERATIONS, max_size=4).map(tuple), REPLIES),
    st.builds(Declared, st.builds(Declare, specs(), st.none() | INITIALIZERS)),
    st.builds(Declared, st.builds(Initialize, NAMES, INITIALIZERS, st.booleans())),
    st.builds(Placed, st.lists(st.builds(Placement, specs(), st.integers(0, 2**20 - 1)), max_size=3).map(tuple)),
    st.builds(ClientJoined, st.uuids(), NAMES),
    st.builds(ClientLeft, st.uuids(), NAMES),
)
LOGGED = st.builds(LoggedRecord, POSITIONS, RECORDS)


@given(LOGGED)
def test_a_record_is_read_as_it_was_written(logged: LoggedRecord) -> None:
    header, buffers = record_codec.encode_record(logged)
    parsed = record_codec.parse_record(header.SerializeToString())
    assert [layout.size_bytes for layout in record_codec.record_layouts(parsed)] == [len(each) for each in buffers]
    # The representation shows every field; arrays know no equality of their own.
    assert repr(record_codec.decode_record(parsed, [bytes(each) for each in buffers])) == repr(logged)
    decoded = record_codec.decode_record_of(parsed, memoryview(b"".join(buffers)))
    assert repr(decoded) == repr(logged)
    assert record_codec.encode_record(decoded) == (header, buffers)


@given(LOGGED)
def test_a_record_written_and_read_by_hand_is_the_same(logged: LoggedRecord) -> None:
    header, buffers = record_codec.encode_record(logged)
    data, by_hand = record_bytes.encode_record_bytes(logged)
    assert record_codec.parse_record(data) == header
    assert [bytes(each) for each in by_hand] == [bytes(each) for each in buffers]
    tensors = b"".join(by_hand)
    # What the operations mean is known from the second time on.
    for _ in range(2):
        assert repr(record_bytes.decode_record_bytes(data, memoryview(bytearray(tensors)))) == repr(logged)
        assert repr(record_bytes.decode_record_bytes(data, memoryview(tensors))) == repr(logged)


def decode_or_refuse(data: bytes, buffers: list[bytes]) -> None:
    # Anything else than a record or this error is a defect.
    with contextlib.suppress(InvalidArgumentError):
        assert isinstance(record_codec.decode_record(record_codec.parse_record(data), buffers), LoggedRecord)
    with contextlib.suppress(InvalidArgumentError):
        record_codec.decode_record_of(record_codec.parse_record(data), memoryview(b"".join(buffers)))
    with contextlib.suppress(InvalidArgumentError):
        record_codec.record_layouts(record_codec.parse_record(data))
    for _ in range(2):
        with contextlib.suppress(InvalidArgumentError):
            record_bytes.decode_record_bytes(data, memoryview(b"".join(buffers)))


@given(st.binary(max_size=200), BUFFERS)
def test_any_bytes_are_a_record_or_refused(data: bytes, buffers: list[bytes]) -> None:
    decode_or_refuse(data, buffers)


@given(st.data(), LOGGED)
def test_a_mutated_record_is_a_record_or_refused(data: st.DataObject, logged: LoggedRecord) -> None:
    header, buffers = record_codec.encode_record(logged)
    decode_or_refuse(data.draw(mutations(header.SerializeToString())), [bytes(each) for each in buffers])
