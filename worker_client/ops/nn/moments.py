"""TensorFlow 1's functions for means and variances in several steps, and of weighted elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from worker_client.graph.blocks import name_scope
from worker_client.ops.array_ops import cast, gather, squeeze
from worker_client.ops.constant_ops import constant, convert_to_tensor, zeros_like
from worker_client.ops.constant_ops import rank as rank_of
from worker_client.ops.constant_ops import shape as shape_tensor
from worker_client.ops.elementwise_ops import div_no_nan, reciprocal, squared_difference
from worker_client.ops.math_ops import add, multiply, reduce_prod, reduce_sum, square, subtract
from worker_client.values.dtypes import as_dtype, float16, float32
from worker_client.values.made_functions import one_of
from worker_client.values.shapes import TensorShape

__all__ = ["normalize_moments", "sufficient_statistics", "weighted_moments"]


def sufficient_statistics(
    x: Any,
    axes: Sequence[int],
    shift: Any = None,
    keep_dims: bool | None = None,
    name: str | None = None,
    keepdims: bool | None = None,
) -> tuple[Any, Any, Any, Any]:
    """Returns what means and variances over some dimensions follow from.

    Args:
        x: Of floats.
        axes: The dimensions.
        shift: What is subtracted first, so that large means do no harm.
        keep_dims: Older name of ``keepdims``.
        name: Of the scope; "sufficient_statistics" if not given.
        keepdims: Whether these dimensions stay, with the size 1.

    Returns:
        The number of elements, their sum, the sum of their squares, and the shift, None if there is none.
    """
    dims = list(set(axes))
    keeps = bool(one_of("sufficient_statistics", keepdims=keepdims, keep_dims=keep_dims))
    with name_scope(name, "sufficient_statistics", [x, shift]):
        operand = convert_to_tensor(x, name="x")
        counts = _count(operand, dims)
        if shift is None:
            sums, squares = operand, square(operand)
        else:
            shift = convert_to_tensor(shift, name="shift")
            sums, squares = subtract(operand, shift), squared_difference(operand, shift)
        total = reduce_sum(sums, dims, keepdims=keeps, name="mean_ss")
        return counts, total, reduce_sum(squares, dims, keepdims=keeps, name="var_ss"), shift


def _count(operand: Any, dims: list[int]) -> Any:
    shape = TensorShape(operand.shape)
    sizes = [None if shape.ndims is None else shape.size(axis) for axis in dims]
    if None not in sizes:
        return constant(math.prod(size for size in sizes if size is not None), dtype=operand.dtype)
    places = [axis + rank_of(operand) if axis < 0 else axis for axis in dims]
    return reduce_prod(gather(cast(shape_tensor(operand), operand.dtype), places), name="count")


def normalize_moments(
    counts: Any, mean_ss: Any, variance_ss: Any, shift: Any, name: str | None = None
) -> tuple[Any, Any]:
    """Returns the mean and variance that follow from what ``sufficient_statistics`` returned."""
    with name_scope(name, "normalize", [counts, mean_ss, variance_ss, shift]):
        divisor = reciprocal(counts, name="divisor")
        shifted = multiply(mean_ss, divisor, name="mean" if shift is None else "shifted_mean")
        mean = shifted if shift is None else add(shifted, shift, name="mean")
        return mean, subtract(multiply(variance_ss, divisor), square(shifted), name="variance")


def weighted_moments(
    x: Any,
    axes: Any,
    frequency_weights: Any,
    name: str | None = None,
    keep_dims: bool | None = None,
    keepdims: bool | None = None,
) -> tuple[Any, Any]:
    """Returns mean and variance over some dimensions of elements that count as often as their weight says.

    Args:
        x: Of floats; float16 is computed as float32.
        axes: A list of dimensions.
        frequency_weights: A shape that can be broadcast with that of ``x``.
        name: Of the scope; "weighted_moments" if not given.
        keep_dims: Older name of ``keepdims``.
        keepdims: Whether these dimensions stay, with the size 1.
    """
    keeps = bool(one_of("weighted_moments", keepdims=keepdims, keep_dims=keep_dims))
    with name_scope(name, "weighted_moments", [x, frequency_weights, axes]):
        given = convert_to_tensor(x, name="x")
        weights = convert_to_tensor(frequency_weights, name="frequency_weights")
        is_half = as_dtype(given.dtype) == np.float16
        operand = cast(given, float32) if is_half else given
        weights = cast(weights, operand.dtype)
        total = reduce_sum(multiply(weights, operand), axes, name="weighted_input_sum", keepdims=True)
        spread = add(weights, zeros_like(operand))
        count = reduce_sum(spread, axes, name="sum_of_weights", keepdims=True)
        mean = div_no_nan(total, count)
        distances = multiply(weights, squared_difference(operand, mean))
        variance = div_no_nan(reduce_sum(distances, axes, name="weighted_distsq", keepdims=True), count)
        if not keeps:
            mean, variance = squeeze(mean, axes), squeeze(variance, axes)
        return (cast(mean, float16), cast(variance, float16)) if is_half else (mean, variance)
