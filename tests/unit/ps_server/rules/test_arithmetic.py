from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from ps_protocol.operations import Array
from ps_server.rules.arithmetic import divide_toward_zero


def quotients(dividends: Array, divisors: Array) -> list[Any]:
    before = dividends.copy()
    with np.errstate(all="ignore"):
        divide_toward_zero(dividends, divisors, out=dividends)
        beside = np.empty_like(before)
        divide_toward_zero(before, divisors, out=beside)
    result: list[Any] = dividends.astype(object).tolist()
    assert beside.astype(object).tolist() == result
    return [int(each) for each in result]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, ml_dtypes.int4])
def test_rounds_toward_zero(dtype: Any) -> None:
    dividends = np.array([7, -7, 7, -7, 1, -1, 0]).astype(dtype)
    divisors = np.array([2, 2, -2, -2, 3, 3, -3]).astype(dtype)
    assert quotients(dividends, divisors) == [3, -3, -3, 3, 0, 0, 0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, ml_dtypes.uint4])
def test_divides_unsigned_integers(dtype: Any) -> None:
    assert quotients(np.array([15, 9, 1]).astype(dtype), np.array(2).astype(dtype)) == [7, 4, 0]


def test_uses_all_of_64_bits() -> None:
    assert quotients(np.array([2**64 - 1], np.uint64), np.array([3], np.uint64)) == [(2**64 - 1) // 3]
    signed = np.array([-(2**63), -(2**63), 2**63 - 1], np.int64)
    assert quotients(signed, np.array([2, -(2**63), -1], np.int64)) == [-(2**62), 1, -(2**63) + 1]


@pytest.mark.parametrize("bits", [4, 8, 16, 32, 64])
def test_the_least_integer_by_minus_one_wraps_around(bits: int) -> None:
    dtype = np.dtype(ml_dtypes.int4) if bits == 4 else np.dtype(f"i{bits // 8}")
    # More of them than fit a vector register, since NumPy computes those and the rest in two ways.
    dividends = np.full(65, -(2 ** (bits - 1))).astype(dtype)
    assert quotients(dividends, np.full(65, -1).astype(dtype)) == [-(2 ** (bits - 1))] * 65
