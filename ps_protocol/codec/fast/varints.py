"""Numbers as protobuf writes them (https://protobuf.dev/programming-guides/encoding/), for headers made by hand."""

from __future__ import annotations

from typing import Final

_MAX_BYTES: Final = 10
_CONTINUED: Final = 0x80
_SHORT: Final = tuple([bytes((number,)) for number in range(_CONTINUED)])
_LOWEST: Final = tuple([bytes((number | _CONTINUED,)) for number in range(_CONTINUED)])
"""The lowest seven bits of a number that has more."""

VARINT: Final = 0
"""Wire type of a field that is a number."""

LENGTH_DELIMITED: Final = 2
"""Wire type of a field of bytes or text, and of a message: its length as a number stands before its content."""

FIXED32: Final = 5
"""Wire type of a field that is a number of four bytes, the lowest first."""


def encode_varint(number: int) -> bytes:
    """Returns a number that is not negative, seven bits a byte, the lowest first."""
    if number < _CONTINUED:
        return _SHORT[number]
    return _LOWEST[number & 0x7F] + encode_varint(number >> 7)


def decode_varint(data: bytes, start: int) -> tuple[int, int] | None:
    """Returns the number that begins at ``start``, and where it ends; None if there is none below 2**64."""
    number, shift, end = 0, 0, start
    for byte in data[start : start + _MAX_BYTES]:
        end += 1
        if byte < _CONTINUED:
            number |= byte << shift
            return (number, end) if number < 2**64 else None
        number |= (byte & 0x7F) << shift
        shift += 7
    return None


def field_tag(number: int, wire_type: int) -> bytes:
    """Returns what stands before the content of a field."""
    return encode_varint(number << 3 | wire_type)
