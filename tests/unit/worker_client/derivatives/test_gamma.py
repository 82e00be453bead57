"""Digamma and trigamma: known values, the recurrence, the reflection, poles, dtypes."""

from __future__ import annotations

import numpy as np
import pytest

from worker_client.derivatives.gamma import digamma, trigamma

PLACES = np.concatenate([np.arange(-4.85, 20.0, 0.3), [1e-3, 0.499, 0.5, 1e4, 1e8]])


def test_known_values() -> None:
    np.testing.assert_allclose(digamma(np.array([1.0, 0.5])), [-np.euler_gamma, -np.euler_gamma - 2 * np.log(2)], 1e-14)
    np.testing.assert_allclose(trigamma(np.array([1.0, 0.5])), [np.pi**2 / 6, np.pi**2 / 2], 1e-14)


def test_the_recurrence_holds_everywhere() -> None:
    np.testing.assert_allclose(digamma(PLACES + 1) - digamma(PLACES), 1 / PLACES, 1e-9, 1e-13)
    np.testing.assert_allclose(trigamma(PLACES) - trigamma(PLACES + 1), PLACES**-2, 1e-9, 1e-13)


def test_one_is_the_derivative_of_the_other() -> None:
    step = 1e-5
    slope = (digamma(PLACES[:80] + step) - digamma(PLACES[:80] - step)) / (2 * step)
    np.testing.assert_allclose(slope, trigamma(PLACES[:80]), 1e-6)


def test_poles_and_what_is_no_number() -> None:
    with np.errstate(all="raise"):
        assert np.isnan(digamma(np.array([0.0, -1.0, -7.0, np.nan]))).all()
        assert digamma(np.array([np.inf])).tolist() == [np.inf]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_dtype_stays(dtype: type[np.floating]) -> None:
    for function in (digamma, trigamma):
        assert function(np.array([3.0], dtype)).dtype == dtype
        assert function(np.array(3.0, dtype)).shape == ()
