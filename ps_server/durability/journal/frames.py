"""How records lie in a journal file: rows of frames for the database, large records for the tensor file.

A frame holds the position, the sizes, the place and the checksums of one record. A small record follows its frame.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ps_server.log import record_codec
from ps_server.log.records import LoggedRecord

INLINE_BYTES: Final = 128 * 1024
"""Records up to here are kept in the database, where one sync is enough."""

ROW_BYTES: Final = 4 * 1024**2
"""About what a row holds; bounds what is read at a time."""

_INLINE: Final = 2**64 - 1
_FIELDS: Final = struct.Struct("<QQQQ")
_CHECKSUMS: Final = struct.Struct("<II")  # of the content; of the fields and that
_FRAME_BYTES: Final = _FIELDS.size + _CHECKSUMS.size


class MalformedRowError(ValueError):
    """A row does not hold the frames that it should hold."""

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


@dataclass(frozen=True, slots=True)
class _Encoded:
    position: int
    header: bytes
    buffers: list[memoryview]
    tensor_bytes: int
    offset: int

    def frame(self) -> bytes:
        crc = zlib.crc32(self.header)
        for buffer in self.buffers:
            crc = zlib.crc32(buffer, crc)
        fields = _FIELDS.pack(self.position, len(self.header), self.tensor_bytes, self.offset)
        return fields + _CHECKSUMS.pack(crc, zlib.crc32(fields, crc))


class Layout:
    """Where records are to be written. One thread at a time.

    Args:
        records: In order; at least one.
        offset: Where the tensor file ends.

    Attributes:
        outside: For the tensor file, end to end from ``offset`` on.
        end: Where that ends.

    Raises:
        InvalidArgumentError: A tensor has a dtype that cannot be written.
    """

    def __init__(self, records: Sequence[LoggedRecord], offset: int):
        self.outside: list[memoryview] = []
        self.end = offset
        self._records = [self._encoded(logged) for logged in records]

    def rows(self) -> list[Row]:
        """Returns the rows for the database; takes as long as the checksums of all tensors."""
        rows: list[Row] = []
        parts: list[bytes | memoryview] = []
        first, row_bytes = self._records[0].position, 0
        for encoded in self._records:
            parts.append(encoded.frame())
            row_bytes += _FRAME_BYTES
            if encoded.offset == _INLINE:
                parts += (encoded.header, *encoded.buffers)
                row_bytes += len(encoded.header) + encoded.tensor_bytes
            if row_bytes >= ROW_BYTES or encoded is self._records[-1]:
                rows.append(Row(first, encoded.position, b"".join(parts)))
                parts, first, row_bytes = [], encoded.position + 1, 0
        return rows

    def _encoded(self, logged: LoggedRecord) -> _Encoded:
        message, buffers = record_codec.encode_record(logged)
        header, tensor_bytes = message.SerializeToString(), sum(map(len, buffers))
        size_bytes, offset = len(header) + tensor_bytes, _INLINE
        if size_bytes > INLINE_BYTES:
            offset = self.end
            self.outside += (memoryview(header), *buffers)
            self.end += size_bytes
        return _Encoded(logged.position, header, buffers, tensor_bytes, offset)


def frames_of(row: Row) -> Iterator[Frame]:
    """Returns the frames of a row, which have been verified. The records have not been.

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
