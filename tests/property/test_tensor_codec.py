"""Whatever the array, it comes back; whatever the header, it is a layout or a clear refusal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps_protocol.codec import tensor_codec
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array
from ps_protocol.v1.tensor_pb2 import TensorHeader

NAMES = ["bool", "int8", "uint64", "float16", "float32", "complex128", "S1", "S5", "bfloat16", "float8_e4m3fn", "int4"]


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """Arrays of every kind of type, shape and memory layout; their bytes are arbitrary."""
    dtype = tensor_codec.parse_dtype(draw(st.sampled_from(NAMES)))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    size_bytes = int(np.prod(shape)) * dtype.itemsize
    data = draw(st.binary(min_size=size_bytes, max_size=size_bytes))
    array: Array = np.ndarray(tuple(shape), dtype, data)
    if draw(st.booleans()) and dtype.kind in "iufc" and dtype.itemsize > 1:
        array = array.view(dtype.newbyteorder(">"))
    # The ellipsis keeps an array of no dimensions an array.
    index: Any = (..., *(slice(None, None, draw(st.sampled_from([1, 2, -1]))) for _ in shape))
    return np.transpose(array[index], draw(st.permutations(range(len(shape)))))


@given(arrays())
def test_round_trip(array: Array) -> None:
    header, buffer = tensor_codec.encode(array)
    layout = tensor_codec.parse_header(header)
    decoded = tensor_codec.decode(header, bytes(buffer))
    native: Array = array.astype(array.dtype.newbyteorder("="))
    assert (decoded.dtype, decoded.shape) == (native.dtype, array.shape) == (layout.dtype, layout.shape)
    assert layout.size_bytes == len(buffer) == array.nbytes
    assert decoded.tobytes() == native.tobytes()


SIZES = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([-1, 0, 1, 2, 2**31, 2**32, 2**62, 2**63 - 1]))
DTYPES = st.one_of(st.sampled_from([*NAMES, "S2147483647", "O", "f4", "f4,f4"]), st.text(max_size=12))


@given(DTYPES, st.lists(SIZES, max_size=70), st.binary(max_size=8))
def test_any_header_is_a_layout_that_numpy_takes_or_is_refused(name: str, shape: list[int], data: bytes) -> None:
    header = TensorHeader(dtype=name, shape=shape)
    try:
        layout = tensor_codec.parse_header(header)
    except InvalidArgumentError:
        with pytest.raises(InvalidArgumentError):
            tensor_codec.decode(header, data)
        return
    assert layout.size_bytes <= tensor_codec.MAX_SIZE_BYTES
    if layout.size_bytes != len(data):
        with pytest.raises(InvalidArgumentError, match="bytes"):
            tensor_codec.decode(header, data)
    else:
        decoded: np.ndarray[Any, Any] = tensor_codec.decode(header, data)
        assert (decoded.dtype, decoded.shape, decoded.nbytes) == (layout.dtype, layout.shape, len(data))


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=8), st.integers(0, 7))
def test_a_shape_with_a_zero_is_taken_by_numpy_or_refused(sizes: list[int], where: int) -> None:
    sizes.insert(where, 0)
    try:
        layout = tensor_codec.parse_layout("int16", sizes)
    except InvalidArgumentError:
        with pytest.raises(ValueError, match="too big"):
            np.empty(sizes, np.int16)
    else:
        assert tensor_codec.allocate(layout)[0].shape == tuple(sizes)
