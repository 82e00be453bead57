"""Arrays of strings as they stand in the data of version 2.

First the length of each as a number of seven bits a byte, then a checksum of the lengths, then the strings. The
checksum of the whole is of the lengths with four bytes each (eight from 4 GiB on), of that checksum, and of the strings
(``WriteStringTensor`` of TensorFlow's ``tensor_bundle.cc``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from ps_protocol.codec.fast.varints import decode_varint, encode_varint
from ps_protocol.errors import DTypeMismatchError
from ps_protocol.tensor_files.crc32c import extended
from ps_protocol.tensorflow_files.checksums import masked, unmasked

_CHECKSUM_BYTES: Final = 4
_MOST_IN_FOUR_BYTES: Final = 2**32 - 1


def encode_strings(strings: Sequence[bytes]) -> tuple[bytes, int]:
    """Returns what stands in a file for strings, and its CRC-32C, not masked."""
    sizes = [len(each) for each in strings]
    crc = extended(0, _fixed(sizes))
    checksum = masked(crc).to_bytes(_CHECKSUM_BYTES, "little")
    content = b"".join(strings)
    data = b"".join([*map(encode_varint, sizes), checksum, content])
    return data, extended(extended(crc, checksum), content)


def decode_strings(data: bytes, count: int) -> tuple[list[bytes], int]:
    """Returns strings of a file, and the CRC-32C of them all.

    Raises:
        ValueError: They are damaged; says how, and from which byte on.
    """
    if count > len(data):
        raise ValueError(f"{len(data)} bytes cannot hold {count} strings")
    if not count and not data:
        return [], 0
    sizes, position = [], 0
    for _ in range(count):
        found = decode_varint(data, position)
        if found is None:
            raise ValueError(f"there is no length at byte {position}")
        sizes.append(found[0])
        position = found[1]
    crc = extended(0, _fixed(sizes))
    checksum = data[position : position + _CHECKSUM_BYTES]
    if len(checksum) < _CHECKSUM_BYTES or unmasked(int.from_bytes(checksum, "little")) != crc:
        raise ValueError(f"the checksum of the lengths, at byte {position}, is wrong")
    position += _CHECKSUM_BYTES
    if position + sum(sizes) != len(data):
        raise ValueError(f"strings of {sum(sizes)} bytes should follow at byte {position}, not {len(data) - position}")
    strings: list[bytes] = []
    for start in np.cumsum([position, *sizes])[:-1].tolist():
        strings.append(data[start : start + sizes[len(strings)]])
    return strings, extended(extended(crc, checksum), memoryview(data)[position:])


def as_strings(array: np.ndarray[Any, Any], name: str) -> list[bytes]:
    """Returns the elements of an array in C order as bytes, text as UTF-8.

    Raises:
        DTypeMismatchError: One is neither bytes nor text.
    """
    elements = array.ravel().tolist()
    wrong = [each for each in elements if not isinstance(each, bytes | str)]
    if wrong:
        what = f"{type(wrong[0]).__name__} among them"
        raise DTypeMismatchError(f"the objects of {name!r} have to be bytes or text to be saved: {what}", variable=name)
    return [each.encode() if isinstance(each, str) else each for each in elements]


def _fixed(sizes: list[int]) -> bytes:
    if not sizes or max(sizes) <= _MOST_IN_FOUR_BYTES:
        return np.array(sizes, "<u4").tobytes()
    return b"".join([size.to_bytes(4 if size <= _MOST_IN_FOUR_BYTES else 8, "little") for size in sizes])
