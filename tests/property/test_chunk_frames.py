"""Reading frames by hand agrees with the generated classes, whatever the bytes."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from ps_protocol.codec.chunks import Assembler, pieces
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.grpc_edge.chunk_frames import REPLIES, REQUESTS, FrameReader, data_frame, exchange_message
from ps_protocol.v1 import batch_pb2, data_pb2

_HEADERS = st.builds(
    batch_pb2.BatchRequest,
    client_incarnation=st.binary(max_size=20),
    sequence=st.integers(0, 2**64 - 1),
    operations=st.lists(st.builds(batch_pb2.Operation, name=st.text(max_size=5)), max_size=2),
)
_VARINTS = st.integers(0, 400).flatmap(
    lambda value: st.sampled_from([bytes([value & 0x7F | 0x80, value >> 7]), bytes([value & 0x7F])])
)
_FIELDS = st.builds(
    lambda tag, length, content: bytes([tag]) + length + content,
    st.sampled_from([0x0A, 0x12, 0x1A, 0x08, 0x10, 0x15, 0x0B]),
    _VARINTS,
    st.binary(max_size=12),
)
_VALID = st.one_of(
    st.builds(lambda header: data_pb2.RequestFrame(header=header).SerializeToString(), _HEADERS),
    st.builds(lambda data: data_pb2.RequestFrame(data=data).SerializeToString(), st.binary(max_size=300)),
)
_MESSAGES = st.one_of(st.binary(max_size=40), st.lists(st.one_of(_FIELDS, _VALID), max_size=4).map(b"".join), _VALID)
"""Some of them frames, some nearly so, some nothing of the kind."""


def _read(read: Any, message: bytes) -> Any:
    try:
        return read(message)
    except InvalidArgumentError:
        return InvalidArgumentError


def _expected(message_type: Any, of: Any, message: bytes) -> Any:
    try:
        return of(message_type.FromString(message))
    except DecodeError:
        return InvalidArgumentError


def _parsed(header_type: Any, content: bytes) -> Any:
    try:
        return header_type.FromString(content)
    except DecodeError as error:
        raise InvalidArgumentError(str(error)) from error


def _check(reader: FrameReader, frame_type: Any, message_type: Any, header_type: Any, message: bytes) -> None:
    def header(frame: Any) -> Any:
        return frame.header if frame.WhichOneof("frame") == "header" else None

    def data(frame: Any) -> Any:
        return frame.data if frame.WhichOneof("frame") == "data" else None

    def read_header(frame: bytes) -> Any:
        content = reader.header(frame)
        return content if content is None else _parsed(header_type, content)

    def read_message(message: bytes) -> Any:
        content, buffers = reader.message(message)
        return _parsed(header_type, content), buffers

    assert _read(read_header, message) == _expected(frame_type, header, message)
    assert _read(reader.data, message) == _expected(frame_type, data, message)
    whole = _expected(message_type, lambda parsed: (parsed.header, list(parsed.buffers)), message)
    assert _read(read_message, message) == whole


@given(_MESSAGES)
def test_any_bytes_mean_what_protobuf_says(message: bytes) -> None:
    _check(REQUESTS, data_pb2.RequestFrame, data_pb2.ExchangeRequest, batch_pb2.BatchRequest, message)
    _check(REPLIES, data_pb2.ReplyFrame, data_pb2.ExchangeReply, batch_pb2.BatchReply, message)


@given(_HEADERS, st.lists(st.binary(max_size=300), max_size=4))
def test_what_is_written_is_what_protobuf_writes(header: batch_pb2.BatchRequest, buffers: list[bytes]) -> None:
    views = [memoryview(buffer) for buffer in buffers]
    generated = data_pb2.ExchangeRequest(header=header, buffers=buffers).SerializeToString()
    assert exchange_message(header.SerializeToString(), views) == generated
    assert data_frame(views) == data_pb2.RequestFrame(data=b"".join(buffers)).SerializeToString()


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(1, 50), st.integers(1, 50))
def test_what_is_cut_is_put_together_again(buffers: list[bytes], chunk_size_bytes: int, other_size_bytes: int) -> None:
    received = [bytearray(len(buffer)) for buffer in buffers]
    assembler = Assembler([memoryview(each) for each in received])
    chunks = [b"".join(parts) for parts in pieces(map(memoryview, buffers), chunk_size_bytes)]
    assert all(len(chunk) == chunk_size_bytes for chunk in chunks[:-1])
    for parts in pieces(map(memoryview, chunks), other_size_bytes):  # a sender may cut as it likes
        assembler.feed(memoryview(b"".join(parts)))
    assert not assembler.missing_bytes
    assert received == buffers
