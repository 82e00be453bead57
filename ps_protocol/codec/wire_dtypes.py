"""The lossy forms in which float tensors travel: ``WireDType`` of ``tensor.proto``, as pure functions over NumPy.

=========  =======================  =========================================================================
form       bytes for n elements     error of an element x in the normal range
=========  =======================  =========================================================================
BFLOAT16   2 n                      at most 2**-8 |x|: rounded to nearest, ties to even
FLOAT16    2 n                      at most 2**-11 |x|: rounded to nearest, ties to even
INT8       n + 4 ceil(n / 256)      at most half the scale of its block, which is max |x| / 127
=========  =======================  =========================================================================

Unusual elements stay visible; they never turn into plausible numbers:

* BFLOAT16 and FLOAT16 are IEEE conversions. NaN and the infinities stay what they are; what is too large becomes an
  infinity (FLOAT16: from 65520 on); what is too small becomes subnormal or a zero of its sign.
* INT8: a block that holds a NaN or an infinity, or a float64 whose scale float32 cannot hold (beyond 4.3e40), gets the
  scale NaN, and all its elements come back as NaN. A block whose elements are all below 2**-119 (1.5e-36) gets the
  scale 0 and comes back as zeros. Zeros lose their sign.

Encoding what was decoded gives the same bytes again, so a tensor may be quantised any number of times on its way. For
INT8 that holds because a scale keeps 17 significant bits: its product with an int8 is then exact in float32, the
largest element of a block decodes to exactly 127 scales, and the division by 127 gives the scale back.

Tensors are worked on in pieces that fit a processor's cache; besides the result only some hundred KiB are taken. All
functions are safe to call from many threads. The size of an int8 block is a common one (Dettmers et al. 2022, "8-bit
Optimizers via Block-wise Quantization", use larger ones for states that stay in memory).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array, WireDType

BLOCK_SIZE: Final = 256
"""Elements that share a scale in INT8."""

PIECE_SIZE: Final = 128 * BLOCK_SIZE
"""Elements that are worked on at once: with their intermediate values they fit a processor's second-level cache."""

Bytes: TypeAlias = memoryview | bytes | bytearray | npt.NDArray[np.uint8]

_LARGEST_CODE: Final = 127
_SCALE_BYTES: Final = 4
# Scales keep 17 of their 24 significant bits: 17 and the 7 of the largest code are together what float32 holds.
_SCALE_BITS: Final = np.uint32(0xFFFFFF80)
# Below, a scale would be subnormal, with too few bits.
_SMALLEST_PEAK: Final = 2.0**-119
_LOSSY_DTYPES: Final = frozenset((np.float32, np.float64))
_HALF_DTYPES: Final[dict[WireDType, np.dtype[Any]]] = {
    WireDType.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    WireDType.FLOAT16: np.dtype(np.float16),
}


def is_lossy_for(dtype: np.dtype[Any]) -> bool:
    """Whether tensors of a dtype have lossy forms at all: float32 and float64."""
    return dtype.type in _LOSSY_DTYPES


def check_dtype(wire: WireDType, dtype: np.dtype[Any]) -> None:
    """Makes sure that a tensor of a dtype may travel in a form.

    Raises:
        InvalidArgumentError: The form is lossy, and the dtype neither float32 nor float64.
    """
    if wire is not WireDType.EXACT and not is_lossy_for(dtype):
        raise InvalidArgumentError(
            f"a {dtype.name} tensor cannot travel as {wire.name.lower()}, only float32 and float64 can; send it exactly"
        )


def encoded_bytes(wire: WireDType, num_elements: int) -> int:
    """Returns the size in bytes of a tensor in a lossy form."""
    if wire is WireDType.INT8:
        return num_elements + _SCALE_BYTES * math.ceil(num_elements / BLOCK_SIZE)
    return num_elements * _HALF_DTYPES[wire].itemsize


def check_size(wire: WireDType, dtype: np.dtype[Any], shape: tuple[int, ...], size_bytes: int) -> None:
    """Makes sure that so many bytes can be a tensor in a lossy form; InvalidArgumentError if not."""
    needed_bytes = encoded_bytes(wire, math.prod(shape))
    if size_bytes != needed_bytes:
        raise InvalidArgumentError(
            f"a tensor {dtype}{list(shape)} has {needed_bytes} bytes as {wire.name.lower()}, but its buffer has "
            f"{size_bytes}"
        )


def encode(wire: WireDType, array: Array) -> npt.NDArray[np.uint8]:
    """Returns the bytes of a tensor in a lossy form.

    Args:
        wire: Any but EXACT.
        array: float32 or float64, of any shape, order and byte order.

    Raises:
        InvalidArgumentError: The array is of another dtype.
    """
    check_dtype(wire, array.dtype)
    encoded = np.empty(encoded_bytes(wire, array.size), np.uint8)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    flat = np.ascontiguousarray(array).reshape(-1)
    with np.errstate(all="ignore"):  # overflow and NaN are intended
        if wire is WireDType.INT8:
            _encode_int8(flat, encoded)
        else:
            _encode_half(flat, encoded.view(_HALF_DTYPES[wire]))
    return encoded


def decode_into(wire: WireDType, encoded: Bytes, out: Array) -> None:
    """Fills an array with the numbers that the bytes of a lossy form hold; leaves it alone if it refuses them.

    Args:
        wire: Any but EXACT.
        encoded: One-dimensional; need not be aligned.
        out: float32 or float64, writable and in C order.

    Raises:
        InvalidArgumentError: The bytes do not have the size that belongs to the array, or a scale is negative or
            infinite.
    """
    check_dtype(wire, out.dtype)
    check_size(wire, out.dtype, out.shape, len(encoded))
    if not out.size:
        return
    flat = out.reshape(-1)
    with np.errstate(all="ignore"):  # a scale may be NaN, and one from another process may overflow
        if wire is WireDType.INT8:
            _decode_int8(encoded, flat)
        else:
            np.copyto(flat, np.frombuffer(encoded, _HALF_DTYPES[wire]))


def pieces(num_elements: int) -> Iterator[slice]:
    """Yields a tensor's elements in pieces, each of which can be encoded on its own: they share no block."""
    for start in range(0, num_elements, PIECE_SIZE):
        yield slice(start, min(start + PIECE_SIZE, num_elements))


# -- bfloat16 and float16 ----------------------------------------------------------------------------------------------


def _encode_half(flat: Array, halves: Array) -> None:
    if flat.dtype == np.float64 and halves.dtype != np.float16:
        for piece in pieces(flat.size):
            np.copyto(halves[piece], _rounded_to_odd(flat[piece]), casting="unsafe")
    else:
        np.copyto(halves, flat, casting="unsafe")


def _rounded_to_odd(values: Array) -> Array:
    """Returns float64 values as float32, so that rounding them once more gives what rounding them directly would.

    A float64 on its way to a bfloat16 that stopped at the nearest float32 would be rounded twice, and a value next to
    a tie would become the tie. Rounded to odd, which is towards zero and then with the last bit set if anything was
    cut off, it stays on its side (Boldo and Melquiond 2008, "Emulation of FMA and Correctly Rounded Sums").
    """
    nearest = values.astype(np.float32)
    bits = nearest.view(np.uint32)
    back = nearest.astype(np.float64)
    bits -= np.abs(back) > np.abs(values)
    bits |= back != values
    return nearest


# -- int8 --------------------------------------------------------------------------------------------------------------


def _encode_int8(flat: Array, encoded: npt.NDArray[np.uint8]) -> None:
    scale_bytes = encoded.size - flat.size
    scales, codes = encoded[:scale_bytes].view(np.float32), encoded[scale_bytes:].view(np.int8)
    work = np.empty(min(flat.size, PIECE_SIZE), flat.dtype)
    for blocks, piece, row_size in _blocks(flat.size):
        values = flat[piece].reshape(-1, row_size)
        _quantise(values, scales[blocks], codes[piece].reshape(-1, row_size), work[: values.size].reshape(values.shape))


def _quantise(values: Array, scales: Array, codes: Array, work: Array) -> None:
    """Fills ``scales`` [blocks] and ``codes`` [blocks, elements] from values of the same shape; ``work`` is room."""
    np.abs(values, out=work)
    _scales_of(work.max(axis=1), scales)
    # Divided by an infinity instead of a scale that is 0 or NaN, finite elements become 0.
    divisors = np.where(scales > 0, scales, np.inf).astype(values.dtype)
    np.divide(values, divisors[:, None], out=work)
    np.rint(work, out=work)
    invalid = np.isnan(scales)
    if invalid.any():
        work[invalid] = 0
    np.copyto(codes, work, casting="unsafe")


def _scales_of(peaks: Array, scales: Array) -> None:
    np.copyto(scales, peaks / peaks.dtype.type(_LARGEST_CODE), casting="unsafe")
    invalid = ~np.isfinite(scales)
    bits = scales.view(np.uint32)
    bits &= _SCALE_BITS
    scales[peaks < _SMALLEST_PEAK] = 0
    scales[invalid] = np.nan


def _decode_int8(encoded: Bytes, flat: Array) -> None:
    num_blocks = math.ceil(flat.size / BLOCK_SIZE)
    scales = np.frombuffer(encoded, np.float32, num_blocks)
    if (scales < 0).any() or np.isinf(scales).any():
        block = int(np.argmax((scales < 0) | np.isinf(scales)))
        raise InvalidArgumentError(
            f"the scale of block {block} is {scales[block]}; it has to be a finite number that is not negative, or NaN "
            f"for a block that holds no numbers"
        )
    codes = np.frombuffer(encoded, np.int8, offset=num_blocks * _SCALE_BYTES)
    for blocks, piece, row_size in _blocks(flat.size):
        np.multiply(
            codes[piece].reshape(-1, row_size),
            scales[blocks, None],
            out=flat[piece].reshape(-1, row_size),
            dtype=flat.dtype,
        )


def _blocks(num_elements: int) -> Iterator[tuple[slice, slice, int]]:
    """Yields pieces of whole blocks, and then the block that is shorter: their blocks, elements and block size."""
    whole = num_elements - num_elements % BLOCK_SIZE
    for piece in pieces(whole):
        yield slice(piece.start // BLOCK_SIZE, piece.stop // BLOCK_SIZE), piece, BLOCK_SIZE
    if whole < num_elements:
        yield slice(whole // BLOCK_SIZE, whole // BLOCK_SIZE + 1), slice(whole, num_elements), num_elements - whole
