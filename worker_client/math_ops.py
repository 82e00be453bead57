"""TensorFlow 1's functions for arithmetic, comparison and reduction.

Applied to lazy tensors, or in a deferred graph, they make named operations; otherwise they compute at once and return
NumPy values. Operands are brought to one dtype as ``operands.of_one_dtype`` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ps_protocol.operations import Array
from worker_client.constant_ops import constant, convert_to_tensor, identity, rank
from worker_client.constant_ops import range as range_
from worker_client.lazy_call import call
from worker_client.operands import of_one_dtype
from worker_client.operation import Tensor

# -- of two operands ------------------------------------------------------------------------------


def add(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns ``x + y``."""
    return _binary(np.add, "AddV2", name or "Add", x, y)


def subtract(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns ``x - y``."""
    return _binary(np.subtract, "Sub", name, x, y)


def multiply(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns ``x * y``."""
    return _binary(np.multiply, "Mul", name, x, y)


def divide(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns ``x / y``, of integers as well a floating-point number."""
    return _binary(np.true_divide, "RealDiv", name or "truediv", x, y)


def floordiv(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns ``x // y``, rounded down."""
    return _binary(np.floor_divide, "FloorDiv", name or "floordiv", x, y)


def mod(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns ``x % y``, with the sign of ``y``."""
    return _binary(np.remainder, "FloorMod", name, x, y)


def maximum(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns the greater of each two elements."""
    return _binary(np.maximum, "Maximum", name, x, y)


def minimum(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns the lesser of each two elements."""
    return _binary(np.minimum, "Minimum", name, x, y)


def pow(x: Any, y: Any, name: str | None = None) -> Any:  # noqa: A001 - TensorFlow's name
    """Returns ``x ** y``."""
    return _binary(np.power, "Pow", name, x, y)


def matmul(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
    a_is_sparse: bool = False,
    b_is_sparse: bool = False,
    name: str | None = None,
) -> Any:
    """Returns the matrix product, of each two matrices in the last two dimensions.

    Args:
        a: Shape ``[..., n, k]``.
        b: Shape ``[..., k, m]``.
        transpose_a: Whether the last two dimensions of ``a`` are to be exchanged first.
        transpose_b: The same for ``b``.
        adjoint_a: The same as ``transpose_a``, and conjugated.
        adjoint_b: The same for ``b``.
        a_is_sparse: Ignored; it makes the product no different.
        b_is_sparse: Ignored.
        name: "MatMul" if not given.

    Raises:
        ValueError: The shapes do not fit, or both a transposition and an adjunction are asked for.
    """
    del a_is_sparse, b_is_sparse
    if (transpose_a and adjoint_a) or (transpose_b and adjoint_b):
        raise ValueError("matmul: a matrix is to be transposed and adjoined; the adjoint is already transposed")
    operands = of_one_dtype("MatMul", [a, b])
    flags = (transpose_a or adjoint_a, transpose_b or adjoint_b, adjoint_a, adjoint_b)
    return call(_matrix_product, [*operands, *flags], op_type="MatMul", name=name)


def _matrix_product(a: Array, b: Array, turn_a: bool, turn_b: bool, conjugate_a: bool, conjugate_b: bool) -> Any:
    if a.ndim < 2 or b.ndim < 2:
        raise ValueError(f"matrices have two dimensions or more, not {a.ndim} and {b.ndim}")
    a, b = (np.conj(a) if conjugate_a else a), (np.conj(b) if conjugate_b else b)
    return np.matmul(np.swapaxes(a, -1, -2) if turn_a else a, np.swapaxes(b, -1, -2) if turn_b else b)


def greater(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns ``x > y``."""
    return _binary(np.greater, "Greater", name, x, y)


def greater_equal(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns ``x >= y``."""
    return _binary(np.greater_equal, "GreaterEqual", name, x, y)


def less(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns ``x < y``."""
    return _binary(np.less, "Less", name, x, y)


def less_equal(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns ``x <= y``."""
    return _binary(np.less_equal, "LessEqual", name, x, y)


def equal(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns for each two elements whether they are equal."""
    return _binary(np.equal, "Equal", name, x, y)


def not_equal(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns for each two elements whether they differ."""
    return _binary(np.not_equal, "NotEqual", name, x, y)


def logical_and(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns for each two truth values whether both are true."""
    return _binary(np.logical_and, "LogicalAnd", name, x, y)


def logical_or(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns for each two truth values whether one is true."""
    return _binary(np.logical_or, "LogicalOr", name, x, y)


def logical_xor(x: Any, y: Any, name: str = "LogicalXor") -> Any:
    """Returns for each two truth values whether they differ."""
    return _binary(np.logical_xor, "LogicalXor", name, x, y)


def add_n(inputs: Sequence[Any], name: str | None = None) -> Any:
    """Returns the sum of some tensors of one shape.

    Raises:
        ValueError: There is none, or the shapes differ.
    """
    if not inputs:
        raise ValueError("add_n needs at least one tensor")
    if len(inputs) == 1:
        only = convert_to_tensor(inputs[0])
        return identity(only, name=name) if name else only
    return call(_sum_of, of_one_dtype("AddN", inputs), op_type="AddN", name=name)


def _sum_of(first: Array, *others: Array) -> Any:
    if any(other.shape != first.shape for other in others):
        raise ValueError(f"the shapes {[list(each.shape) for each in (first, *others)]} should be the same")
    total = first
    for other in others:
        total = total + other
    return total


def _binary(function: np.ufunc, op_type: str, name: str | None, x: Any, y: Any) -> Any:
    return call(function, of_one_dtype(op_type, [x, y]), op_type=op_type, name=name)


# -- of one operand -------------------------------------------------------------------------------


def abs(x: Any, name: str | None = None) -> Any:  # noqa: A001 - TensorFlow's name
    """Returns the absolute value of each element."""
    return _unary(np.absolute, "Abs", name, x)


def negative(x: Any, name: str | None = None) -> Any:
    """Returns ``-x``."""
    return _unary(np.negative, "Neg", name, x)


def square(x: Any, name: str | None = None) -> Any:
    """Returns ``x * x``."""
    return _unary(np.square, "Square", name, x)


def sqrt(x: Any, name: str | None = None) -> Any:
    """Returns the square root of each element."""
    return _unary(np.sqrt, "Sqrt", name, x)


def exp(x: Any, name: str | None = None) -> Any:
    """Returns e to the power of each element."""
    return _unary(np.exp, "Exp", name, x)


def log(x: Any, name: str | None = None) -> Any:
    """Returns the natural logarithm of each element."""
    return _unary(np.log, "Log", name, x)


def tanh(x: Any, name: str | None = None) -> Any:
    """Returns the hyperbolic tangent of each element."""
    return _unary(np.tanh, "Tanh", name, x)


def sigmoid(x: Any, name: str | None = None) -> Any:
    """Returns ``1 / (1 + exp(-x))``, without overflow."""
    return _unary(_sigmoid, "Sigmoid", name, x)


def logical_not(x: Any, name: str | None = None) -> Any:
    """Returns the opposite of each truth value."""
    return _unary(np.logical_not, "LogicalNot", name, x)


def _sigmoid(x: Array) -> Any:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def _unary(function: Callable[..., Any], op_type: str, name: str | None, x: Any) -> Any:
    return call(function, of_one_dtype(op_type, [x]), op_type=op_type, name=name)


# -- over dimensions ------------------------------------------------------------------------------


def reduce_sum(
    input_tensor: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
) -> Any:
    """Returns the sum over some dimensions, in the dtype of the elements.

    Args:
        input_tensor: What to sum.
        axis: A dimension or a list of them, negative ones from the end; None for all.
        keepdims: Whether these dimensions stay, with the size 1.
        name: "Sum" if not given.
        reduction_indices: Older name of ``axis``.
        keep_dims: Older name of ``keepdims``.

    Raises:
        ValueError: There is no such dimension, or both names of an argument are used.
    """
    return _reduced(_sum, "Sum", input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


def reduce_mean(
    input_tensor: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
) -> Any:
    """Returns the mean over some dimensions, of integers without its fraction; arguments as of ``reduce_sum``."""
    return _reduced(_mean, "Mean", input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


def reduce_max(
    input_tensor: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
) -> Any:
    """Returns the greatest element over some dimensions; arguments as of ``reduce_sum``."""
    return _reduced(np.max, "Max", input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


def reduce_min(
    input_tensor: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
) -> Any:
    """Returns the least element over some dimensions; arguments as of ``reduce_sum``."""
    return _reduced(np.min, "Min", input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


def reduce_prod(
    input_tensor: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
) -> Any:
    """Returns the product over some dimensions; arguments as of ``reduce_sum``."""
    return _reduced(_product, "Prod", input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


def reduce_all(
    input_tensor: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
) -> Any:
    """Returns whether all are true over some dimensions; arguments as of ``reduce_sum``."""
    return _reduced(np.all, "All", input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


def reduce_any(
    input_tensor: Any,
    axis: Any = None,
    keepdims: bool | None = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: bool | None = None,
) -> Any:
    """Returns whether any is true over some dimensions; arguments as of ``reduce_sum``."""
    return _reduced(np.any, "Any", input_tensor, axis, keepdims, name, reduction_indices, keep_dims)


def _reduced(
    function: Callable[..., Any],
    op_type: str,
    input_tensor: Any,
    axis: Any,
    keepdims: bool | None,
    name: str | None,
    reduction_indices: Any,
    keep_dims: bool | None,
) -> Any:
    for (given, new), (older, old) in (
        ((axis, "axis"), (reduction_indices, "reduction_indices")),
        ((keepdims, "keepdims"), (keep_dims, "keep_dims")),
    ):
        if given is not None and older is not None:
            raise ValueError(f"{op_type}: {new} and {old} mean the same; give {new} only")
    dims = reduction_indices if axis is None else axis
    (operand,) = of_one_dtype(op_type, [input_tensor])
    if dims is None and isinstance(operand, Tensor):
        _name_reduced_dims(operand)
    keeps = bool(keep_dims if keepdims is None else keepdims)
    return call(_over, [operand, dims, keeps, function], op_type=op_type, name=name)


def _over(array: Array, axis: Any, keepdims: bool, function: Callable[..., Any]) -> Any:
    axes = axis if axis is None else tuple(int(each) for each in np.ravel(axis))
    return function(array, axis=axes, keepdims=keepdims)


def _name_reduced_dims(operand: Tensor) -> None:
    """Makes the operations that in TensorFlow hold the dimensions, since those take names."""
    ndims = operand.shape.ndims
    if ndims:
        constant(np.arange(ndims, dtype=np.int32))
    else:
        range_(0, rank(operand))


def _sum(array: Array, *, axis: Any, keepdims: bool) -> Any:
    return np.sum(array, axis=axis, keepdims=keepdims, dtype=array.dtype)


def _product(array: Array, *, axis: Any, keepdims: bool) -> Any:
    return np.prod(array, axis=axis, keepdims=keepdims, dtype=array.dtype)


def _mean(array: Array, *, axis: Any, keepdims: bool) -> Any:
    if array.dtype.kind in "iu":
        total = np.sum(array, axis=axis, keepdims=keepdims)
        count = array.size // max(1, total.size)
        return (np.sign(total) * (np.abs(total) // max(1, count))).astype(array.dtype)
    total = np.sum(array, axis=axis, keepdims=keepdims, dtype=np.result_type(array.dtype, np.float32))
    return np.divide(total, array.size / max(1, total.size)).astype(array.dtype)  # of nothing nan, without a warning


def l2_loss(t: Any, name: str | None = None) -> Any:
    """Returns half the sum of the squares of all elements."""
    return _unary(_half_sum_of_squares, "L2Loss", name, t)


def _half_sum_of_squares(array: Array) -> Any:
    return np.sum(np.square(array), dtype=array.dtype) / array.dtype.type(2)
