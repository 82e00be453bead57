"""The frames of a primary: records as bytes, and messages cut into gRPC frames and joined again.

Over gRPC, large tensors go in data frames (``chunk_frames``), and so does a message that is too large for one frame;
everything else is small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError

from ps_protocol.codec.chunks import Assembler, pieces
from ps_protocol.codec.fast.varints import LENGTH_DELIMITED, VARINT, decode_varint, encode_varint, field_tag
from ps_protocol.codec.limits import CHUNK_SIZE_BYTES, MAX_MESSAGE_BYTES, MAX_TAKEN_BYTES
from ps_protocol.codec.tensor_codec import bytes_of
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.grpc_edge.chunk_frames import REQUESTS, data_frame, holds_data
from ps_protocol.v1 import replication_pb2
from ps_server.log.record_bytes import encode_record_bytes
from ps_server.log.records import LoggedRecord

SOON_BYTES: Final = 128 * 1024
"""What is as small takes so little time that either side looks for the next bytes before it sleeps (``brief_wait``)."""

_INLINE_BYTES: Final = 64 * 1024
_MAX_DATA_BYTES: Final = 1 << 40
_WHOLE_BYTES: Final = MAX_TAKEN_BYTES // 2
"""Most bytes of a message, besides tensors that follow it, that goes in one frame."""

_MAX_FRAME_BYTES: Final = 2 * MAX_MESSAGE_BYTES
"""Of the largest header of a batch, and of its answer."""

_RECORD: Final = field_tag(replication_pb2.FollowFrame.RECORD_FIELD_NUMBER, LENGTH_DELIMITED)
_DATA_BYTES: Final = field_tag(replication_pb2.FollowFrame.DATA_BYTES_FIELD_NUMBER, VARINT)


def record_frame(logged: LoggedRecord) -> tuple[bytes, list[memoryview]]:
    """Returns the bytes of a ``FollowFrame`` with a record, and the tensors beside it, which are to follow."""
    record, buffers = encode_record_bytes(logged)
    size_bytes = sum(map(len, buffers))
    data_bytes = _DATA_BYTES + encode_varint(size_bytes) if size_bytes else b""
    return _RECORD + encode_varint(len(record)) + record + data_bytes, buffers


def record_in(frame: bytes) -> tuple[bytes, int] | None:
    """Returns the bytes of the record in a ``FollowFrame``, and the size of its tensors; None if it has other fields.

    The inverse of ``record_frame``; what this does not know is for protobuf.
    """
    length = decode_varint(frame, 1) if frame[:1] == _RECORD else None
    if length is None:
        return None
    size_bytes, start = length
    end = start + size_bytes
    if end == len(frame):
        return frame[start:end], 0
    data_bytes = decode_varint(frame, end + 1) if frame[end : end + 1] == _DATA_BYTES else None
    if data_bytes is None or data_bytes[1] != len(frame):
        return None
    return frame[start:end], data_bytes[0]


def frames_of(
    message: replication_pb2.FollowFrame, buffers: Sequence[memoryview], *, cuts: bool = True
) -> Iterator[bytes]:
    """Yields a record or a part of an image, and the tensors beside it, as frames.

    Args:
        message: The record or part.
        buffers: The tensors.
        cuts: Whether the follower takes a message in pieces that is too large for one frame.
    """
    size_bytes = sum(map(len, buffers))
    message.data_bytes = size_bytes
    if size_bytes <= _INLINE_BYTES:
        message.inline_data = b"".join(buffers)
    frame = message.SerializeToString()
    if cuts and len(frame) > _WHOLE_BYTES:
        buffers = [memoryview(frame), *([] if message.inline_data else buffers)]
        yield replication_pb2.FollowFrame(frame_bytes=len(frame), data_bytes=sum(map(len, buffers))).SerializeToString()
    else:
        yield frame
        if message.inline_data or not size_bytes:
            return
    for parts in pieces(buffers, CHUNK_SIZE_BYTES):
        yield data_frame(parts)


class FrameJoiner:
    """Joins the frames of one stream. One thread."""

    def __init__(self) -> None:
        self._message: replication_pb2.FollowFrame | None = None
        self._data = memoryview(b"")
        self._assembler = Assembler(())

    def feed(self, frame: bytes) -> tuple[replication_pb2.FollowFrame, memoryview] | None:
        """Takes a frame; returns the message that it completes, if any, and the bytes beside it.

        A token may come between the data of a message.

        Raises:
            InvalidArgumentError: It is malformed, or does not fit the frames before it.
        """
        if holds_data(frame):
            return self._feed_data(frame)
        message = _parsed(frame)
        if message.data_bytes == len(message.inline_data):
            if self._message is not None and (message.data_bytes or not message.token):
                raise InvalidArgumentError("a message begins before the data of the one before it are complete")
            return message, memoryview(message.inline_data)
        if self._message is not None or message.inline_data or message.data_bytes > _MAX_DATA_BYTES:
            raise InvalidArgumentError(f"a frame announces {message.data_bytes} bytes that cannot follow it")
        self._message = message
        self._data = bytes_of(np.empty(message.data_bytes, np.uint8))
        self._assembler = Assembler((self._data,))
        return None

    def _feed_data(self, frame: bytes) -> tuple[replication_pb2.FollowFrame, memoryview] | None:
        data = REQUESTS.data(frame)
        if data is None or self._message is None:
            raise InvalidArgumentError("the stream holds data that no message has announced")
        self._assembler.feed(data)
        if self._assembler.missing_bytes:
            return None
        message, self._message = self._message, None
        content, self._data = self._data, memoryview(b"")
        self._assembler = Assembler(())
        return _unpacked(message, content) if message.frame_bytes else (message, content)


def _unpacked(
    message: replication_pb2.FollowFrame, content: memoryview
) -> tuple[replication_pb2.FollowFrame, memoryview]:
    """Returns the message that came as data, and the bytes beside it."""
    size_bytes = message.frame_bytes
    if size_bytes > min(len(content), _MAX_FRAME_BYTES):
        raise InvalidArgumentError(f"a frame of {size_bytes} bytes was announced, with {len(content)} bytes of data")
    whole = _parsed(bytes(content[:size_bytes]))
    data = content[size_bytes:] if len(content) > size_bytes else memoryview(whole.inline_data)
    if whole.data_bytes != len(data) or whole.frame_bytes:
        raise InvalidArgumentError(f"a frame announces {whole.data_bytes} bytes, but {len(data)} are beside it")
    return whole, data


def _parsed(frame: bytes) -> replication_pb2.FollowFrame:
    try:
        return replication_pb2.FollowFrame.FromString(frame)
    except DecodeError as error:
        raise InvalidArgumentError(f"{len(frame)} bytes were received that are no FollowFrame: {error}") from error
