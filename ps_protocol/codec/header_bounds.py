"""What the header of a request may cost before anything of it is decoded: its size, its operations, the memory of both.

A header of 20 MB can hold three million operations, which take 3 GB and half a minute once they are objects. So their
number is counted in the bytes first, which takes a fraction of a microsecond for each, and stops at the limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ps_protocol.codec.fast.varints import LENGTH_DELIMITED, VARINT, decode_varint
from ps_protocol.codec.limits import MAX_MESSAGE_BYTES, MAX_OPERATIONS
from ps_protocol.errors import InvalidArgumentError, ResourceExhaustedError

SMALL_HEADER_BYTES: Final = 16 * 1024
"""Headers up to this size cost less than a decoded megabyte or so, and are not counted."""

_BYTES_OF_OPERATION: Final = 1024
_BYTES_OF_BYTE: Final = 4
"""Memory that an operation takes decoded, without its text, and that a byte of the header takes."""

_FIXED_64: Final = 1
_FIXED_32: Final = 5


@dataclass(frozen=True, slots=True)
class HeaderBounds:
    """What the header of one batch may be.

    Attributes:
        operations: Most operations.
        header_bytes: Most bytes.
    """

    operations: int = MAX_OPERATIONS
    header_bytes: int = MAX_MESSAGE_BYTES

    def check_size(self, size_bytes: int) -> None:
        """Raises ResourceExhaustedError if a header of that size, or so much of one, is too large."""
        if size_bytes > self.header_bytes:
            raise ResourceExhaustedError(
                f"the header of the batch has {size_bytes} bytes or more, and one may have {self.header_bytes} here; "
                f"send fewer operations at a time, or raise --max-header of the ps",
                retryable=False,
            )

    def decoded_bytes(self, header: bytes) -> int:
        """Returns about how much memory a header takes when it is decoded; 0 if that is not worth counting.

        Raises:
            ResourceExhaustedError: It is beyond the bounds.
            InvalidArgumentError: It is no message.
        """
        size_bytes = len(header)
        self.check_size(size_bytes)
        if size_bytes <= SMALL_HEADER_BYTES and size_bytes <= 2 * self.operations:
            return 0
        number = _count_fields(header, self.operations + _OTHER_FIELDS)
        if number > self.operations + _OTHER_FIELDS:
            raise ResourceExhaustedError(
                f"the batch has more than {self.operations} operations in a header of {size_bytes} bytes; send fewer "
                f"at a time, or raise --max-operations of the ps",
                retryable=False,
            )
        return number * _BYTES_OF_OPERATION + size_bytes * _BYTES_OF_BYTE


_OTHER_FIELDS: Final = 3
"""Client, store and sequence."""


def parts_of(header: bytes, part_bytes: int) -> list[bytes]:
    """Cuts a header between its fields, into parts that have so many bytes if a field is not larger itself."""
    parts: list[bytes] = []
    start = end = 0
    while end < len(header):
        after = _after_field(header, end)
        if after - start > part_bytes and end > start:
            parts.append(header[start:end])
            start = end
        end = after
    return [*parts, header[start:]]


def _count_fields(header: bytes, most: int) -> int:
    """Returns how many fields a message has; no more than one above ``most`` are looked at."""
    number, position, end = 0, 0, len(header)
    while position < end and number <= most:
        number += 1
        position = _after_field(header, position)
    if position > end:
        raise InvalidArgumentError(f"a header of {end} bytes is no BatchRequest: its last field is cut off")
    return number


def _after_field(header: bytes, position: int) -> int:
    tag = header[position]
    position += 1
    if tag >= 0x80:
        tag, position = decode_varint(header, position - 1) or (_NO_TAG, position)
    kind = tag & 7
    if kind == LENGTH_DELIMITED:
        if position < len(header) and header[position] < 0x80:  # as in nearly all
            return position + 1 + header[position]
        length, position = decode_varint(header, position) or (len(header), position)
        return position + length
    if kind == VARINT:
        _, position = decode_varint(header, position) or (0, len(header) + 1)
        return position
    if kind in (_FIXED_64, _FIXED_32):
        return position + (8 if kind == _FIXED_64 else 4)
    raise InvalidArgumentError(f"a header of {len(header)} bytes is no BatchRequest: it has a field of the kind {kind}")


_NO_TAG: Final = 7
