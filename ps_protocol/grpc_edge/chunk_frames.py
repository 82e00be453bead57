"""The messages that carry tensors over gRPC, written and read by hand: protobuf on the wire, without its copies.

``RequestFrame``, ``ReplyFrame``, ``ExchangeRequest`` and ``ExchangeReply`` of ``data.proto`` have the same two fields:
1 is a header, which is a message, and 2 is bytes. In protobuf's encoding
(https://protobuf.dev/programming-guides/encoding/) both are a tag, a length as a varint, and the content. So a chunk is
written by joining its tag, its length and the memory of the tensors, once, and read as a view of what gRPC has
received; the generated classes would copy it twice more on each side.

A header that is too large for one message comes in several frames, whose contents are the header, end to end: so
protobuf merges messages.

Only the usual form is read by hand. All else that protobuf allows (unknown fields, fields repeated, missing or in
another order) goes through the generated classes. All functions are safe to call from many threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from google.protobuf.message import DecodeError

from ps_protocol.codec.fast.varints import LENGTH_DELIMITED, decode_varint, encode_varint, field_tag
from ps_protocol.codec.header_bounds import parts_of
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.v1 import data_pb2

_HEADER_TAG: Final = field_tag(data_pb2.RequestFrame.HEADER_FIELD_NUMBER, LENGTH_DELIMITED)[0]
_PART_TAG: Final = field_tag(data_pb2.RequestFrame.HEADER_PART_FIELD_NUMBER, LENGTH_DELIMITED)[0]
_BYTES_TAG: Final = field_tag(data_pb2.RequestFrame.DATA_FIELD_NUMBER, LENGTH_DELIMITED)[0]


def header_frame(header: bytes) -> bytes:
    """Returns the frame that holds a header, a ``BatchRequest`` or ``BatchReply``."""
    return _prefix(_HEADER_TAG, len(header)) + header


def header_frames(header: bytes, part_bytes: int) -> list[bytes]:
    """Returns the frames that hold the header of a request, in parts of about so many bytes."""
    *parts, last = parts_of(header, part_bytes)
    return [*[_prefix(_PART_TAG, len(part)) + part for part in parts], header_frame(last)]


def data_frame(parts: Sequence[memoryview]) -> bytes:
    """Returns the frame that holds the bytes of ``parts``, end to end."""
    return b"".join((_prefix(_BYTES_TAG, sum(map(len, parts))), *parts))


def exchange_message(header: bytes, buffers: Sequence[memoryview]) -> bytes:
    """Returns the message that holds a header, a ``BatchRequest`` or ``BatchReply``, and all of its buffers."""
    parts: list[bytes | memoryview] = [_prefix(_HEADER_TAG, len(header)), header]
    for buffer in buffers:
        parts.append(_prefix(_BYTES_TAG, len(buffer)))
        parts.append(buffer)
    return b"".join(parts)


class FrameReader:
    """Reads the frames of one direction of a stream, and the messages of the same direction.

    Headers are returned as bytes, and not looked into: ``request_bytes`` and ``reply_bytes`` do that.

    Args:
        frame_type: ``RequestFrame`` or ``ReplyFrame``.
        message_type: ``ExchangeRequest`` or ``ExchangeReply``.
    """

    def __init__(self, frame_type: type[Any], message_type: type[Any]):
        self._frame_type = frame_type
        self._message_type = message_type

    def header(self, frame: bytes) -> bytes | None:
        """Returns the header that a frame holds; None if it holds something else.

        Raises:
            InvalidArgumentError: It is no frame.
        """
        content = _only_field(frame, _HEADER_TAG)
        if content is not None:
            return bytes(content)
        general = _parsed(self._frame_type, frame)
        header: bytes = general.header.SerializeToString()
        return header if general.WhichOneof("frame") == "header" else None

    def data(self, frame: bytes) -> memoryview | None:
        """Returns the bytes that a data frame holds, mostly a view of it; None if it holds something else.

        Raises:
            InvalidArgumentError: It is no frame.
        """
        content = _only_field(frame, _BYTES_TAG)
        if content is not None:
            return content
        general = _parsed(self._frame_type, frame)
        return memoryview(general.data) if general.WhichOneof("frame") == "data" else None

    def message(self, message: bytes) -> tuple[bytes, list[memoryview]]:
        """Returns header and buffers of a whole exchange in one message; the buffers mostly are views of it.

        Raises:
            InvalidArgumentError: It is no such message.
        """
        fields = _fields(message)
        if fields and fields[0][0] == _HEADER_TAG and all(tag == _BYTES_TAG for tag, _ in fields[1:]):
            return bytes(fields[0][1]), [content for _, content in fields[1:]]
        general = _parsed(self._message_type, message)
        return general.header.SerializeToString(), [memoryview(buffer) for buffer in general.buffers]


REQUESTS: Final = FrameReader(data_pb2.RequestFrame, data_pb2.ExchangeRequest)
REPLIES: Final = FrameReader(data_pb2.ReplyFrame, data_pb2.ExchangeReply)


def header_part(frame: bytes) -> bytes | None:
    """Returns the part of a request's header that a frame holds, of which more is to come; None if it holds no part.

    Raises:
        InvalidArgumentError: It is no frame.
    """
    if frame and frame[0] in (_HEADER_TAG, _BYTES_TAG):
        return None  # as nearly all
    content = _only_field(frame, _PART_TAG)
    if content is not None:
        return bytes(content)
    general = _parsed(data_pb2.RequestFrame, frame)
    part: bytes = general.header_part.SerializeToString()
    return part if general.WhichOneof("frame") == "header_part" else None


def holds_data(frame: bytes) -> bool:
    """Whether a frame is one of data, if it is a frame at all."""
    return bool(frame) and frame[0] == _BYTES_TAG


def _parsed(message_type: type[Any], data: bytes | memoryview) -> Any:
    try:
        return message_type.FromString(data)
    except DecodeError as error:
        raise InvalidArgumentError(
            f"{len(data)} bytes were received that are no {message_type.__name__} of the contract: {error}"
        ) from error


def _prefix(tag: int, length: int) -> bytes:
    return bytes((tag,)) + encode_varint(length)


def _only_field(message: bytes, tag: int) -> memoryview | None:
    """Returns the content of a message that is one length-delimited field with that tag; None if it is not."""
    if not message or message[0] != tag:
        return None
    start, end = _content(message, 1)
    return memoryview(message)[start:] if end == len(message) else None


def _fields(message: bytes) -> list[tuple[int, memoryview]] | None:
    """Returns tags and contents of a message of length-delimited fields numbered below 16; None if it is not one."""
    view = memoryview(message)
    fields: list[tuple[int, memoryview]] = []
    position = 0
    while position < len(message):
        tag = message[position]
        if tag not in (_HEADER_TAG, _BYTES_TAG):
            return None
        start, position = _content(message, position + 1)
        if not start <= position <= len(message):
            return None
        fields.append((tag, view[start:position]))
    return fields


def _content(message: bytes, position: int) -> tuple[int, int]:
    """Returns where the content begins and ends whose length is written at ``position``; an end of -1 if none is."""
    length, start = decode_varint(message, position) or (-1 - position, position)
    return start, start + length
