"""Turns arrays into tensor headers with bytes beside them, and back, without copying where none is needed.

The form is that of ``tensor.proto``: C order, little-endian, no padding. A header is data from another process:
everything it says is checked before any memory is taken for it, and its dtype is looked up in a fixed table, never
given to NumPy to interpret. All functions are safe to call from many threads.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

from ps_protocol.errors import InvalidArgumentError, ResourceExhaustedError
from ps_protocol.operations import Array
from ps_protocol.v1.tensor_pb2 import TensorHeader

if sys.byteorder != "little":  # pragma: no cover - needs another machine
    raise ImportError("shardscope sends the bytes of arrays as they lie in memory, and so needs a little-endian host")

Buffer: TypeAlias = memoryview | bytes | bytearray
"""Bytes of one tensor; a memoryview is one-dimensional, contiguous and of format "B"."""

MAX_DIMENSIONS = 64
"""Most dimensions of an array in NumPy 2."""

MAX_SIZE_BYTES = 2**63 - 1
"""Most bytes of a tensor, and of one whose zero sizes are left out, since NumPy refuses those as well."""

_MAX_BYTES_LENGTH = 2**31 - 1
_BYTES_NAME = re.compile(r"S([1-9][0-9]{0,9})", re.ASCII)
_LONG_DOUBLE = np.finfo(np.longdouble)
_ML_DTYPES = (
    "bfloat16",
    "float4_e2m1fn",
    "float6_e2m3fn",
    "float6_e3m2fn",
    "float8_e3m4",
    "float8_e4m3",
    "float8_e4m3b11fnuz",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "int1",
    "int2",
    "int4",
    "uint1",
    "uint2",
    "uint4",
    "bcomplex32",
    "complex32",
)
_REFUSED_KINDS = {
    "O": "its elements are Python objects, which have no bytes of their own; convert it, e.g. .astype(np.float32)",
    "U": "text travels as bytes; convert it with np.char.encode(array, 'utf-8')",
    "T": "text travels as bytes; convert it with np.char.encode(array.astype('U'), 'utf-8')",
    "M": "dates are not numbers; send .view(np.int64) and keep the unit yourself",
    "m": "time differences are not numbers; send .view(np.int64) and keep the unit yourself",
    "V": "it has fields or no type; send each field as a tensor of its own",
    "f": "its layout in memory differs between machines; convert it to float64",
    "c": "its layout in memory differs between machines; convert it to complex128",
    "S": "its elements have no bytes; give them a length, e.g. .astype('S1')",
}


def _scalar_types() -> list[type[np.generic]]:
    # By character, not by name, since int64 is two C types with one name.
    types = [np.dtype(char).type for char in "?bBhHiIlLqQefdFD"]
    # Of the types wider than a double only the x86 one travels: its name says "float128" on other machines too, where
    # the bytes mean something else.
    if _LONG_DOUBLE.nmant == 63 and np.dtype(np.longdouble).itemsize == 16:
        types += [np.longdouble, np.clongdouble]
    # A type that came with a later ml-dtypes than the one installed is unknown here.
    types += [getattr(ml_dtypes, name) for name in _ML_DTYPES if hasattr(ml_dtypes, name)]
    return types


_NAME_OF_TYPE: dict[type[np.generic], str] = {scalar: np.dtype(scalar).name for scalar in _scalar_types()}
# Reversed, so that of two C types with one name the first one stands for it.
_DTYPE_OF_NAME: dict[str, np.dtype[Any]] = {name: np.dtype(scalar) for scalar, name in reversed(_NAME_OF_TYPE.items())}
# memoryview.cast knows only these; they are also the common ones.
_CASTABLE = frozenset(np.dtype(char).type for char in "?bBhHiIlLqQefd")
_BYTE = np.dtype(np.uint8)
_EMPTY = memoryview(b"")


@dataclass(frozen=True, slots=True)
class TensorLayout:
    """What a header says, checked.

    Attributes:
        dtype: In native byte order.
        shape: No size negative, at most ``MAX_DIMENSIONS`` of them.
        size_bytes: At most ``MAX_SIZE_BYTES``; whether so much may be taken is for the caller to decide.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    size_bytes: int


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Returns the contract's name of a dtype, whatever its byte order.

    Raises:
        InvalidArgumentError: Arrays of the dtype cannot be sent; the message says why and what to do.
    """
    name = _NAME_OF_TYPE.get(dtype.type)
    if name is not None:
        return name
    if dtype.type is np.bytes_ and 0 < dtype.itemsize <= _MAX_BYTES_LENGTH:
        return f"S{dtype.itemsize}"
    reason = _REFUSED_KINDS.get(dtype.kind, "it is not a type of numbers, truth values or bytes")
    raise InvalidArgumentError(f"an array of dtype {dtype} cannot be sent: {reason}")


def parse_dtype(name: str) -> np.dtype[Any]:
    """Returns the dtype that the contract calls ``name``, in native byte order.

    Raises:
        InvalidArgumentError: There is none.
    """
    dtype = _DTYPE_OF_NAME.get(name)
    return _parse_bytes_dtype(name) if dtype is None else dtype


def parse_layout(name: str, shape: Sequence[int]) -> TensorLayout:
    """Returns the layout of a tensor of the dtype called ``name``; raises as ``parse_header`` does."""
    return TensorLayout(*_checked(name, shape))


def parse_header(header: TensorHeader) -> TensorLayout:
    """Returns what a header says; takes no memory for it.

    Raises:
        InvalidArgumentError: The dtype is unknown, there are too many dimensions, one is negative, or the size in
            bytes is beyond ``MAX_SIZE_BYTES``.
    """
    return TensorLayout(*_checked(header.dtype, header.shape))


def encode(array: Array) -> tuple[TensorHeader, memoryview]:
    """Returns the header and the bytes of an array.

    The bytes are those of the array itself, which has to stay as it is until they are sent, unless it is not
    contiguous in C order or not little-endian: then they are a copy's.

    Args:
        array: Any shape, with a dtype that ``dtype_name`` accepts.

    Raises:
        InvalidArgumentError: The dtype is not one that can be sent.
    """
    header = TensorHeader()
    return header, encode_into(header, array)


def encode_into(header: TensorHeader, array: Array) -> memoryview:
    """Fills an empty header, as a field of a message is, and returns the bytes; otherwise like ``encode``."""
    dtype = array.dtype
    header.dtype = dtype_name(dtype)
    header.shape.extend(array.shape)
    if not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="), order="C")
    elif not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    return bytes_of(array)


def decode(header: TensorHeader, buffer: Buffer) -> Array:
    """Returns the tensor as a view of ``buffer``, which may be written to if the buffer may.

    Raises:
        InvalidArgumentError: The header is malformed, or the buffer has not exactly the size that it says.
    """
    dtype, shape, size_bytes = _checked(header.dtype, header.shape)
    if len(buffer) != size_bytes:
        raise InvalidArgumentError(
            f"a tensor {dtype}{list(shape)} has {size_bytes} bytes, but its buffer has {len(buffer)}"
        )
    return np.ndarray(shape, dtype, buffer)


def allocate(layout: TensorLayout) -> tuple[Array, memoryview]:
    """Returns a new array, not yet filled, and its bytes to write to.

    Raises:
        ResourceExhaustedError: There is not so much memory; not retryable, since the tensor will not shrink.
    """
    try:
        array = np.empty(layout.shape, layout.dtype)
    except MemoryError as error:
        raise ResourceExhaustedError(
            f"there is no memory for a tensor of {layout.size_bytes} bytes ({layout.dtype}{list(layout.shape)}); "
            "partition the variable over more ps tasks",
            retryable=False,
        ) from error
    return array, bytes_of(array)


def bytes_of(array: Array) -> memoryview:
    """Returns the bytes of an array as they lie in memory; it must be in C order and native byte order."""
    if not array.size:
        return _EMPTY
    if array.dtype.type in _CASTABLE:
        return array.data.cast("B")
    return np.asarray(array).reshape(-1).view(_BYTE).data


def _checked(name: str, shape: Sequence[int]) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    dtype = _DTYPE_OF_NAME.get(name)
    if dtype is None:
        dtype = _parse_bytes_dtype(name)
    if len(shape) > MAX_DIMENSIONS:
        raise InvalidArgumentError(f"a tensor has {len(shape)} dimensions; at most {MAX_DIMENSIONS} are possible")
    sizes = tuple(shape)
    size_bytes = math.prod(sizes) * dtype.itemsize
    if sizes and min(sizes) <= 0:
        _check_unusual_sizes(dtype, sizes)
    elif size_bytes > MAX_SIZE_BYTES:
        raise _too_large(dtype, sizes)
    return dtype, sizes, size_bytes


def _check_unusual_sizes(dtype: np.dtype[Any], sizes: tuple[int, ...]) -> None:
    if min(sizes) < 0:
        raise InvalidArgumentError(f"a tensor has the shape {list(sizes)}; no size may be negative")
    if math.prod(filter(None, sizes)) * dtype.itemsize > MAX_SIZE_BYTES:
        raise _too_large(dtype, sizes)


def _too_large(dtype: np.dtype[Any], sizes: tuple[int, ...]) -> InvalidArgumentError:
    return InvalidArgumentError(f"a tensor {dtype}{list(sizes)} is larger than 2**63 - 1 bytes, beyond any memory")


@lru_cache(maxsize=256)
def _parse_bytes_dtype(name: str) -> np.dtype[Any]:
    match = _BYTES_NAME.fullmatch(name)
    if match and int(match[1]) <= _MAX_BYTES_LENGTH:
        return np.dtype((np.bytes_, int(match[1])))
    if not name:
        raise InvalidArgumentError("a tensor header or a variable's spec lacks the dtype")
    raise InvalidArgumentError(
        f"the dtype {name[:40]!r} is unknown; known are S<length>, {', '.join(sorted(_DTYPE_OF_NAME))}"
    )
