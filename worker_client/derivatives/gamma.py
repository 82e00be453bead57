"""The derivatives of the gamma function's logarithm, which NumPy does not have: digamma and trigamma.

Small arguments are moved to 10 and more by the recurrence, where the asymptotic series gives all digits of a float64;
those below a half go there by the reflection formula (Abramowitz and Stegun, 6.3.5 to 6.4.12).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ps_protocol.operations import Array

_SHIFT: Final = 10
_DIGAMMA: Final = (-1 / 12, 1 / 120, -1 / 252, 1 / 240, -1 / 132, 691 / 32760, -1 / 12)
_TRIGAMMA: Final = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)
"""Coefficients of ``x ** -2`` and its powers in the asymptotic series, made of Bernoulli's numbers."""


def digamma(x: Array) -> Array:
    """Returns the derivative of the gamma function's logarithm, in the dtype of ``x``; nan at 0, -1, -2, ..."""
    with np.errstate(all="ignore"):
        exact = np.asarray(x, np.float64)
        is_low = exact < 0.5
        high = np.where(is_low, 1 - exact, exact)
        moved, sums = _moved(high, 1)
        squares = moved**-2.0
        result = np.log(moved) - 0.5 / moved + squares * _polynomial(_DIGAMMA, squares) - sums
        reflected = result - np.pi / np.tan(np.pi * (exact - np.round(exact)))
        return _finished(x, np.where(is_low, reflected, result), _is_pole(exact))


def trigamma(x: Array) -> Array:
    """Returns the derivative of ``digamma``, in the dtype of ``x``; infinite at 0, -1, -2, ..."""
    with np.errstate(all="ignore"):
        exact = np.asarray(x, np.float64)
        is_low = exact < 0.5
        high = np.where(is_low, 1 - exact, exact)
        moved, sums = _moved(high, 2)
        squares = moved**-2.0
        result = 1 / moved + 0.5 * squares + squares / moved * _polynomial(_TRIGAMMA, squares) + sums
        reflected = (np.pi / np.sin(np.pi * (exact - np.round(exact)))) ** 2 - result
        return _finished(x, np.where(is_low, reflected, result), np.zeros_like(is_low))


def _moved(x: Array, power: int) -> tuple[Array, Array]:
    """Returns arguments that are moved up, and the sum of ``x ** -power`` over the places that they have passed."""
    sums = np.zeros_like(x)
    for _ in range(_SHIFT):
        is_small = x < _SHIFT
        sums = sums + np.where(is_small, x**-power, 0.0)
        x = np.where(is_small, x + 1, x)
    return x, sums


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Any:
    return np.polynomial.polynomial.polyval(x, coefficients)


def _is_pole(x: Array) -> Any:
    return (x <= 0) & (x == np.round(x))


def _finished(given: Array, result: Array, is_none: Array) -> Array:
    return np.asarray(np.where(is_none, np.nan, result), np.asarray(given).dtype)
