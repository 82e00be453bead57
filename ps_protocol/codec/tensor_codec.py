"""Turns arrays into tensor headers with bytes beside them, and back, copying only where it must.

The form is that of ``tensor.proto``: C order, little-endian, no padding. A header is data from another process: all
that it says is checked before any memory is taken for it. Its dtype is looked up in a fixed table, and never given to
NumPy to interpret. All functions are safe to call from many threads.

A tensor in a lossy form (``WireDType``) takes new memory on both sides. In its layout, the size in bytes is that of the
form; dtype and shape are those of the array that it stands for.
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

from ps_protocol.codec import wire_dtypes
from ps_protocol.errors import InternalError, InvalidArgumentError, ResourceExhaustedError
from ps_protocol.operations import Array, WireDType
from ps_protocol.out_arrays import misfit
from ps_protocol.v1.tensor_pb2 import TensorHeader
from ps_protocol.v1.tensor_pb2 import WireDType as TensorWireDType

if sys.byteorder != "little":  # pragma: no cover - needs another machine
    raise ImportError("shardscope sends the bytes of arrays as they lie in memory, and so needs a little-endian host")

Buffer: TypeAlias = memoryview | bytes | bytearray
"""Bytes of one tensor; a memoryview is one-dimensional, contiguous and of format "B"."""

MAX_DIMENSIONS = 64
"""Most dimensions of an array in NumPy 2."""

MAX_SIZE_BYTES = 2**63 - 1
"""Most bytes of a tensor. Dimensions of size 0 do not count, since NumPy leaves them out of this limit too."""

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
_EXACT = WireDType.EXACT
_WIRE_DTYPES = {int(wire): wire for wire in WireDType}
_EMPTY = memoryview(b"")


@dataclass(frozen=True, slots=True)
class TensorLayout:
    """What a header says, checked.

    Attributes:
        dtype: In native byte order.
        shape: No size negative, at most ``MAX_DIMENSIONS`` of them.
        size_bytes: Of the buffer. At most ``MAX_SIZE_BYTES``; the caller decides whether so much may be taken.
        wire: The form of the elements in the buffer.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    size_bytes: int
    wire: WireDType = WireDType.EXACT

    @property
    def decoded_bytes(self) -> int:
        """Bytes that decoding takes besides the buffer: none for an exact tensor, which is a view of it."""
        return 0 if self.wire is WireDType.EXACT else math.prod(self.shape) * self.dtype.itemsize


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
        InvalidArgumentError: The dtype is unknown, there are too many dimensions, one is negative, the size in bytes
            is beyond ``MAX_SIZE_BYTES``, or the wire form is unknown or not one for the dtype.
    """
    dtype, shape, size_bytes = _checked(header.dtype, header.shape)
    if not header.wire:
        return TensorLayout(dtype, shape, size_bytes)
    wire = parse_wire(header.wire)
    wire_dtypes.check_dtype(wire, dtype)
    return TensorLayout(dtype, shape, wire_dtypes.encoded_bytes(wire, math.prod(shape)), wire)


def parse_wire(number: int) -> WireDType:
    """Returns the wire form that the contract gives a number; InvalidArgumentError if there is none."""
    wire = _WIRE_DTYPES.get(number)
    if wire is None:
        known = ", ".join(f"{each.name.lower()} ({each})" for each in WireDType)
        raise InvalidArgumentError(f"the wire dtype {number} is unknown; known are {known}")
    return wire


def encode(array: Array, wire: WireDType = WireDType.EXACT) -> tuple[TensorHeader, memoryview]:
    """Returns the header and the bytes of an array.

    The bytes are the array's own, so the array must not change until they are sent. They are a copy if the array is not
    contiguous in C order or not little-endian, or if the form is lossy.

    Args:
        array: Any shape, with a dtype that ``dtype_name`` accepts.
        wire: The form of the elements in the bytes.

    Raises:
        InvalidArgumentError: The dtype is not one that can be sent, or not in that form.
    """
    header = TensorHeader()
    return header, encode_into(header, array, wire)


def encode_into(
    header: TensorHeader, array: Array, wire: WireDType = WireDType.EXACT, encoded: Array | None = None
) -> memoryview:
    """Fills an empty header, as a field of a message is, and returns the bytes; otherwise like ``encode``.

    ``encoded`` has the bytes of the lossy form if they are known already; then these are returned.
    """
    header.dtype = dtype_name(array.dtype)
    header.shape.extend(array.shape)
    if wire is not _EXACT:
        if encoded is None:
            encoded = wire_dtypes.encode(wire, array)
        header.wire = TensorWireDType.ValueType(wire)
        return encoded.data
    return contiguous_bytes(array)


def contiguous_bytes(array: Array) -> memoryview:
    """Returns the bytes of an array as they travel: its own, or a copy's if it is not in C order and native."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="), order="C")
    elif not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    return bytes_of(array)


def decode(header: TensorHeader, buffer: Buffer) -> Array:
    """Returns the tensor: a view of ``buffer``, writable if the buffer is; for a lossy form, a new array.

    Raises:
        InvalidArgumentError: The header is malformed, the buffer has not exactly the size that it says, or holds what
            its form does not allow.
        ResourceExhaustedError: There is no memory for a new array.
    """
    return decode_as(parse_header(header), buffer)


def decode_as(layout: TensorLayout, buffer: Buffer, out: Array | None = None) -> Array:
    """The same for a tensor whose header was parsed.

    Args:
        layout: What the header says.
        buffer: The tensor's bytes.
        out: Where to put the tensor, writable and in C order; returned. If it shares memory with the buffer, an exact
            tensor is there already.

    Raises:
        InternalError: ``out`` is not such an array.
        InvalidArgumentError, ResourceExhaustedError: As for ``decode``.
    """
    if layout.wire is not _EXACT:
        return _decode_lossy(layout, buffer, out)
    if len(buffer) != layout.size_bytes:
        raise InvalidArgumentError(
            f"a tensor {layout.dtype}{list(layout.shape)} has {layout.size_bytes} bytes, but its buffer has "
            f"{len(buffer)}"
        )
    array = np.ndarray(layout.shape, layout.dtype, buffer)
    if out is None:
        return array
    if not np.may_share_memory(array, out):
        check_target(out, layout.dtype, layout.shape)
        np.copyto(out, array)
    return out


def decode_at(header: TensorHeader, data: memoryview, start: int) -> tuple[Array, int]:
    """Returns the tensor whose bytes begin at ``start`` in ``data``, as ``decode`` does, and where they end.

    Raises:
        InvalidArgumentError: The header is malformed, its bytes go beyond the end, or are not what its form allows.
        ResourceExhaustedError: There is no memory for a new array.
    """
    dtype, shape, size_bytes = _checked(header.dtype, header.shape)
    if header.wire:
        size_bytes = parse_header(header).size_bytes
    end = start + size_bytes
    if end > len(data):
        raise InvalidArgumentError(
            f"the tensors of the message have at least {end} bytes, but {len(data)} are beside it"
        )
    if header.wire:
        return decode(header, data[start:end]), end
    return np.ndarray(shape, dtype, data, start), end


def allocate(layout: TensorLayout) -> tuple[Array, memoryview]:
    """Returns a new array, not yet filled, and its bytes; for a lossy form, an array of uint8 for the bytes alone.

    Raises:
        ResourceExhaustedError: There is not enough memory; not retryable, since the tensor will not shrink.
    """
    is_exact = layout.wire is _EXACT
    array = _empty(layout.shape, layout.dtype) if is_exact else _empty((layout.size_bytes,), _BYTE)
    return array, bytes_of(array)


def check_target(target: Array, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Makes sure that a tensor can be put into an array that was given for it.

    Raises:
        InternalError: It cannot. The code that made the operation must check that.
    """
    wrong = misfit(target, dtype, shape, in_order=True)
    if wrong is not None:
        raise InternalError(f"the reply does not fit: `out` {wrong[1]}")


def bytes_of(array: Array) -> memoryview:
    """Returns the bytes of an array as they lie in memory; it must be in C order and native byte order."""
    if not array.size:
        return _EMPTY
    if array.dtype.type in _CASTABLE:
        return array.data.cast("B")
    return np.asarray(array).reshape(-1).view(_BYTE).data


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    try:
        return np.empty(shape, dtype)
    except MemoryError as error:
        raise ResourceExhaustedError(
            f"there is no memory for a tensor of {math.prod(shape) * dtype.itemsize} bytes ({dtype}{list(shape)}); "
            "partition the variable over more ps tasks",
            retryable=False,
        ) from error


def _decode_lossy(layout: TensorLayout, buffer: Buffer, out: Array | None) -> Array:
    # The size of the buffer first: a header of a few bytes must not make us take memory for what it claims.
    wire_dtypes.check_size(layout.wire, layout.dtype, layout.shape, len(buffer))
    if out is None:
        out = _empty(layout.shape, layout.dtype)
    else:
        check_target(out, layout.dtype, layout.shape)
    wire_dtypes.decode_into(layout.wire, buffer, out)
    return out


def _checked(name: str, shape: Sequence[int]) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    dtype = parse_dtype(name)
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
