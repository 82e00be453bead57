"""Arithmetic that NumPy does differently: integers divided as in C++, and no warnings about overflow."""

from __future__ import annotations

import contextvars
import threading
from typing import Any

import numpy as np

from ps_protocol.dtype_traits import is_ml_dtype
from ps_protocol.operations import Array


class _Quiet(threading.local):
    """Runs functions in a context without NumPy's warnings, at a fraction of ``np.errstate``'s cost.

    NumPy keeps its error state in a context variable. Each thread has a context, since two threads cannot enter one.
    """

    def __init__(self) -> None:
        context = contextvars.Context()
        context.run(np.seterr, all="ignore")
        self.run = context.run


quiet = _Quiet()
"""``quiet.run(function, *args)`` calls a function; not to be nested."""


def divide_toward_zero(dividends: Array, divisors: Array, *, out: Array) -> None:
    """Divides integers of any width toward zero, as C++ and so TensorFlow does; called like a ufunc.

    Where C++ leaves the result open, the least integer by -1, it wraps around.

    Args:
        dividends: ``[...]``.
        divisors: The same dtype, the same shape or 0-d, none zero.
        out: The same dtype and shape as ``dividends``; may be them.
    """
    if is_ml_dtype(dividends.dtype):  # these narrow integers have few ufuncs, and fit a byte
        wide = _byte_type(dividends)
        quotients = _quotients(dividends.astype(wide), divisors.astype(wide))
        out[...] = quotients.astype(out.dtype)
        return
    out[...] = _quotients(dividends, divisors)


def _quotients(dividends: Array, divisors: Array) -> Array:
    if dividends.dtype.kind == "u":
        return np.asarray(np.floor_divide(dividends, divisors))
    # fmod gives the remainder the sign of the dividend, as C++ does. Without it the division is exact.
    exact = np.asarray(np.fmod(dividends, divisors))
    np.subtract(dividends, exact, out=exact)
    np.floor_divide(exact, divisors, out=exact)
    return exact


def _byte_type(numbers: Array) -> np.dtype[Any]:
    return np.dtype(np.uint8 if "uint" in numbers.dtype.name else np.int8)
