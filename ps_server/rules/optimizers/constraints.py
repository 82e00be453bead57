"""Constraints: what is done to a value after a step. As in Keras, with its epsilon of 1e-7."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ps_protocol.operations import Array
from ps_protocol.optimizer_constraints import ConstraintSpec, check_constraint
from ps_server.rules.arithmetic import quiet
from ps_server.rules.optimizers.norms import row_sums_of_squares

_EPSILON: Final = 1e-7


def apply_constraint(constraint: ConstraintSpec, value: Array) -> None:
    """Changes a value in place so that it keeps to a constraint.

    Norms are computed in float64, in a fixed order; memory for them is taken before anything is changed.

    Args:
        constraint: Which one.
        value: C-contiguous, of floats.

    Raises:
        InvalidArgumentError: There is no such constraint, or it does not suit the value's dimensions.
    """
    check_constraint(constraint, value.ndim)
    if value.size:
        quiet.run(_CONSTRAINTS[constraint.name], value, *constraint.numbers)


def _non_negative(value: Array) -> None:
    np.maximum(value, value.dtype.type(0), out=value)


def _unit_norm(value: Array, axis: float) -> None:
    _scale(value, 1.0 / (_EPSILON + _norms(value, int(axis))))


def _max_norm(value: Array, greatest: float, axis: float) -> None:
    norms = _norms(value, int(axis))
    _scale(value, np.minimum(norms, greatest) / (_EPSILON + norms))


def _norms(value: Array, axis: int) -> Any:
    """Returns norms along a dimension, which is kept with the size 1."""
    last = np.moveaxis(value, axis, -1)
    sums = row_sums_of_squares(last.reshape(-1, last.shape[-1]))
    return np.expand_dims(np.sqrt(sums).reshape(last.shape[:-1]), axis)


def _scale(value: Array, factors: Any) -> None:
    """Multiplies in float32 at least."""
    wide = np.dtype(np.float64 if value.dtype.itemsize == 8 else np.float32)
    if value.dtype == wide:
        np.multiply(value, factors.astype(wide), out=value)
    else:
        np.copyto(value, value.astype(wide) * factors.astype(wide), casting="unsafe")


_CONSTRAINTS: Final[dict[str, Callable[..., None]]] = {
    "non_negative": _non_negative,
    "unit_norm": _unit_norm,
    "max_norm": _max_norm,
}
