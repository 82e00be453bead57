"""TensorFlow 1's functions for arithmetic, comparison and reduction.

In a deferred graph, or applied to deferred tensors, they make named operations. Otherwise they compute at once and
return NumPy values. Operands are brought to one dtype as ``operands.of_one_dtype`` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred.call import call
from worker_client.deferred.operands import of_one_dtype
from worker_client.graph.operation import Tensor
from worker_client.ops.constant_ops import constant, convert_to_tensor, identity, rank
from worker_client.ops.constant_ops import range as range_
from worker_client.values.made_functions import named, one_of

__all__ = [  # what is in ``tf.math`` too, which ``matmul`` and ``l2_loss`` are not
    "abs",
    "add",
    "add_n",
    "divide",
    "equal",
    "exp",
    "floordiv",
    "greater",
    "greater_equal",
    "less",
    "less_equal",
    "log",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "mod",
    "multiply",
    "negative",
    "not_equal",
    "pow",
    "reduce_all",
    "reduce_any",
    "reduce_max",
    "reduce_mean",
    "reduce_min",
    "reduce_prod",
    "reduce_sum",
    "sigmoid",
    "sqrt",
    "square",
    "subtract",
    "tanh",
]


class _Binary(Protocol):
    def __call__(self, x: Any, y: Any, name: str | None = None) -> Any: ...


class _Unary(Protocol):
    def __call__(self, x: Any, name: str | None = None) -> Any: ...


class _Reduction(Protocol):
    def __call__(
        self,
        input_tensor: Any,
        axis: Any = None,
        keepdims: bool | None = None,
        name: str | None = None,
        reduction_indices: Any = None,
        keep_dims: bool | None = None,
    ) -> Any: ...


# -- of two operands ------------------------------------------------------------------------------


def _binary(
    public_name: str, function: Callable[..., Any], op_type: str, doc: str, *, name: str | None = None
) -> _Binary:
    """Returns a function that makes an operation, which is called ``name`` where its caller gives none."""
    default = name

    def operation(x: Any, y: Any, name: str | None = None) -> Any:
        return call(function, of_one_dtype(op_type, [x, y]), op_type=op_type, name=name or default)

    return named(operation, public_name, doc)


add = _binary("add", np.add, "AddV2", "Returns ``x + y``.", name="Add")
subtract = _binary("subtract", np.subtract, "Sub", "Returns ``x - y``.")
multiply = _binary("multiply", np.multiply, "Mul", "Returns ``x * y``.")
divide = _binary("divide", np.true_divide, "RealDiv", "Returns ``x / y``, not rounded.", name="truediv")
floordiv = _binary("floordiv", np.floor_divide, "FloorDiv", "Returns ``x // y``, rounded down.", name="floordiv")
mod = _binary("mod", np.remainder, "FloorMod", "Returns ``x % y``, with the sign of ``y``.")
maximum = _binary("maximum", np.maximum, "Maximum", "Returns the greater of each two elements.")
minimum = _binary("minimum", np.minimum, "Minimum", "Returns the lesser of each two elements.")
pow = _binary("pow", np.power, "Pow", "Returns ``x ** y``.")  # noqa: A001 - TensorFlow's name
greater = _binary("greater", np.greater, "Greater", "Returns ``x > y``.")
greater_equal = _binary("greater_equal", np.greater_equal, "GreaterEqual", "Returns ``x >= y``.")
less = _binary("less", np.less, "Less", "Returns ``x < y``.")
less_equal = _binary("less_equal", np.less_equal, "LessEqual", "Returns ``x <= y``.")
equal = _binary("equal", np.equal, "Equal", "Returns for each two elements whether they are equal.")
not_equal = _binary("not_equal", np.not_equal, "NotEqual", "Returns for each two elements whether they differ.")
logical_and = _binary("logical_and", np.logical_and, "LogicalAnd", "Returns whether both of each two are true.")
logical_or = _binary("logical_or", np.logical_or, "LogicalOr", "Returns whether one of each two is true.")


def logical_xor(x: Any, y: Any, name: str = "LogicalXor") -> Any:
    """Returns for each two truth values whether they differ."""
    return call(np.logical_xor, of_one_dtype("LogicalXor", [x, y]), op_type="LogicalXor", name=name)


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


# -- of one operand -------------------------------------------------------------------------------


def _unary(public_name: str, function: Callable[..., Any], op_type: str, doc: str) -> _Unary:
    def operation(x: Any, name: str | None = None) -> Any:
        return call(function, of_one_dtype(op_type, [x]), op_type=op_type, name=name)

    return named(operation, public_name, doc)


def _sigmoid(x: Array) -> Any:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


abs = _unary("abs", np.absolute, "Abs", "Returns the absolute value of each element.")  # noqa: A001 - TensorFlow's name
negative = _unary("negative", np.negative, "Neg", "Returns ``-x``.")
square = _unary("square", np.square, "Square", "Returns ``x * x``.")
sqrt = _unary("sqrt", np.sqrt, "Sqrt", "Returns the square root of each element.")
exp = _unary("exp", np.exp, "Exp", "Returns e to the power of each element.")
log = _unary("log", np.log, "Log", "Returns the natural logarithm of each element.")
tanh = _unary("tanh", np.tanh, "Tanh", "Returns the hyperbolic tangent of each element.")
sigmoid = _unary("sigmoid", _sigmoid, "Sigmoid", "Returns ``1 / (1 + exp(-x))``, without overflow.")
logical_not = _unary("logical_not", np.logical_not, "LogicalNot", "Returns the opposite of each truth value.")


def l2_loss(t: Any, name: str | None = None) -> Any:
    """Returns half the sum of the squares of all elements."""
    return call(_half_sum_of_squares, of_one_dtype("L2Loss", [t]), op_type="L2Loss", name=name)


def _half_sum_of_squares(array: Array) -> Any:
    return np.sum(np.square(array), dtype=array.dtype) / array.dtype.type(2)


# -- over dimensions ------------------------------------------------------------------------------

_REDUCTION_DOC = """{summary}

    Args:
        input_tensor: The elements.
        axis: A dimension or a list of them, negative ones from the end; None for all.
        keepdims: Whether these dimensions stay, with the size 1.
        name: "{op_type}" if not given.
        reduction_indices: Older name of ``axis``.
        keep_dims: Older name of ``keepdims``.

    Raises:
        ValueError: There is no such dimension, or both names of an argument are used.
    """


def _reduction(public_name: str, function: Callable[..., Any], op_type: str, summary: str) -> _Reduction:
    def operation(
        input_tensor: Any,
        axis: Any = None,
        keepdims: bool | None = None,
        name: str | None = None,
        reduction_indices: Any = None,
        keep_dims: bool | None = None,
    ) -> Any:
        dims = one_of(op_type, axis=axis, reduction_indices=reduction_indices)
        keeps = bool(one_of(op_type, keepdims=keepdims, keep_dims=keep_dims))
        (operand,) = of_one_dtype(op_type, [input_tensor])
        if dims is None and isinstance(operand, Tensor):
            _name_reduced_dims(operand)
        return call(_over, [operand, dims, keeps, function], op_type=op_type, name=name)

    return named(operation, public_name, _REDUCTION_DOC.format(summary=summary, op_type=op_type))


def _over(array: Array, axis: Any, keepdims: bool, function: Callable[..., Any]) -> Any:
    if axis is None:
        return function(array, axis=None, keepdims=keepdims)
    numbers = np.ravel(axis)
    if numbers.size and numbers.dtype.kind not in "iu":
        raise TypeError(f"axis should be an integer, or some, not {numbers.dtype.name}")
    axes = tuple(int(each) for each in numbers)
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
    return np.divide(total, array.size / max(1, total.size)).astype(array.dtype)


reduce_sum = _reduction("reduce_sum", _sum, "Sum", "Returns the sum over some dimensions, in the elements' dtype.")
reduce_mean = _reduction(
    "reduce_mean", _mean, "Mean", "Returns the mean over some dimensions; of integers a whole number."
)
reduce_max = _reduction("reduce_max", np.max, "Max", "Returns the greatest element over some dimensions.")
reduce_min = _reduction("reduce_min", np.min, "Min", "Returns the least element over some dimensions.")
reduce_prod = _reduction("reduce_prod", _product, "Prod", "Returns the product over some dimensions.")
reduce_all = _reduction("reduce_all", np.all, "All", "Returns whether all are true over some dimensions.")
reduce_any = _reduction("reduce_any", np.any, "Any", "Returns whether any is true over some dimensions.")
