"""Keeps gradients, or their norms, within bounds: TensorFlow 1's functions, for arrays and ``IndexedSlices``.

Norms are computed in float64. Those of ``IndexedSlices`` are those of the rows as they are given, repeated or not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ps_protocol.dtype_traits import DTypeCategory, dtype_category
from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError
from ps_protocol.operations import Array
from worker_client.values.conversion import IndexedSlices

SomeGradient: TypeAlias = npt.ArrayLike | IndexedSlices
_G = TypeVar("_G", bound="Array | IndexedSlices")


def clip_by_value(gradient: SomeGradient, clip_value_min: npt.ArrayLike, clip_value_max: npt.ArrayLike) -> Any:
    """Returns a gradient whose elements below a bound, or above the other, are that bound; a new one."""
    values = _values(gradient, "clip_by_value")
    low, high = np.asarray(clip_value_min, values.dtype), np.asarray(clip_value_max, values.dtype)
    return _with_values(gradient, np.maximum(np.minimum(values, high), low))


def clip_by_norm(gradient: SomeGradient, clip_norm: float, axes: int | Sequence[int] | None = None) -> Any:
    """Returns a gradient, shortened to the length ``clip_norm`` if it is longer; a new one.

    Args:
        gradient: Of floats.
        clip_norm: The greatest length.
        axes: Dimensions over which lengths are computed; all if not given.
    """
    values = _values(gradient, "clip_by_norm")
    greatest = max(0.0, float(clip_norm))
    over = tuple(axes) if isinstance(axes, Sequence) else axes
    with np.errstate(all="ignore"):
        wide = values.astype(np.float64)
        norms = np.sqrt(np.sum(wide * wide, axis=over, keepdims=True))
        clipped = np.where(norms > greatest, wide * (greatest / norms), wide)
        return _with_values(gradient, clipped.astype(values.dtype))


def global_norm(gradients: Sequence[SomeGradient | None]) -> float:
    """Returns the length of several gradients taken together; those that are None are left out."""
    if isinstance(gradients, np.ndarray | str | IndexedSlices) or not isinstance(gradients, Sequence):
        raise InvalidArgumentError(f"the norm of several gradients is that of a list of them, not of {gradients!r}")
    squares = [_sum_of_squares(_values(each, "global_norm")) for each in gradients if each is not None]
    return float(np.sqrt(np.sum(squares)))


def clip_by_global_norm(
    gradients: Sequence[SomeGradient | None], clip_norm: float, use_norm: float | None = None
) -> tuple[list[Any], float]:
    """Shortens several gradients by one factor, so that the length of all together is at most ``clip_norm``.

    Args:
        gradients: Of all variables, on whatever ps tasks; None stays None.
        clip_norm: The greatest length.
        use_norm: Their length, if it is known: ``global_norm(gradients)``.

    Returns:
        The gradients, new ones, and their length before. If that is not finite, all elements are NaN.
    """
    norm = global_norm(gradients) if use_norm is None else float(use_norm)
    if not clip_norm > 0.0:
        raise InvalidArgumentError(f"gradients cannot be clipped to the norm {clip_norm!r}; give a number above 0")
    factor = float(clip_norm) / max(norm, float(clip_norm)) if math.isfinite(norm) else math.nan
    return [None if each is None else _scaled(each, factor) for each in gradients], norm


def _scaled(gradient: SomeGradient, factor: float) -> Any:
    values = _values(gradient, "clip_by_global_norm")
    with np.errstate(all="ignore"):
        return _with_values(gradient, values * values.dtype.type(factor))


def _sum_of_squares(values: Array) -> float:
    with np.errstate(all="ignore"):
        wide = values.reshape(-1).astype(np.float64, copy=False)
        return float(np.dot(wide, wide))


def _values(gradient: SomeGradient, function: str) -> Array:
    values = np.asarray(gradient.values if isinstance(gradient, IndexedSlices) else gradient)
    if dtype_category(values.dtype) is not DTypeCategory.FLOAT:
        raise DTypeMismatchError(f"{function} takes gradients of floats, not {values.dtype.name}")
    return values


def _with_values(gradient: SomeGradient, values: Array) -> Any:
    if isinstance(gradient, IndexedSlices):
        return IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return values
