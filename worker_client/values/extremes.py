"""The greatest and the least element, also of no elements, for which NumPy has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ps_protocol.operations import Array


def greatest(array: Array, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:
    """Returns the greatest elements over some dimensions, as NumPy's ``max``; of none, what is below all others."""
    if array.size:
        return np.max(array, axis=axis, keepdims=keepdims)
    return np.max(array, axis=axis, keepdims=keepdims, initial=_end(array.dtype, -1))


def least(array: Array, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:
    """Returns the least elements over some dimensions, as NumPy's ``min``; of none, what is above all others."""
    if array.size:
        return np.min(array, axis=axis, keepdims=keepdims)
    return np.min(array, axis=axis, keepdims=keepdims, initial=_end(array.dtype, 1))


def _end(dtype: np.dtype[Any], sign: int) -> Any:
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        return bounds.min if sign < 0 else bounds.max
    return np.array(sign * np.inf, dtype)[()]
