"""The bytes of the lossy forms, and what happens to what is out of the ordinary."""

from __future__ import annotations

import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from ps_protocol.codec import wire_dtypes
from ps_protocol.codec.wire_dtypes import BLOCK_SIZE, PIECE_SIZE
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array, WireDType

LOSSY = (WireDType.BFLOAT16, WireDType.FLOAT16, WireDType.INT8)
FLOATS = (np.float32, np.float64)


def through(wire: WireDType, array: Array) -> Array:
    decoded = np.full(array.shape, 7, array.dtype)
    wire_dtypes.decode_into(wire, wire_dtypes.encode(wire, array), decoded)
    return decoded


def int8_bytes(scales: list[float], codes: list[int]) -> bytes:
    return np.array(scales, np.float32).tobytes() + np.array(codes, np.int8).tobytes()


class TestForms:
    @pytest.mark.parametrize(
        ("wire", "num_elements", "size_bytes"),
        [
            (WireDType.BFLOAT16, 0, 0),
            (WireDType.BFLOAT16, 5, 10),
            (WireDType.FLOAT16, 5, 10),
            (WireDType.INT8, 0, 0),
            (WireDType.INT8, 1, 5),
            (WireDType.INT8, 256, 260),
            (WireDType.INT8, 257, 265),
            (WireDType.INT8, 2**40, 2**40 + 2**34),
        ],
    )
    def test_sizes(self, wire: WireDType, num_elements: int, size_bytes: int) -> None:
        assert wire_dtypes.encoded_bytes(wire, num_elements) == size_bytes

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_bfloat16_are_the_upper_halves_of_float32(self, dtype: type[np.floating[Any]]) -> None:
        encoded = wire_dtypes.encode(WireDType.BFLOAT16, np.array([1.0, -2.0, 0.15625], dtype))
        assert encoded.tobytes() == np.array([0x3F80, 0xC000, 0x3E20], "<u2").tobytes()

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_float16_are_numpys(self, dtype: type[np.floating[Any]]) -> None:
        encoded = wire_dtypes.encode(WireDType.FLOAT16, np.array([1.0, -2.0, 65504.0], dtype))
        assert encoded.tobytes() == np.array([1.0, -2.0, 65504.0], "<f2").tobytes()

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_int8_are_scales_and_then_elements(self, dtype: type[np.floating[Any]]) -> None:
        values = np.zeros(BLOCK_SIZE + 2, dtype)
        values[:3] = [127.0, -63.0, 1.4]
        values[BLOCK_SIZE:] = [-254.0, 3.0]
        expected = int8_bytes([1.0, 2.0], [127, -63, 1] + [0] * (BLOCK_SIZE - 3) + [-127, 2])
        assert wire_dtypes.encode(WireDType.INT8, values).tobytes() == expected

    @pytest.mark.parametrize("wire", LOSSY)
    @pytest.mark.parametrize("dtype", FLOATS)
    def test_shape_order_and_byte_order_are_those_of_the_values(
        self, wire: WireDType, dtype: type[np.floating[Any]]
    ) -> None:
        values = np.arange(-300, 300, dtype=dtype).reshape(20, 30)
        expected = wire_dtypes.encode(wire, values)
        transposed = np.asfortranarray(values)
        swapped = values.astype(values.dtype.newbyteorder(">"))
        strided = np.repeat(values, 2, axis=1)[:, ::2]
        for each in (transposed, swapped, strided, values.ravel()):
            np.testing.assert_array_equal(wire_dtypes.encode(wire, each), expected)

    @pytest.mark.parametrize("wire", LOSSY)
    @pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (255,), (256,), (257,), (PIECE_SIZE + 300,)])
    def test_of_any_shape(self, wire: WireDType, shape: tuple[int, ...]) -> None:
        values = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        decoded = through(wire, np.asarray(values))
        np.testing.assert_allclose(decoded, values, atol=0.025)

    @pytest.mark.parametrize("wire", LOSSY)
    def test_bytes_need_not_be_aligned(self, wire: WireDType) -> None:
        values = np.linspace(-1, 1, 600, dtype=np.float32)
        encoded = b"x" + wire_dtypes.encode(wire, values).tobytes()
        decoded = np.empty_like(values)
        wire_dtypes.decode_into(wire, memoryview(encoded)[1:], decoded)
        np.testing.assert_array_equal(decoded, through(wire, values))

    @pytest.mark.parametrize("wire", LOSSY)
    def test_pieces_are_encoded_as_in_the_whole(self, wire: WireDType) -> None:
        values = np.random.default_rng(2).standard_normal(2 * PIECE_SIZE + 77).astype(np.float32)
        apart = np.concatenate([through(wire, values[piece]) for piece in wire_dtypes.pieces(values.size)])
        np.testing.assert_array_equal(apart, through(wire, values))

    @pytest.mark.parametrize("wire", LOSSY)
    def test_takes_little_besides_the_result(self, wire: WireDType) -> None:
        values = np.ones(2**21, np.float32)
        decoded = np.empty_like(values)
        tracemalloc.start()
        try:
            encoded = wire_dtypes.encode(wire, values)
            wire_dtypes.decode_into(wire, encoded, decoded)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak_bytes < encoded.nbytes + 2**20


class TestSpecialValues:
    @pytest.mark.parametrize("wire", [WireDType.BFLOAT16, WireDType.FLOAT16])
    @pytest.mark.parametrize("dtype", FLOATS)
    def test_halves_keep_nan_infinities_and_signs(self, wire: WireDType, dtype: type[np.floating[Any]]) -> None:
        values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], dtype)
        decoded = through(wire, values)
        np.testing.assert_array_equal(decoded, values)
        np.testing.assert_array_equal(np.signbit(decoded[1:]), np.signbit(values[1:]))

    def test_too_large_for_float16_becomes_infinite(self) -> None:
        values = np.array([65519.0, 65520.0, -1e6], np.float32)
        np.testing.assert_array_equal(through(WireDType.FLOAT16, values), [65504.0, np.inf, -np.inf])

    def test_too_large_for_bfloat16_becomes_infinite(self) -> None:
        largest = np.finfo(np.float32).max
        np.testing.assert_array_equal(through(WireDType.BFLOAT16, np.array([largest, -largest])), [np.inf, -np.inf])
        np.testing.assert_array_equal(through(WireDType.BFLOAT16, np.array([1e300, -1e300])), [np.inf, -np.inf])

    def test_too_small_for_a_half_becomes_subnormal_or_zero(self) -> None:
        values = np.array([2.0**-24, 2.0**-26, -(2.0**-26)], np.float32)
        np.testing.assert_array_equal(through(WireDType.FLOAT16, values), [2.0**-24, 0, 0])
        values = np.array([2.0**-133, 2.0**-135], np.float32)
        np.testing.assert_array_equal(through(WireDType.BFLOAT16, values), [2.0**-133, 0])

    def test_a_float64_is_rounded_once(self) -> None:
        # Just above the middle between two bfloat16 values: as float32 it would be the middle, and go down to even.
        above, below = 1 + 2.0**-8 + 2.0**-40, 1 + 3 * 2.0**-8 - 2.0**-40
        np.testing.assert_array_equal(
            through(WireDType.BFLOAT16, np.array([above, -above, below])), [1 + 2.0**-7, -1 - 2.0**-7, 1 + 2.0**-7]
        )
        np.testing.assert_array_equal(through(WireDType.FLOAT16, np.array([1 + 2.0**-11 + 2.0**-40])), [1 + 2.0**-10])

    def test_ties_go_to_even(self) -> None:
        values = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8], np.float32)
        np.testing.assert_array_equal(through(WireDType.BFLOAT16, values), [1, 1 + 2.0**-6])
        np.testing.assert_array_equal(through(WireDType.BFLOAT16, values.astype(np.float64)), [1, 1 + 2.0**-6])

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("dtype", FLOATS)
    def test_an_int8_block_that_holds_no_number_comes_back_as_nan(
        self, bad: float, dtype: type[np.floating[Any]]
    ) -> None:
        values = np.ones(3 * BLOCK_SIZE, dtype)
        values[BLOCK_SIZE + 9] = bad
        decoded = through(WireDType.INT8, values)
        assert np.isnan(decoded[BLOCK_SIZE : 2 * BLOCK_SIZE]).all()
        np.testing.assert_allclose(np.delete(decoded, slice(BLOCK_SIZE, 2 * BLOCK_SIZE)), 1, rtol=2**-15)

    def test_a_float64_beyond_the_scales_of_int8_comes_back_as_nan(self) -> None:
        assert np.isnan(through(WireDType.INT8, np.array([1e41, 1.0]))).all()
        np.testing.assert_allclose(through(WireDType.INT8, np.array([4e40, -4e40])), [4e40, -4e40], rtol=2**-15)

    def test_the_largest_float32_stay_finite_as_int8(self) -> None:
        largest = np.finfo(np.float32).max
        np.testing.assert_allclose(
            through(WireDType.INT8, np.array([largest, -largest], np.float32)), [largest, -largest], rtol=2**-15
        )

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_an_int8_block_of_zeros_or_of_the_smallest_is_zeros(self, dtype: type[np.floating[Any]]) -> None:
        values = np.zeros(2 * BLOCK_SIZE, dtype)
        values[3] = 1e-45
        values[BLOCK_SIZE:] = -0.0
        encoded = wire_dtypes.encode(WireDType.INT8, values)
        assert not encoded.any()
        decoded = through(WireDType.INT8, values)
        assert not decoded.any()
        assert not np.signbit(decoded).any()

    def test_around_the_smallest_scale(self) -> None:
        smallest = 2.0**-119
        np.testing.assert_array_equal(through(WireDType.INT8, np.array([np.nextafter(np.float32(smallest), 0)])), [0])
        np.testing.assert_allclose(through(WireDType.INT8, np.array([smallest], np.float32)), [smallest], rtol=2**-15)

    @pytest.mark.parametrize("wire", LOSSY)
    def test_is_silent_even_where_numpy_is_told_to_raise(self, wire: WireDType) -> None:
        values = np.array([np.nan, np.inf, 1e38, 1e-45], np.float32)
        with np.errstate(all="raise"):
            through(wire, values)

    def test_every_scale_is_found_again(self) -> None:
        """All 2**16 significands of a scale, at both ends of the exponents and in the middle."""
        significands = np.arange(2**16, 2**17, dtype=np.float64) * 2.0**-16
        for exponent in (-126, -1, 0, 63, 120):
            scales = significands * 2.0**exponent
            peaks = (127 * scales).astype(np.float32)
            peaks, scales = peaks[peaks >= 2.0**-119], scales[peaks >= 2.0**-119]
            blocks = np.zeros((peaks.size, BLOCK_SIZE), np.float32)
            blocks[:, 0] = peaks
            found = wire_dtypes.encode(WireDType.INT8, blocks)[: 4 * peaks.size].view(np.float32)
            np.testing.assert_array_equal(found, scales)


class TestRefusals:
    @pytest.mark.parametrize("wire", LOSSY)
    @pytest.mark.parametrize("dtype", [np.int32, np.float16, ml_dtypes.bfloat16, np.complex64, np.bool_])
    def test_other_dtypes(self, wire: WireDType, dtype: npt.DTypeLike) -> None:
        array = np.ones(4, dtype)
        with pytest.raises(
            InvalidArgumentError, match=f"{array.dtype.name} tensor cannot travel as {wire.name.lower()}"
        ):
            wire_dtypes.encode(wire, array)
        with pytest.raises(InvalidArgumentError, match="cannot travel"):
            wire_dtypes.decode_into(wire, bytes(8), array)

    def test_exact_is_fit_for_every_dtype(self) -> None:
        wire_dtypes.check_dtype(WireDType.EXACT, np.dtype(np.int64))

    @pytest.mark.parametrize("wire", LOSSY)
    @pytest.mark.parametrize("difference", [-1, 1])
    def test_another_size(self, wire: WireDType, difference: int) -> None:
        decoded = np.full(4, 5, np.float32)
        size_bytes = wire_dtypes.encoded_bytes(wire, 4) + difference
        with pytest.raises(InvalidArgumentError, match=f"but its buffer has {size_bytes}"):
            wire_dtypes.decode_into(wire, bytes(size_bytes), decoded)
        assert (decoded == 5).all()

    @pytest.mark.parametrize("scale", [-1.0, np.inf, -np.inf, -1e-45])
    def test_scales_that_no_block_has(self, scale: float) -> None:
        decoded = np.full(BLOCK_SIZE + 1, 5, np.float32)
        encoded = int8_bytes([1.0, scale], [1] * (BLOCK_SIZE + 1))
        with pytest.raises(InvalidArgumentError, match="scale of block 1"):
            wire_dtypes.decode_into(WireDType.INT8, encoded, decoded)
        assert (decoded == 5).all()

    def test_a_scale_that_is_nan_makes_the_block_nan(self) -> None:
        decoded = np.zeros(2, np.float32)
        wire_dtypes.decode_into(WireDType.INT8, int8_bytes([np.nan], [0, 1]), decoded)
        assert np.isnan(decoded).all()

    def test_a_foreign_scale_may_be_any_finite_number(self) -> None:
        decoded = np.zeros(2, np.float32)
        wire_dtypes.decode_into(WireDType.INT8, int8_bytes([0.3], [-128, 1]), decoded)
        np.testing.assert_array_equal(decoded, np.float32(0.3) * np.array([-128, 1], np.float32))
