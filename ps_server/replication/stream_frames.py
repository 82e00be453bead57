"""Cuts messages of a primary into gRPC frames, and joins them again.

Large tensors go in data frames (``chunk_frames``); everything else is small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError

from ps_protocol.codec.chunks import Assembler, pieces
from ps_protocol.codec.limits import CHUNK_SIZE_BYTES
from ps_protocol.codec.tensor_codec import bytes_of
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.grpc_edge.chunk_frames import REQUESTS, data_frame, holds_data
from ps_protocol.v1 import replication_pb2

_INLINE_BYTES: Final = 64 * 1024
_MAX_DATA_BYTES: Final = 1 << 40


def frames_of(message: replication_pb2.FollowFrame, buffers: Sequence[memoryview]) -> Iterator[bytes]:
    """Yields a record or a part of an image, and the tensors beside it, as frames."""
    size_bytes = sum(map(len, buffers))
    message.data_bytes = size_bytes
    if size_bytes <= _INLINE_BYTES:
        message.inline_data = b"".join(buffers)
        yield message.SerializeToString()
        return
    yield message.SerializeToString()
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
        try:
            message = replication_pb2.FollowFrame.FromString(frame)
        except DecodeError as error:
            raise InvalidArgumentError(f"{len(frame)} bytes were received that are no FollowFrame: {error}") from error
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
        return message, content
