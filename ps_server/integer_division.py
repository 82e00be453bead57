"""Division of integers toward zero, as in C++ and so in TensorFlow; NumPy's rounds toward minus infinity."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ps_protocol.operations import Array


def divide_rows(rows: Array, divisors: Array, repeats: npt.NDArray[np.intp], repeat_divisors: Array) -> None:
    """Divides rows in place, then some of them again.

    Works on magnitudes, where both roundings are the same, and on signs: so the further divisions are unbuffered
    ufuncs, however often a row repeats. Where C++ leaves the result open, the least integer by -1, it wraps around.

    Args:
        rows: Integers of any width, ``[n, ...]``.
        divisors: The same shape or 0-d, none zero.
        repeats: Rows to divide again, ``[m]``; may repeat.
        repeat_divisors: ``[m, ...]`` or 0-d, none zero.
    """
    magnitude, negative = _magnitude(rows), _negative(rows)
    np.floor_divide(magnitude, _magnitude(divisors), out=magnitude)
    np.logical_xor(negative, _negative(divisors), out=negative)
    if repeats.size:
        np.floor_divide.at(magnitude, repeats, _magnitude(repeat_divisors))
        np.logical_xor.at(negative, repeats, _negative(repeat_divisors))
    signed = magnitude.view(_signed_type(rows))
    np.negative(signed, out=signed, where=negative)
    # Through the standard type of that width, since ml-dtypes' narrow integers know few conversions.
    rows[...] = signed.astype(rows.dtype, copy=False) if rows.dtype.kind != "u" else magnitude


def _magnitude(numbers: Array) -> Array:
    """A new array; of the least integer, whose magnitude the type lacks, it has the magnitude as well."""
    if numbers.dtype.kind == "u":
        return numbers.copy()
    signed = np.abs(numbers.astype(_signed_type(numbers)))
    return np.asarray(signed).view(f"u{numbers.dtype.itemsize}")


def _negative(numbers: Array) -> Array:
    return np.asarray(numbers < np.zeros((), numbers.dtype))


def _signed_type(numbers: Array) -> np.dtype[Any]:
    return np.dtype(f"i{numbers.dtype.itemsize}")
