"""How records lie in a journal file: rows of frames for the database, large records for the tensor file.

A frame tells of one record its position, its sizes, where it is and its checksums; a small record follows its frame.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from ps_server import record_codec
from ps_server.records import LoggedRecord

INLINE_BYTES: Final = 64 * 1024
"""Records up to here are kept in the database, where one sync makes them durable."""

ROW_BYTES: Final = 4 * 1024**2
"""What a row holds, roughly; bounds what is read at a time."""

_INLINE: Final = 2**64 - 1
_FIELDS: Final = struct.Struct("<QQQQ")
_CHECKSUMS: Final = struct.Struct("<II")  # of the content; of the fields and that
_FRAME_BYTES: Final = _FIELDS.size + _CHECKSUMS.size


class MalformedRowError(ValueError):
    """A row does not hold the frames that it should."""

    def __init__(self, position: int, what: str):
        super().__init__(what)
        self.position = position


@dataclass(frozen=True, slots=True)
class Row:
    """Records as a row of the database.

    Attributes:
        first: Position of the first one.
        last: Position of the last one.
        frames: Of all, in order.
    """

    first: int
    last: int
    frames: bytes


@dataclass(frozen=True, slots=True)
class Frame:
    """What a row says of one record.

    Attributes:
        position: Of the record.
        header_bytes: Size of its serialised header.
        tensor_bytes: Size of its tensors, which lie end to end behind the header.
        offset: Where the header begins in the tensor file, of a large record.
        crc: CRC-32 of header and tensors.
        inline: Header and tensors, of a small record.
    """

    position: int
    header_bytes: int
    tensor_bytes: int
    offset: int
    crc: int
    inline: memoryview | None

    @property
    def size_bytes(self) -> int:
        """Of header and tensors."""
        return self.header_bytes + self.tensor_bytes


@dataclass(slots=True)
class Layout:
    """Where records are to be written.

    Attributes:
        rows: For the database.
        outside: For the tensor file, end to end from the offset that was given.
        end: Where that ends.
    """

    rows: list[Row] = field(default_factory=list)
    outside: list[memoryview] = field(default_factory=list)
    end: int = 0


def lay_out(records: Sequence[LoggedRecord], offset: int) -> Layout:
    """Returns records as rows and, of large ones, the bytes that go into the tensor file from ``offset`` on.

    Raises:
        InvalidArgumentError: A tensor has a dtype that cannot be written.
    """
    layout = Layout(end=offset)
    parts: list[bytes | memoryview] = []
    first, row_bytes = records[0].position, 0
    for logged in records:
        row_bytes += _add(layout, parts, logged)
        if row_bytes >= ROW_BYTES:
            layout.rows.append(Row(first, logged.position, b"".join(parts)))
            parts, first, row_bytes = [], logged.position + 1, 0
    if parts:
        layout.rows.append(Row(first, records[-1].position, b"".join(parts)))
    return layout


def frames_of(row: Row) -> Iterator[Frame]:
    """Returns the frames of a row; what they say is what was written, their records are not yet looked at.

    Raises:
        MalformedRowError: A frame is damaged, or not the one that should be there.
    """
    view, start = memoryview(row.frames), 0
    for position in range(row.first, row.last + 1):
        content = start + _FRAME_BYTES
        if content > len(view):
            raise MalformedRowError(position, "its row in the database is too short")
        fields = view[start : start + _FIELDS.size]
        crc, own_crc = _CHECKSUMS.unpack_from(view, start + _FIELDS.size)
        if zlib.crc32(fields, crc) != own_crc:
            raise MalformedRowError(position, "the checksum of its frame is wrong")
        found, header_bytes, tensor_bytes, offset = _FIELDS.unpack(fields)
        if found != position:
            raise MalformedRowError(position, f"its place is taken by {found}")
        start = content
        if offset == _INLINE:
            start += header_bytes + tensor_bytes
            if start > len(view):
                raise MalformedRowError(position, "its row in the database is too short")
        inline = view[content:start] if offset == _INLINE else None
        yield Frame(position, header_bytes, tensor_bytes, offset, crc, inline)
    if start != len(view):
        raise MalformedRowError(row.last, f"its row in the database has {len(view) - start} bytes too many")


def _add(layout: Layout, parts: list[bytes | memoryview], logged: LoggedRecord) -> int:
    """Adds a record, and returns by how much that makes its row longer."""
    message, buffers = record_codec.encode_record(logged)
    header = message.SerializeToString()
    crc = zlib.crc32(header)
    for buffer in buffers:
        crc = zlib.crc32(buffer, crc)
    tensor_bytes = sum(map(len, buffers))
    size_bytes = len(header) + tensor_bytes
    is_inline = size_bytes <= INLINE_BYTES
    fields = _FIELDS.pack(logged.position, len(header), tensor_bytes, _INLINE if is_inline else layout.end)
    parts += (fields, _CHECKSUMS.pack(crc, zlib.crc32(fields, crc)))
    if is_inline:
        parts += (header, *buffers)
        return _FRAME_BYTES + size_bytes
    layout.outside += (memoryview(header), *buffers)
    layout.end += size_bytes
    return _FRAME_BYTES
