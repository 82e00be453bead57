from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from ps_server.integer_division import divide_rows

NO_REPEATS = np.array([], np.intp)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, ml_dtypes.int4])
def test_rounds_toward_zero(dtype: Any) -> None:
    rows = np.array([7, -7, 7, -7, 1, -1, 0]).astype(dtype)
    divisors = np.array([2, 2, -2, -2, 3, 3, -3]).astype(dtype)
    divide_rows(rows, divisors, NO_REPEATS, divisors[:0])
    assert rows.astype(np.int64).tolist() == [3, -3, -3, 3, 0, 0, 0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, ml_dtypes.uint4])
def test_divides_unsigned_integers(dtype: Any) -> None:
    rows = np.array([15, 9, 1]).astype(dtype)
    divide_rows(rows, np.array(2).astype(dtype), NO_REPEATS, rows[:0])
    assert rows.astype(np.int64).tolist() == [7, 4, 0]


def test_uses_all_of_64_bits() -> None:
    rows = np.array([2**64 - 1], np.uint64)
    divide_rows(rows, np.array([3], np.uint64), NO_REPEATS, rows[:0])
    assert rows.tolist() == [(2**64 - 1) // 3]
    signed = np.array([-(2**63), -(2**63), 2**63 - 1], np.int64)
    divide_rows(signed, np.array([2, -(2**63), -1], np.int64), NO_REPEATS, signed[:0])
    assert signed.tolist() == [-(2**62), 1, -(2**63) + 1]


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_the_least_integer_by_minus_one_wraps_around(bits: int) -> None:
    rows = np.array([-(2 ** (bits - 1))]).astype(f"i{bits // 8}")
    divide_rows(rows, np.array([-1]).astype(rows.dtype), NO_REPEATS, rows[:0])
    assert rows.tolist() == [-(2 ** (bits - 1))]


@pytest.mark.parametrize("scalar", [False, True])
def test_repeated_rows_are_divided_again(scalar: bool) -> None:
    rows = np.array([[100, -100], [50, 9]], np.int32)
    repeat_divisors = np.array(-3, np.int32) if scalar else np.array([[-3, -3], [-3, -3]], np.int32)
    divide_rows(rows, np.array(2, np.int32), np.array([0, 0]), repeat_divisors)
    assert rows.tolist() == [[5, -5], [25, 4]]
