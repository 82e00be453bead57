"""What was cut into frames is put together again, and what is no stream is refused."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import pytest

from ps_protocol.codec.limits import MAX_TAKEN_BYTES
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.grpc_edge.chunk_frames import data_frame
from ps_protocol.operations import BatchReply, Result, Update, UpdateRule
from ps_protocol.v1 import records_pb2, replication_pb2
from ps_server.log.records import AppliedBatch, ClientLeft, LoggedRecord
from ps_server.replication.conversation import record_message
from ps_server.replication.stream_frames import FrameJoiner, frames_of, record_frame, record_in

TOKEN = replication_pb2.FollowFrame(token=7).SerializeToString()


def large_frame(frame_bytes: int, data_bytes: int) -> bytes:
    return replication_pb2.FollowFrame(frame_bytes=frame_bytes, data_bytes=data_bytes).SerializeToString()


def message(position: int = 1) -> replication_pb2.FollowFrame:
    return replication_pb2.FollowFrame(record=records_pb2.Record(position=position))


@pytest.mark.parametrize("size_bytes", [0, 1, 64 * 1024, 64 * 1024 + 1, 3_000_000])
def test_a_message_comes_back_whole_with_tokens_between(size_bytes: int) -> None:
    content = bytes(index % 251 for index in range(size_bytes))
    half = size_bytes // 2
    joiner = FrameJoiner()
    results = []
    for frame in frames_of(message(), [memoryview(content[:half]), memoryview(content[half:])]):
        results += [joiner.feed(frame), joiner.feed(TOKEN)]
    tokens = [each for each in results if each is not None and each[0].token]
    whole = [each for each in results if each is not None and not each[0].token]
    assert len(tokens) == len(results) // 2
    [(received, data)] = whole
    assert received.record.position == 1
    assert bytes(data) == content


@pytest.mark.parametrize("size_bytes", [0, 1, 64 * 1024 + 1, 3_000_000])
def test_a_message_too_large_for_a_frame_comes_in_pieces_with_tokens_between(size_bytes: int) -> None:
    sent = replication_pb2.FollowFrame()
    sent.record.client_left.reason = "x" * (9 * 1024**2)
    content = bytes(index % 251 for index in range(size_bytes))
    joiner = FrameJoiner()
    frames = list(frames_of(sent, [memoryview(content)]))
    assert max(map(len, frames)) < MAX_TAKEN_BYTES // 2
    assert [joiner.feed(frame) for frame in frames[:-1] for frame in (frame, TOKEN)][::2] == [None] * (len(frames) - 1)
    joined = joiner.feed(frames[-1])
    assert joined is not None
    received, data = joined
    assert received.record == sent.record
    assert bytes(data) == content
    assert joiner.feed(TOKEN) is not None


def test_a_follower_of_the_version_before_gets_a_large_message_whole() -> None:
    sent = replication_pb2.FollowFrame()
    sent.record.client_left.reason = "x" * (3 * 1024**2)
    [frame] = frames_of(sent, [], cuts=False)
    assert replication_pb2.FollowFrame.FromString(frame).record == sent.record


def test_messages_follow_each_other() -> None:
    joiner = FrameJoiner()
    for position in (1, 2, 3):
        frames = list(frames_of(message(position), [memoryview(bytes(100_000 * position))]))
        assert [joiner.feed(frame) for frame in frames[:-1]] == [None] * (len(frames) - 1)
        joined = joiner.feed(frames[-1])
        assert joined is not None
        assert (joined[0].record.position, len(joined[1])) == (position, 100_000 * position)


@pytest.mark.parametrize(
    "frames",
    [
        [b"\xff\xff"],
        [data_frame([memoryview(b"ab")])],  # announced by nobody
        [replication_pb2.FollowFrame(data_bytes=4, inline_data=b"abc").SerializeToString()],
        [replication_pb2.FollowFrame(data_bytes=1 << 62).SerializeToString()],
        [
            replication_pb2.FollowFrame(data_bytes=4).SerializeToString(),
            data_frame([memoryview(b"abcde")]),
        ],
        [replication_pb2.FollowFrame(data_bytes=4).SerializeToString(), message().SerializeToString()],
        [replication_pb2.FollowFrame(data_bytes=4).SerializeToString()] * 2,
        [
            replication_pb2.FollowFrame(frame_bytes=5, data_bytes=4).SerializeToString(),
            data_frame([memoryview(b"abcd")]),
        ],
        [replication_pb2.FollowFrame(frame_bytes=2, data_bytes=2).SerializeToString(), data_frame([memoryview(b"ab")])],
        [large_frame(len(TOKEN), 9), data_frame([memoryview(TOKEN + bytes(9 - len(TOKEN)))])],
    ],
)
def test_what_is_no_stream_is_refused(frames: list[bytes]) -> None:
    joiner = FrameJoiner()
    for frame in frames[:-1]:
        assert joiner.feed(frame) is None
    with pytest.raises(InvalidArgumentError):
        joiner.feed(frames[-1])


@pytest.mark.parametrize("elements", [0, 1, 100_000])
def test_a_record_by_hand_is_the_frame_that_protobuf_makes(elements: int) -> None:
    update = Update("w", UpdateRule.ASSIGN, np.ones(elements, np.float32))
    logged = LoggedRecord(5, AppliedBatch(UUID(int=7), 9, (update,), BatchReply((Result(1, True),))))
    frame, buffers = record_frame(logged)
    message, tensors = record_message(logged)
    message.data_bytes = 4 * elements
    assert (frame, buffers) == (message.SerializeToString(), tensors)
    assert record_in(frame) == (message.record.SerializeToString(), 4 * elements)


def test_a_frame_with_anything_but_a_record_and_its_size_is_left_to_protobuf() -> None:
    frame, _ = record_frame(LoggedRecord(5, ClientLeft(UUID(int=7), "has said goodbye")))
    for other in (b"", frame[:1], frame[:-1], frame + b"x", replication_pb2.FollowFrame(token=7).SerializeToString()):
        assert record_in(other) is None
    assert record_in(replication_pb2.FollowFrame(token=7).SerializeToString() + frame) is None
