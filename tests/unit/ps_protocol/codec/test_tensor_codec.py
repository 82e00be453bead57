"""Arrays as headers and bytes: what is copied, what is refused, and the bounds."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from ps_protocol.codec import tensor_codec
from ps_protocol.codec.tensor_codec import TensorLayout
from ps_protocol.errors import InvalidArgumentError, ResourceExhaustedError
from ps_protocol.operations import Array
from ps_protocol.v1.tensor_pb2 import TensorHeader

# The x86 format is the only one of those wider than a double that travels.
HAS_X86_LONG_DOUBLE = np.finfo(np.longdouble).nmant == 63 and np.dtype(np.longdouble).itemsize == 16
NUMPY_TYPES = [
    np.dtype(char)
    for char in "?" + np.typecodes["AllInteger"] + np.typecodes["AllFloat"]
    if HAS_X86_LONG_DOUBLE or char not in "gG"
]
ML_TYPES = [
    np.dtype(scalar)
    for scalar in vars(ml_dtypes).values()
    if isinstance(scalar, type) and issubclass(scalar, np.generic)
]


def address_of(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def with_every_byte_different(dtype: np.dtype[Any], size: int) -> Array:
    return np.arange(size * dtype.itemsize, dtype=np.uint8).view(dtype)


@pytest.mark.parametrize("dtype", [*NUMPY_TYPES, *ML_TYPES, np.dtype("S1"), np.dtype("S7")], ids=str)
class TestEveryType:
    def test_keeps_every_bit(self, dtype: np.dtype[Any]) -> None:
        array = with_every_byte_different(dtype, 6).reshape(2, 3)
        header, buffer = tensor_codec.encode(array)
        decoded = tensor_codec.decode(header, bytes(buffer))
        assert decoded.dtype == dtype
        assert decoded.shape == (2, 3)
        assert decoded.tobytes() == array.tobytes()

    def test_is_not_copied(self, dtype: np.dtype[Any]) -> None:
        array = with_every_byte_different(dtype, 6)
        header, buffer = tensor_codec.encode(array)
        assert address_of(tensor_codec.decode(header, buffer)) == address_of(array)

    def test_has_flat_bytes(self, dtype: np.dtype[Any]) -> None:
        _, buffer = tensor_codec.encode(np.zeros((2, 3), dtype))
        assert (buffer.format, buffer.ndim, len(buffer)) == ("B", 1, 6 * dtype.itemsize)

    @pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,) * 64])
    def test_takes_unusual_shapes(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        header, buffer = tensor_codec.encode(np.zeros(shape, dtype))
        decoded = tensor_codec.decode(header, buffer)
        assert (decoded.dtype, decoded.shape) == (dtype, shape)

    def test_is_allocated_and_filled(self, dtype: np.dtype[Any]) -> None:
        source = with_every_byte_different(dtype, 6)
        array, buffer = tensor_codec.allocate(tensor_codec.parse_header(tensor_codec.encode(source)[0]))
        buffer[:] = source.tobytes()
        assert array.tobytes() == source.tobytes()

    def test_has_a_name_that_is_read_back(self, dtype: np.dtype[Any]) -> None:
        assert tensor_codec.parse_dtype(tensor_codec.dtype_name(dtype)) == dtype


@pytest.mark.parametrize("dtype", ["float32", "complex64", "int16", ml_dtypes.bfloat16, "S3"])
class TestEveryMemoryLayout:
    def test_not_contiguous(self, dtype: Any) -> None:
        array = with_every_byte_different(np.dtype(dtype), 12).reshape(3, 4)
        for view in (array.T, array[::2], array[:, ::-1], array[1:, 1:3], np.asfortranarray(array)):
            assert tensor_codec.encode(view)[1] == view.tobytes()

    def test_repeated_by_strides(self, dtype: Any) -> None:
        array = np.broadcast_to(with_every_byte_different(np.dtype(dtype), 2), (3, 2))
        header, buffer = tensor_codec.encode(array)
        assert list(header.shape) == [3, 2]
        assert buffer == array.tobytes()

    def test_read_only(self, dtype: Any) -> None:
        array = with_every_byte_different(np.dtype(dtype), 2)
        array.flags.writeable = False
        header, buffer = tensor_codec.encode(array)
        assert buffer.readonly
        assert not tensor_codec.decode(header, buffer).flags.writeable


@pytest.mark.parametrize("dtype", [">f4", ">i8", ">c16", ">u2", ">f2"])
def test_big_endian_travels_little_endian(dtype: str) -> None:
    array = np.array([[1, 2], [3, 4]], dtype)
    for view in (array, array.T, array[:, 0], array[0, 0].reshape(())):
        header, buffer = tensor_codec.encode(view)
        decoded = tensor_codec.decode(header, buffer)
        assert decoded.dtype == view.dtype.newbyteorder("=")
        np.testing.assert_array_equal(decoded, view)


def test_the_bytes_are_in_c_order_and_little_endian() -> None:
    header, buffer = tensor_codec.encode(np.array([[1, 2], [3, 4]], np.int16).T)
    assert header == TensorHeader(dtype="int16", shape=[2, 2])
    assert bytes(buffer) == b"\1\0\3\0\2\0\4\0"


def test_a_decoded_array_is_writable_if_its_buffer_is() -> None:
    header, buffer = tensor_codec.encode(np.zeros(2, np.float32))
    received = bytearray(buffer)
    tensor_codec.decode(header, received)[1] = 1
    assert received == np.array([0, 1], np.float32).tobytes()
    assert not tensor_codec.decode(header, bytes(buffer)).flags.writeable


@pytest.mark.parametrize("dtype", [np.uint8, ml_dtypes.bfloat16])
def test_more_than_two_gibibytes_are_not_copied(dtype: Any) -> None:
    # None of the memory is touched but its end, so the machine need not have it.
    array = np.zeros(2**31 // np.dtype(dtype).itemsize + 4, dtype)
    header, buffer = tensor_codec.encode(array)
    assert len(buffer) == array.nbytes > 2**31
    decoded = tensor_codec.decode(header, buffer)
    decoded[-1] = 3
    assert array[-1] == 3


def test_more_than_two_gibibytes_are_allocated() -> None:
    array, buffer = tensor_codec.allocate(tensor_codec.parse_layout("float32", [2**29 + 1]))
    buffer[-4:] = np.float32(3).tobytes()
    assert array[-1] == 3


@pytest.mark.parametrize(
    ("array", "remedy"),
    [
        (np.array([None, "x"], object), "Python objects"),
        (np.array(["text"]), "np.char.encode"),
        (np.array([(1, 2.0)], [("a", "i4"), ("b", "f4")]), "field"),
        (np.zeros(2, "V4"), "field"),
        (np.array(["2026-11-22"], "datetime64[D]"), "int64"),
        (np.array([1], "timedelta64[s]"), "int64"),
        (np.array(["text"], np.dtypes.StringDType()), "np.char.encode"),
    ],
    ids=lambda value: str(value.dtype) if isinstance(value, np.ndarray) else None,
)
def test_refuses_what_has_no_portable_bytes(array: Array, remedy: str) -> None:
    with pytest.raises(InvalidArgumentError, match=remedy) as caught:
        tensor_codec.encode(array)
    assert str(array.dtype) in caught.value.message


@pytest.mark.parametrize("scalar", [np.int32, np.int64, np.uint64])
def test_two_c_types_of_one_name_become_the_usual_one(scalar: type[np.generic]) -> None:
    assert tensor_codec.parse_dtype(scalar.__name__).type is scalar


def test_refuses_bytes_of_no_length() -> None:
    with pytest.raises(InvalidArgumentError, match="give them a length"):
        tensor_codec.dtype_name(np.dtype("S0"))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "O",
        "object",
        "f4",
        "<f4",
        "float",
        "f4,f4",
        "float32,float32",
        "(2,)float32",
        "str",
        "U4",
        "V8",
        "void",
        "S",
        "S0",
        "S-1",
        "S+1",
        "S01",
        "S1 ",
        "S٣",
        "S2147483648",
        "S9999999999",
        "S99999999999999999999",
        "datetime64[s]",
        "Float32",
        "float32\0",
        "float24",
        "__class__",
    ],
)
def test_refuses_a_dtype_that_is_not_in_the_contract(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="dtype"):
        tensor_codec.parse_header(TensorHeader(dtype=name, shape=[1]))


def test_does_not_repeat_a_long_dtype_name() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        tensor_codec.parse_dtype("x" * 1_000_000)
    assert len(caught.value.message) < 2_000


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ([-1], "negative"),
        ([2, -3], "negative"),
        ([-(2**63), -1], "negative"),
        ([0, -1], "negative"),
        ([2**61, 2], "larger"),
        ([2**62] * 64, "larger"),
        ([2**32, 2**32], "larger"),
        ([0, 2**62, 2], "larger"),
        ([2**40, 0, 2**40], "larger"),
        ([1] * 65, "dimensions"),
        ([0] * 1_000_000, "dimensions"),
    ],
)
def test_refuses_an_impossible_shape(shape: list[int], reason: str) -> None:
    header = TensorHeader(dtype="float32", shape=shape)
    with pytest.raises(InvalidArgumentError, match=reason):
        tensor_codec.parse_header(header)
    with pytest.raises(InvalidArgumentError, match=reason):
        tensor_codec.decode(header, b"")


def test_accepts_the_largest_size_of_the_contract_without_taking_it() -> None:
    layout = tensor_codec.parse_header(TensorHeader(dtype="uint8", shape=[2**63 - 1]))
    assert layout == TensorLayout(np.dtype(np.uint8), (2**63 - 1,), 2**63 - 1)


def test_a_shape_with_a_zero_has_no_bytes() -> None:
    header = TensorHeader(dtype="uint8", shape=[0, 2**63 - 1])
    assert tensor_codec.parse_header(header).size_bytes == 0
    assert tensor_codec.decode(header, b"").shape == (0, 2**63 - 1)


@pytest.mark.parametrize("size_bytes", [0, 11, 13, 24])
def test_refuses_a_buffer_of_another_size(size_bytes: int) -> None:
    header = TensorHeader(dtype="float32", shape=[3])
    with pytest.raises(InvalidArgumentError, match=rf"has 12 bytes, but its buffer has {size_bytes}"):
        tensor_codec.decode(header, bytes(size_bytes))


def test_refuses_trailing_bytes_of_an_empty_tensor() -> None:
    with pytest.raises(InvalidArgumentError, match="has 0 bytes, but its buffer has 1"):
        tensor_codec.decode(TensorHeader(dtype="float32", shape=[0]), b"x")


def test_says_that_there_is_no_memory() -> None:
    with pytest.raises(ResourceExhaustedError, match=str(2**62)) as caught:
        tensor_codec.allocate(tensor_codec.parse_layout("uint8", [2**62]))
    assert not caught.value.retryable


def test_decodes_from_the_middle_of_a_message() -> None:
    values = np.arange(3, dtype=np.float64)
    message = memoryview(b"x" + values.tobytes())
    decoded = tensor_codec.decode(TensorHeader(dtype="float64", shape=[3]), message[1:])
    np.testing.assert_array_equal(decoded * 2, values * 2)
