"""TensorFlow 1's rarer functions over dimensions: logarithms of sums, spread, norms and what is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ps_protocol.operations import Array
from worker_client.graph.blocks import name_scope
from worker_client.ops.array_ops import cast, reshape, squeeze
from worker_client.ops.constant_ops import convert_to_tensor, identity, zeros_like
from worker_client.ops.constant_ops import size as size_of
from worker_client.ops.elementwise_ops import is_finite, realdiv, rsqrt, squared_difference, stop_gradient
from worker_client.ops.math_ops import (
    abs as absolute,
)
from worker_client.ops.math_ops import (
    add,
    exp,
    log,
    maximum,
    multiply,
    not_equal,
    reduce_max,
    reduce_mean,
    reduce_sum,
    reduction,
    sqrt,
    square,
    subtract,
)
from worker_client.ops.math_ops import (
    pow as power,
)
from worker_client.ops.selection_ops import where_v2
from worker_client.values.dtypes import as_dtype, int64
from worker_client.values.made_functions import one_of

__all__ = ["count_nonzero", "norm", "reduce_logsumexp"]


def reduce_logsumexp(
    input_tensor: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
) -> Any:
    """Returns ``log(sum(exp(x)))`` over some dimensions, without overflow; otherwise as ``reduce_sum``."""
    dims = one_of("reduce_logsumexp", axis=axis, reduction_indices=reduction_indices)
    keeps = bool(one_of("reduce_logsumexp", keepdims=keepdims, keep_dims=keep_dims))
    with name_scope(name, "ReduceLogSumExp", [input_tensor]) as scope:
        operand = convert_to_tensor(input_tensor)
        greatest = reduce_max(operand, dims, keepdims=True)
        offset = stop_gradient(where_v2(is_finite(greatest), greatest, zeros_like(greatest)))
        total = log(reduce_sum(exp(subtract(operand, offset)), dims, keepdims=True))
        if keeps:
            return add(total, offset, name=scope)
        return add(_without(total, dims), _without(offset, dims), name=scope)


def _without(reduced: Any, dims: Any) -> Any:
    """Returns what was reduced with its dimensions kept, without them."""
    return reshape(reduced, []) if dims is None else squeeze(reduced, np.ravel(dims).tolist())


def reduce_variance(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Any:
    """Returns the mean of the squared distances from the mean over some dimensions."""
    with name_scope(name, "reduce_variance", [input_tensor]):
        operand = convert_to_tensor(input_tensor)
        means = reduce_mean(operand, axis, keepdims=True)
        return reduce_mean(square(subtract(operand, means)), axis, keepdims=keepdims)


def reduce_std(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Any:
    """Returns the standard deviation over some dimensions."""
    with name_scope(name, "reduce_std", [input_tensor]):
        return sqrt(reduce_variance(input_tensor, axis, keepdims))


def _length(array: Array, *, axis: Any, keepdims: bool) -> Any:
    return np.sqrt(np.sum(np.square(array), axis=axis, keepdims=keepdims))


reduce_euclidean_norm = reduction(
    "reduce_euclidean_norm", _length, "EuclideanNorm", "Returns the square root of the sum of the squares."
)


def count_nonzero(
    input_tensor: Any = None,
    axis: Any = None,
    keepdims: bool | None = None,
    dtype: Any = int64,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
    input: Any = None,
) -> Any:
    """Returns how many elements are not 0 over some dimensions, as ``dtype``; otherwise as ``reduce_sum``."""
    given = one_of("count_nonzero", input_tensor=input_tensor, input=input)
    dims = one_of("count_nonzero", axis=axis, reduction_indices=reduction_indices)
    keeps = bool(one_of("count_nonzero", keepdims=keepdims, keep_dims=keep_dims))
    with name_scope(name, "count_nonzero", [given]):
        operand = convert_to_tensor(given)
        counted = cast(not_equal(operand, np.zeros((), as_dtype(operand.dtype))), int64)
        return cast(reduce_sum(counted, dims, keepdims=keeps), dtype)


def norm(
    tensor: Any,
    ord: Any = "euclidean",  # noqa: A002 - TensorFlow's name
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    keep_dims: bool | None = None,
) -> Any:
    """Returns the norm of vectors, or of all elements as one vector.

    Args:
        tensor: Of floats.
        ord: "euclidean", 1, 2, any positive number, or infinity.
        axis: The dimension of the vectors, or a list of two for matrices (of these only "euclidean", "fro", 1 and
            infinity); None for all elements.
        keepdims: Whether these dimensions stay, with the size 1.
        name: Of the scope; "norm" if not given.
        keep_dims: Older name of ``keepdims``.

    Raises:
        ValueError: ``ord`` is nothing of that.
    """
    keeps = bool(one_of("norm", keepdims=keepdims, keep_dims=keep_dims))
    is_matrix = isinstance(axis, list | tuple) and len(axis) == 2
    known = ("euclidean", "fro", 1, np.inf) if is_matrix else ("euclidean",)
    if not (ord in known or (not is_matrix and isinstance(ord, int | float) and ord > 0)):
        raise ValueError(f"norm: ord should be one of {known} or a positive number, not {ord!r}")
    with name_scope(name, "norm", [tensor]):
        operand = convert_to_tensor(tensor)
        if ord in ("euclidean", "fro") or (ord == 2 and not is_matrix):
            result = sqrt(reduce_sum(square(operand), axis, keepdims=True))
        elif is_matrix:
            summed, kept = axis if ord == 1 else axis[::-1]
            result = reduce_max(reduce_sum(absolute(operand), summed, keepdims=True), kept, keepdims=True)
        elif ord == 1:
            result = reduce_sum(absolute(operand), axis, keepdims=True)
        elif np.isinf(ord):
            result = reduce_max(absolute(operand), axis, keepdims=True)
        else:
            total = reduce_sum(power(absolute(operand), float(ord)), axis, keepdims=True)
            result = power(total, 1.0 / float(ord))
        return result if keeps else squeeze(result, axis)


def zero_fraction(value: Any, name: str | None = None) -> Any:
    """Returns what part of the elements is 0, as float32."""
    with name_scope(name, "zero_fraction", [value]):
        operand = convert_to_tensor(value, name="value")
        number = size_of(operand, out_type=int64)
        zeros = subtract(number, count_nonzero(operand))
        return identity(realdiv(cast(zeros, np.float32), cast(number, np.float32)), name="fraction")


def l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12, name: str | None = None, dim: Any = None) -> Any:
    """Returns vectors of length 1 in the direction of those along some dimensions (older name: ``dim``).

    Args:
        x: Of floats.
        axis: The dimensions; None for all.
        epsilon: Least sum of squares that is divided by.
        name: Of the scope; "l2_normalize" if not given.
        dim: Older name of ``axis``.
    """
    dims = one_of("l2_normalize", axis=axis, dim=dim)
    with name_scope(name, "l2_normalize", [x]) as scope:
        operand = convert_to_tensor(x, name="x")
        total = reduce_sum(square(operand), dims, keepdims=True)
        return multiply(operand, rsqrt(maximum(total, epsilon)), name=scope)


def moments(
    x: Any,
    axes: Any,
    shift: Any = None,
    name: str | None = None,
    keep_dims: bool | None = None,
    keepdims: bool | None = None,
) -> tuple[Any, Any]:
    """Returns mean and variance over some dimensions.

    Args:
        x: Of floats; float16 is computed as float32.
        axes: A list of dimensions.
        shift: Ignored.
        name: Of the scope; "moments" if not given.
        keep_dims: Older name of ``keepdims``.
        keepdims: Whether these dimensions stay, with the size 1.
    """
    del shift
    keeps = bool(one_of("moments", keepdims=keepdims, keep_dims=keep_dims))
    with name_scope(name, "moments", [x]):
        given = convert_to_tensor(x)
        is_half = as_dtype(given.dtype) == np.float16
        operand = cast(given, np.float32) if is_half else given
        mean = reduce_mean(operand, axes, keepdims=True, name="mean")
        distances = squared_difference(operand, stop_gradient(mean))
        variance = reduce_mean(distances, axes, keepdims=True, name="variance")
        if not keeps:
            mean, variance = squeeze(mean, axes), squeeze(variance, axes)
        return (cast(mean, np.float16), cast(variance, np.float16)) if is_half else (mean, variance)
