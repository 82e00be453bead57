"""TensorFlow 1's functions that keep tensors, or their norms, within bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from worker_client.graph.blocks import name_scope
from worker_client.ops.array_ops import cast, stack, where
from worker_client.ops.constant_ops import constant, convert_to_tensor, identity, ones_like
from worker_client.ops.constant_ops import size as size_of
from worker_client.ops.math_ops import (
    divide,
    greater,
    l2_loss,
    maximum,
    minimum,
    reduce_sum,
    sqrt,
)
from worker_client.values.conversion import IndexedSlices
from worker_client.values.dtypes import DType, as_dtype
from worker_client.values.shapes import TensorShape

__all__ = ["clip_by_average_norm", "clip_by_global_norm", "clip_by_norm", "clip_by_value", "global_norm"]


def clip_by_value(t: Any, clip_value_min: Any, clip_value_max: Any, name: str | None = None) -> Any:
    """Returns the elements, those below a bound or above another as that bound.

    Args:
        t: A tensor, or ``IndexedSlices``, whose values are taken.
        clip_value_min: The lower bound; a number, or a tensor that fits.
        clip_value_max: The upper bound.
        name: Of the operation; "clip_by_value" if not given.

    Raises:
        ValueError: The bounds have a shape that does not fit.
    """
    with name_scope(name, "clip_by_value", [t, clip_value_min, clip_value_max]) as scope:
        values = convert_to_tensor(_values(t), name="t")
        lower = minimum(values, clip_value_max)
        _check_not_broadcast(values, lower, "clip_value_max")
        clipped = maximum(lower, clip_value_min, name=scope)
        _check_not_broadcast(values, clipped, "clip_value_min")
        return _like(t, clipped)


def clip_by_norm(t: Any, clip_norm: Any, axes: Any = None, name: str | None = None) -> Any:
    """Returns a tensor, shortened to the length ``clip_norm`` if it is longer.

    Args:
        t: Of floats; or ``IndexedSlices``, the length of whose values counts.
        clip_norm: The greatest length; a number, or a tensor. A negative one counts as 0.
        axes: Dimensions over which lengths are computed; all if not given.
        name: Of the operation; "clip_by_norm" if not given.

    Raises:
        TypeError: The elements are no floats.
    """
    with name_scope(name, "clip_by_norm", [t, clip_norm]) as scope:
        operand = _floats(_values(t), "clip_by_norm")
        is_number = np.isscalar(clip_norm)
        bound = max(clip_norm, 0) if is_number else cast(maximum(clip_norm, 0), operand.dtype)
        squares = reduce_sum(operand * operand, axes, keepdims=True)
        is_positive = greater(squares, 0)
        lengths = where(is_positive, sqrt(where(is_positive, squares, ones_like(squares))), squares)
        scaled = operand * bound
        _check_not_broadcast(operand, scaled, "clip_norm")
        return _like(t, identity(scaled / maximum(lengths, bound), name=scope))


def clip_by_average_norm(t: Any, clip_norm: Any, name: str | None = None) -> Any:
    """Returns a tensor, shortened so that its length divided by the number of elements is at most ``clip_norm``."""
    with name_scope(name, "clip_by_average_norm", [t, clip_norm]) as scope:
        operand = _floats(t, "clip_by_average_norm")
        count = cast(size_of(operand), operand.dtype)
        inverse_length = divide(1, sqrt(reduce_sum(operand * operand)))
        factor = minimum(inverse_length * count, divide(1.0, clip_norm))
        return identity(operand * clip_norm * factor, name=scope)


def global_norm(t_list: Sequence[Any], name: str | None = None) -> Any:
    """Returns the length of several tensors taken together; those that are None are left out.

    Raises:
        TypeError: ``t_list`` is no sequence.
    """
    tensors = [each for each in _listed(t_list, "global_norm") if each is not None]
    with name_scope(name, "global_norm", tensors):
        halves = [l2_loss(_values(each)) for each in tensors]
        total = reduce_sum(stack(halves))
        return sqrt(total * constant(2.0, as_dtype(halves[0].dtype)), name="global_norm")


def clip_by_global_norm(
    t_list: Sequence[Any], clip_norm: Any, use_norm: Any = None, name: str | None = None
) -> tuple[list[Any], Any]:
    """Returns several tensors, all shortened by the same factor if together they are longer than ``clip_norm``.

    Args:
        t_list: Tensors, ``IndexedSlices``, or None, which stays.
        clip_norm: The greatest length.
        use_norm: Their length, if it is known; see ``global_norm``.
        name: Of the scope; "clip_by_global_norm" if not given.

    Returns:
        The shortened tensors, and their length before. If that is no finite number, their elements are none.

    Raises:
        TypeError: ``t_list`` is no sequence.
    """
    listed = _listed(t_list, "clip_by_global_norm")
    length = global_norm(listed, name) if use_norm is None else use_norm
    values = [_values(each) for each in listed if each is not None]
    with name_scope(name, "clip_by_global_norm", [*values, clip_norm]) as scope:
        one = constant(1.0, as_dtype(length.dtype))
        factor = clip_norm * minimum(divide(1.0, length), divide(one, clip_norm))
        scale = factor + (length - length)  # not a number if the length is none or infinite
        return [_scaled(each, scale, f"{scope}_{number}") for number, each in enumerate(listed)], length


def _scaled(tensor: Any, scale: Any, name: str) -> Any:
    if tensor is None:
        return None
    return _like(tensor, identity(_values(tensor) * scale, name=name))


def _listed(t_list: Any, function: str) -> list[Any]:
    if not isinstance(t_list, Sequence) or isinstance(t_list, str):
        raise TypeError(f"{function} takes a list of tensors, not {t_list!r}")
    return [each if each is None or isinstance(each, IndexedSlices) else convert_to_tensor(each) for each in t_list]


def _values(tensor: Any) -> Any:
    return tensor.values if isinstance(tensor, IndexedSlices) else tensor


def _like(given: Any, values: Any) -> Any:
    """Returns values as rows of where those of ``given`` were, if they were rows."""
    return IndexedSlices(values, given.indices, given.dense_shape) if isinstance(given, IndexedSlices) else values


def _check_not_broadcast(given: Any, result: Any, bound: str) -> None:
    before, after = TensorShape(given.shape), TensorShape(result.shape)
    if not before.is_compatible_with(after):
        raise ValueError(
            f"{bound} would make the shape {after} of {before}; give a scalar, or a bound for each element"
        )


def _floats(t: Any, function: str) -> Any:
    operand = convert_to_tensor(t)
    kind = DType(as_dtype(operand.dtype))
    if not (kind.is_floating or kind.is_complex):
        raise TypeError(f"{function} takes floats, not {kind.name}")
    return operand
