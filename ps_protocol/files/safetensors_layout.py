"""Where values lie in a safetensors file, and its header.

The format: eight bytes with the size of the header as a little-endian integer, the header as JSON, then the tensors in
C order, little-endian, without gaps (https://github.com/huggingface/safetensors, "Format"). We write it ourselves:
its library needs all tensors as bytes in memory at once.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ps_protocol.codec.tensor_codec import dtype_name
from ps_protocol.operations import VariableSpec

METADATA_KEY: Final = "__metadata__"
"""Under which a header has texts of its writer beside the tensors."""

NAME_OF_DTYPE: Final = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "complex64": "C64",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
}
"""The format's names of dtypes whose elements are whole bytes."""

_SIZE_BYTES: Final = 8
_ALIGNMENT: Final = 8

_FAR: Final = 10**28
"""Two such numbers are as long as any three of a file, as a value needs that is put down as bytes."""


@dataclass(frozen=True, slots=True)
class ValuesLayout:
    """A safetensors file that is to be written.

    Attributes:
        header: Its first bytes, up to the first tensor.
        order: Of each tensor in the file, in turn, its index among the specs.
        offsets: Where the tensor of each spec begins, counted from the beginning of the file.
        size_bytes: Of the file.
    """

    header: bytes
    order: tuple[int, ...]
    offsets: tuple[int, ...]
    size_bytes: int


def values_layout(specs: Sequence[VariableSpec], metadata: dict[str, str]) -> ValuesLayout:
    """Lays out a tensor for each spec; those with larger elements come first, so that each is aligned to its own.

    A dtype that the format does not have is put down as the bytes of its elements, uint8 of shape [size in bytes].
    """
    order = sorted(range(len(specs)), key=lambda index: (-alignment(specs[index].dtype), specs[index].name))
    starts = [0] * len(specs)
    end = 0
    for index in order:
        starts[index], end = end, end + specs[index].size_bytes
    header = _header([(specs[index], starts[index]) for index in order], metadata)
    return ValuesLayout(header, tuple(order), tuple(len(header) + start for start in starts), len(header) + end)


def header_room(specs: Sequence[VariableSpec], metadata: dict[str, str]) -> int:
    """Returns how many bytes ``header_in`` needs for these tensors in any order, also if their sizes become others."""
    return len(_header([(spec, _FAR) for spec in specs], metadata))


def header_in(room_bytes: int, specs: Sequence[VariableSpec], metadata: dict[str, str]) -> bytes:
    """Returns a header of just so many bytes, for tensors that follow it in this order.

    If shapes have become so much longer that they have no room, all are put down as the bytes of their elements.
    """
    ends = [0, *itertools.accumulate([spec.size_bytes for spec in specs])]
    placed = list(zip(specs, ends, strict=False))
    header = _header(placed, metadata, room_bytes)
    return header if len(header) == room_bytes else _header(placed, metadata, room_bytes, names={})


def alignment(dtype: np.dtype[Any]) -> int:
    """Returns of which number of bytes a multiple lies before a tensor, where those with larger elements come first."""
    return dtype.itemsize if dtype_name(dtype) in NAME_OF_DTYPE else 1


def _header(
    placed: Sequence[tuple[VariableSpec, int]],
    metadata: dict[str, str],
    room_bytes: int = 0,
    names: Mapping[str, str] = NAME_OF_DTYPE,
) -> bytes:
    """Returns the header of tensors that begin at these bytes behind it, itself with at least so many."""
    entries: dict[str, Any] = {METADATA_KEY: metadata}
    for spec, start in placed:
        name = names.get(dtype_name(spec.dtype))
        entries[tensor_key(spec.name)] = {
            "dtype": name or "U8",
            "shape": list(spec.shape) if name else [spec.size_bytes],
            "data_offsets": [start, start + spec.size_bytes],
        }
    text = json.dumps(entries, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % _ALIGNMENT)
    text = text.ljust(room_bytes - _SIZE_BYTES)
    return len(text).to_bytes(_SIZE_BYTES, "little") + text


def tensor_key(name: str) -> str:
    """Name of a variable's tensor in the file: its own, unless the format reserves that."""
    return name + "_" if name.startswith(METADATA_KEY) else name
