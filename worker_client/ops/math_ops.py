"""TensorFlow 1's functions for arithmetic, comparison and reduction.

In a deferred graph, or applied to deferred tensors, they make named operations. Otherwise they compute at once and
return NumPy values. Operands are brought to one dtype as ``operands.of_one_dtype`` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred import elementwise
from worker_client.deferred.call import call, is_deferred
from worker_client.deferred.computed import computed, deferred_graph
from worker_client.deferred.operands import of_one_dtype
from worker_client.deferred.sparse_tensor import SparseTensor, with_values_of
from worker_client.graph.operation import Tensor
from worker_client.op_definitions.op_defs import OP_DEFS
from worker_client.ops.constant_ops import constant, convert_to_tensor, identity, rank
from worker_client.ops.constant_ops import range as range_
from worker_client.values.extremes import greatest, least
from worker_client.values.made_functions import named, one_of
from worker_client.values.shapes import TensorShape

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


def binary(
    public_name: str, function: Callable[..., Any], op_type: str, doc: str, *, name: str | None = None
) -> _Binary:
    """Returns a function that makes an operation, which is called ``name`` where its caller gives none."""
    default = name

    def operation(x: Any, y: Any, name: str | None = None) -> Any:
        return _applied(function, op_type, [x, y], name or default)

    return named(operation, public_name, doc)


def _applied(function: Callable[..., Any], op_type: str, operands: list[Any], name: str | None) -> Any:
    if op_type in OP_DEFS:
        return computed(op_type, function, operands, name=name)
    return call(function, of_one_dtype(op_type, operands), op_type=op_type, name=name)


def _as_operator(public_name: str, operator: Callable[..., Any], doc: str, *, name: str) -> _Binary:
    """Returns a function that makes what an operator of Python makes, under another name."""
    default = name

    def operation(x: Any, y: Any, name: str | None = None) -> Any:
        return operator(x, y, name=name or default)

    return named(operation, public_name, doc)


add = _as_operator("add", elementwise.added, "Returns ``x + y``.", name="Add")
subtract = binary("subtract", np.subtract, "Sub", "Returns ``x - y``.")
multiply = binary("multiply", np.multiply, "Mul", "Returns ``x * y``.")
divide = _as_operator("divide", elementwise.divided, "Returns ``x / y``, not rounded.", name="truediv")
floordiv = binary(
    "floordiv", elementwise.rounded_down, "FloorDiv", "Returns ``x // y``, rounded down.", name="floordiv"
)
mod = binary("mod", np.remainder, "FloorMod", "Returns ``x % y``, with the sign of ``y``.")
maximum = binary("maximum", np.maximum, "Maximum", "Returns the greater of each two elements.")
minimum = binary("minimum", np.minimum, "Minimum", "Returns the lesser of each two elements.")
pow = binary("pow", np.power, "Pow", "Returns ``x ** y``.")  # noqa: A001 - TensorFlow's name
greater = binary("greater", np.greater, "Greater", "Returns ``x > y``.")
greater_equal = binary("greater_equal", np.greater_equal, "GreaterEqual", "Returns ``x >= y``.")
less = binary("less", np.less, "Less", "Returns ``x < y``.")
less_equal = binary("less_equal", np.less_equal, "LessEqual", "Returns ``x <= y``.")
equal = binary("equal", np.equal, "Equal", "Returns for each two elements whether they are equal.")
not_equal = binary("not_equal", np.not_equal, "NotEqual", "Returns for each two elements whether they differ.")
logical_and = binary("logical_and", np.logical_and, "LogicalAnd", "Returns whether both of each two are true.")
logical_or = binary("logical_or", np.logical_or, "LogicalOr", "Returns whether one of each two is true.")


def logical_xor(x: Any, y: Any, name: str = "LogicalXor") -> Any:
    """Returns for each two truth values whether they differ."""
    return elementwise.either_but_not_both(x, y, name)


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
    return elementwise.matrix_product(
        a,
        b,
        name,
        turn_a=transpose_a or adjoint_a,
        turn_b=transpose_b or adjoint_b,
        conjugate_a=adjoint_a,
        conjugate_b=adjoint_b,
    )


def add_n(inputs: Sequence[Any], name: str | None = None) -> Any:
    """Returns the sum of some tensors of one shape.

    Raises:
        TypeError: They are no list, or their dtypes differ.
        ValueError: There is none, or the shapes differ.
    """
    if not isinstance(inputs, list | tuple):
        raise TypeError(f"add_n needs a list of tensors, not {inputs!r}")
    if not inputs:
        raise ValueError("add_n needs at least one tensor")
    if len(inputs) == 1:
        only = convert_to_tensor(inputs[0])
        return identity(only, name=name) if name else only
    if deferred_graph(inputs) is not None:
        dtype = next((each.dtype for each in inputs if hasattr(each, "dtype")), None)
        inputs = [convert_to_tensor(each, None if hasattr(each, "dtype") else dtype) for each in inputs]
    return computed("AddN", _sum_of, [inputs], name=name)


def _sum_of(first: Array, *others: Array) -> Any:
    if any(other.shape != first.shape for other in others):
        raise ValueError(f"the shapes {[list(each.shape) for each in (first, *others)]} should be the same")
    total = first
    for other in others:
        total = total + other
    return total


# -- of one operand -------------------------------------------------------------------------------


def unary(public_name: str, function: Callable[..., Any], op_type: str, doc: str) -> _Unary:
    def operation(x: Any, name: str | None = None) -> Any:
        if isinstance(x, SparseTensor):
            return with_values_of(lambda values: operation(values, name), x)
        return _applied(function, op_type, [x], name)

    return named(operation, public_name, doc)


def _sigmoid(x: Array) -> Any:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def abs(x: Any, name: str | None = None) -> Any:  # noqa: A001 - TensorFlow's name
    """Returns the absolute value of each element."""
    if isinstance(x, SparseTensor):
        return with_values_of(lambda values: abs(values, name), x)
    return elementwise.absolute(x, name)


negative = unary("negative", np.negative, "Neg", "Returns ``-x``.")
square = unary("square", np.square, "Square", "Returns ``x * x``.")
sqrt = unary("sqrt", np.sqrt, "Sqrt", "Returns the square root of each element.")
exp = unary("exp", np.exp, "Exp", "Returns e to the power of each element.")
log = unary("log", np.log, "Log", "Returns the natural logarithm of each element.")
tanh = unary("tanh", np.tanh, "Tanh", "Returns the hyperbolic tangent of each element.")
sigmoid = unary("sigmoid", _sigmoid, "Sigmoid", "Returns ``1 / (1 + exp(-x))``, without overflow.")
logical_not = unary("logical_not", np.logical_not, "LogicalNot", "Returns the opposite of each truth value.")


def l2_loss(t: Any, name: str | None = None) -> Any:
    """Returns half the sum of the squares of all elements."""
    return computed("L2Loss", _half_sum_of_squares, [t], name=name)


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


def reduction(public_name: str, function: Callable[..., Any], op_type: str, summary: str) -> _Reduction:
    def operation(
        input_tensor: Any,
        axis: Any = None,
        keepdims: bool | None = None,
        name: str | None = None,
        reduction_indices: Any = None,
        keep_dims: bool | None = None,
    ) -> Any:
        dims = one_of(op_type, axis=axis, reduction_indices=reduction_indices)
        is_full = dims is None
        keeps = bool(one_of(op_type, keepdims=keepdims, keep_dims=keep_dims))
        if dims is None:
            dims = _all_dimensions(input_tensor)
        over = _Reduced(function, keeps)
        result = computed(op_type, over, [input_tensor, dims], name=name, attributes={"keep_dims": keeps})
        if isinstance(result, Tensor) and is_full and not keeps:
            result.set_shape([])
        return result

    return named(operation, public_name, _REDUCTION_DOC.format(summary=summary, op_type=op_type))


class _Reduced:
    """Reduces an array over some dimensions by a function of NumPy's kind."""

    __slots__ = ("_function", "_keeps")

    def __init__(self, function: Callable[..., Any], keeps: bool):
        self._function = function
        self._keeps = keeps

    def __call__(self, array: Array, axes: Array) -> Any:
        return self._function(array, axis=tuple(np.ravel(axes).tolist()), keepdims=self._keeps)


def _all_dimensions(operand: Any) -> Any:
    """Returns the dimensions to reduce where none are named: TensorFlow's operations that hold them take names."""
    if operand is None:
        raise ValueError("there is nothing to reduce in None")
    if deferred_graph([operand]) is None:
        return np.arange(np.ndim(operand), dtype=np.int32)
    ndims = TensorShape(operand.shape).ndims if is_deferred(operand) else None
    return constant(np.arange(ndims, dtype=np.int32)) if ndims else range_(0, rank(operand))


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


reduce_sum = reduction("reduce_sum", _sum, "Sum", "Returns the sum over some dimensions, in the elements' dtype.")
reduce_mean = reduction(
    "reduce_mean", _mean, "Mean", "Returns the mean over some dimensions; of integers a whole number."
)
reduce_max = reduction("reduce_max", greatest, "Max", "Returns the greatest element over some dimensions.")
reduce_min = reduction("reduce_min", least, "Min", "Returns the least element over some dimensions.")
reduce_prod = reduction("reduce_prod", _product, "Prod", "Returns the product over some dimensions.")
reduce_all = reduction("reduce_all", np.all, "All", "Returns whether all are true over some dimensions.")
reduce_any = reduction("reduce_any", np.any, "Any", "Returns whether any is true over some dimensions.")
