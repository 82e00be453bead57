"""Frames that are written and read by hand are those of the generated classes."""

from __future__ import annotations

import tracemalloc

import pytest

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.grpc_edge.chunk_frames import (
    REPLIES,
    REQUESTS,
    data_frame,
    exchange_message,
    header_frame,
    header_frames,
    header_part,
)
from ps_protocol.v1 import batch_pb2, data_pb2

HEADER = batch_pb2.BatchRequest(client_incarnation=b"c" * 16, sequence=300)
REPLY_HEADER = batch_pb2.BatchReply(replies=[batch_pb2.OperationReply(version=7, initialized=True)])
HEADER_BYTES, REPLY_HEADER_BYTES = HEADER.SerializeToString(), REPLY_HEADER.SerializeToString()
LENGTHS = [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152]
"""Around the lengths at which a varint grows."""


def bytes_in(frame: bytes) -> bytes:
    data = REQUESTS.data(frame)
    assert data is not None
    return bytes(data)


def test_a_header_frame_is_the_generated_one() -> None:
    assert header_frame(HEADER_BYTES) == data_pb2.RequestFrame(header=HEADER).SerializeToString()
    assert header_frame(REPLY_HEADER_BYTES) == data_pb2.ReplyFrame(header=REPLY_HEADER).SerializeToString()
    assert header_frame(b"") == data_pb2.ReplyFrame(header=batch_pb2.BatchReply()).SerializeToString()


@pytest.mark.parametrize("length", LENGTHS)
def test_a_data_frame_is_the_generated_one(length: int) -> None:
    content = bytes(length)
    frame = data_frame([memoryview(content)])
    assert frame == data_pb2.RequestFrame(data=content).SerializeToString()
    assert frame == data_pb2.ReplyFrame(data=content).SerializeToString()
    assert bytes_in(frame) == content


def test_parts_are_joined() -> None:
    frame = data_frame([memoryview(b"ab"), memoryview(b""), memoryview(b"c")])
    assert frame == data_pb2.RequestFrame(data=b"abc").SerializeToString()


@pytest.mark.parametrize("lengths", [[], [0], [5], LENGTHS])
def test_an_exchange_in_one_message_is_the_generated_one(lengths: list[int]) -> None:
    contents = [bytes(length) for length in lengths]
    message = exchange_message(HEADER_BYTES, [memoryview(each) for each in contents])
    assert message == data_pb2.ExchangeRequest(header=HEADER, buffers=contents).SerializeToString()
    header, buffers = REQUESTS.message(message)
    assert header == HEADER_BYTES
    assert list(map(bytes, buffers)) == contents


def test_a_header_is_read() -> None:
    assert REQUESTS.header(header_frame(HEADER_BYTES)) == HEADER_BYTES
    assert REPLIES.header(header_frame(REPLY_HEADER_BYTES)) == REPLY_HEADER_BYTES


def test_each_kind_of_frame_is_told_from_the_other() -> None:
    assert REQUESTS.data(header_frame(HEADER_BYTES)) is None
    assert REQUESTS.header(data_frame([memoryview(b"x")])) is None
    for empty in (REQUESTS.header(b""), REQUESTS.data(b"")):
        assert empty is None


def test_what_is_read_is_a_view_of_what_was_received() -> None:
    frame = data_frame([memoryview(bytes(1_000_000))])
    message = exchange_message(REPLY_HEADER_BYTES, [memoryview(bytes(1_000_000))])
    tracemalloc.start()
    try:
        content, (_, buffers) = REPLIES.data(frame), REPLIES.message(message)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert content is not None
    assert content.obj is frame
    assert buffers[0].obj is message


def test_forms_that_only_protobuf_allows_mean_what_protobuf_says() -> None:
    data, header = data_pb2.RequestFrame(data=b"x").SerializeToString(), header_frame(HEADER_BYTES)
    unknown = b"\x22\x01z"  # field 4
    overlong = b"\x12\x81\x80\x00x"  # the length 1 in three bytes
    assert bytes_in(data + unknown) == b"x"
    assert bytes_in(unknown + data) == b"x"
    assert bytes_in(header + data) == b"x"
    assert bytes_in(overlong) == b"x"
    assert REQUESTS.header(data + header) == HEADER_BYTES
    assert REQUESTS.header(header + data) is None
    buffers_first = data_pb2.ExchangeRequest(buffers=[b"a"]).SerializeToString() + header
    parsed, (buffer,) = REQUESTS.message(buffers_first)
    assert (parsed, bytes(buffer)) == (HEADER_BYTES, b"a")
    assert REQUESTS.message(b"") == (b"", [])


@pytest.mark.parametrize(
    "malformed",
    [
        b"\x12",
        b"\x12\x05abcd",
        b"\x12\xff",
        b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x00",
        b"\xff" * 20,
    ],
)
def test_what_is_no_frame_is_refused(malformed: bytes) -> None:
    for read in (REQUESTS.header, REQUESTS.data, REPLIES.header, REPLIES.data, REQUESTS.message, REPLIES.message):
        with pytest.raises(InvalidArgumentError, match="of the contract"):
            read(malformed)


def test_parts_of_a_header_are_what_protobuf_says() -> None:
    header = batch_pb2.BatchRequest(operations=[batch_pb2.Operation(name=str(index)) for index in range(100)])
    *parts, last = header_frames(header.SerializeToString(), 40)
    assert parts
    assert header_part(last) is None
    contents = [header_part(part) for part in parts]
    general = [data_pb2.RequestFrame.FromString(part).header_part.SerializeToString() for part in parts]
    assert contents == general
    joined = batch_pb2.BatchRequest.FromString(b"".join([*general, REQUESTS.header(last) or b""]))
    assert joined == header
    assert [REQUESTS.header(part) for part in parts] == [REQUESTS.data(part) for part in parts] == [None] * len(parts)
    assert header_part(b"\x22\x01z" + parts[0]) == contents[0], "an unknown field before it"
