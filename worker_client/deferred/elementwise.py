"""Arithmetic, logic and matrix products: what Python's operators and TensorFlow's functions have in common.

Each takes a name, "" for that of the operation's type, and makes operations as TensorFlow does, or computes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred.building import built_op, constant_op
from worker_client.deferred.call import is_deferred
from worker_client.deferred.computed import arrays_of, computed, deferred_graph
from worker_client.deferred.operands import cast_to, constant_array, operands_of
from worker_client.graph.graph import Graph
from worker_client.op_definitions.op_defs import OP_DEFS
from worker_client.values.array_likes import array_of
from worker_client.values.dtypes import DType, as_dtype, float32, float64
from worker_client.values.shapes import TensorShape
from worker_client.values.text import is_text

_QUOTIENTS: Final[Mapping[str, np.dtype[Any]]] = {
    **dict.fromkeys(("int8", "uint8", "int16", "uint16"), float32.dtype),
    **dict.fromkeys(("int32", "uint32", "int64", "uint64"), float64.dtype),
}
"""The dtypes in which integers are divided."""


def is_bool(*values: Any) -> bool:
    """Whether the first value that has a dtype holds truth values; if none has one, whether the first is one."""
    dtype = next((found for found in map(_dtype, values) if found is not None), None)
    return array_of(values[0], "an operand").dtype == np.bool_ if dtype is None else dtype == np.bool_


def _dtype(value: Any) -> np.dtype[Any] | None:
    """Returns the dtype of a tensor, a variable or an array; None if it has none, or one of another library."""
    try:
        return as_dtype(value.dtype)
    except (AttributeError, TypeError):
        return None


def added(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns ``x + y``; of texts, one behind the other."""
    of_text = any(is_text(_dtype(each) or _own_dtype(each)) for each in (x, y))
    return computed("Add" if of_text else "AddV2", _sum, [x, y], name=name)


def _own_dtype(value: Any) -> np.dtype[Any]:
    """Returns the dtype of a text, or of a list that begins with one; of all else that of numbers."""
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return np.dtype(np.bytes_ if isinstance(value, str | bytes) else np.float64)


def _sum(x: Array, y: Array) -> Any:
    return np.char.add(x, y) if x.dtype.kind == "S" else np.add(x, y)


def multiplied(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns ``x * y``; of truth values, whether both are true."""
    if is_bool(x, y):
        return computed("LogicalAnd", np.logical_and, [x, y], name=name)
    return computed("Mul", np.multiply, [x, y], name=name)


def rounded_down(x: Array, y: Array) -> Any:
    """Returns ``x // y``; of floats the rounded quotient rounded down, as TensorFlow: not NumPy's, which is exact."""
    if x.dtype.kind not in "iu":
        return np.floor(np.divide(x, y))
    if not np.all(y):
        raise ZeroDivisionError("divide by zero")
    return np.floor_divide(x, y)


def divided(
    x: Any,
    y: Any,
    name: str | None = None,
    *,
    op_type: str = "RealDiv",
    function: Callable[[Array, Array], Any] = np.true_divide,
) -> Any:
    """Returns ``x / y``, not rounded: integers are made floats first; or what another function makes of them."""
    graph = deferred_graph([x, y])
    if graph is None:
        arrays = arrays_of("RealDiv", [x, y])
        wide = _QUOTIENTS.get(arrays[0].dtype.name, arrays[0].dtype)
        with np.errstate(all="ignore"):
            return function(*(each.astype(wide) for each in arrays))[()]
    with graph.name_scope(name or "truediv") as scope:
        operands = as_floats(graph, operands_of("RealDiv", OP_DEFS["RealDiv"], [x, y], graph))
        return built_op(graph, op_type, function, operands, name=scope).outputs[0]


def as_floats(graph: Graph, operands: list[Any]) -> list[Any]:
    """Returns the operands of a division, those that are all integers of one dtype as floats."""
    wanted = _QUOTIENTS.get(operands[0].dtype.name)
    if wanted is None or any(each.dtype != operands[0].dtype for each in operands):
        return operands
    cast, attributes = cast_to(wanted), {"DstT": DType.of(wanted)}
    return [built_op(graph, "Cast", cast, [each], dtype=wanted, attributes=attributes).outputs[0] for each in operands]


def absolute(x: Any, name: str | None = None) -> Any:
    """Returns the absolute value of each element, of complex numbers a real one."""
    graph = deferred_graph([x])
    if graph is None:
        dtype = _dtype(x) or array_of(x, "an operand").dtype
        return computed("ComplexAbs" if dtype.kind == "c" else "Abs", np.absolute, [x])
    with graph.name_scope(name or "Abs") as scope:
        (operand,) = operands_of("ZerosLike", OP_DEFS["ZerosLike"], [x], graph)
        dtype = as_dtype(operand.dtype)
        if dtype.kind != "c":
            return computed("Abs", np.absolute, [operand], name=scope)
        real = np.zeros((), dtype).real.dtype
        attributes = {"Tout": DType.of(real)}
        return computed("ComplexAbs", np.absolute, [operand], name=scope, dtype=real, attributes=attributes)


def either_but_not_both(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns for each two truth values whether they differ."""
    if deferred_graph([x, y]) is None:
        return np.logical_xor(*arrays_of("LogicalOr", [x, y]))
    either = computed("LogicalOr", np.logical_or, [x, y])
    both = computed("LogicalAnd", np.logical_and, [x, y])
    not_both = computed("LogicalNot", np.logical_not, [both])
    return computed("LogicalAnd", np.logical_and, [either, not_both], name=name or "LogicalXor")


def inverted(x: Any) -> Any:
    """Returns the opposite of truth values, and integers with all bits turned."""
    if is_bool(x):
        return computed("LogicalNot", np.logical_not, [x])
    return computed("Invert", np.invert, [x])


def bitwise(name: str, x: Any, y: Any) -> Any:
    """Returns what "and", "or" or "xor" make of truth values, or of the bits of integers."""
    logical, on_bits = _BITWISE[name]
    graph = deferred_graph([x, y])
    if graph is None:
        return logical(x, y, None) if is_bool(x, y) else on_bits(x, y)
    with graph.name_scope(name) as scope:
        if is_bool(x, y):
            return logical(x, y, scope)
        if not is_deferred(x):
            x = constant_op(graph, constant_array(x, as_dtype(y.dtype), name), "x")
        return on_bits(x, y)


def _logical_and(x: Any, y: Any, name: str | None) -> Any:
    return computed("LogicalAnd", np.logical_and, [x, y], name=name)


def _logical_or(x: Any, y: Any, name: str | None) -> Any:
    return computed("LogicalOr", np.logical_or, [x, y], name=name)


_BITWISE: Final[Mapping[str, tuple[Callable[[Any, Any, str | None], Any], Callable[[Any, Any], Any]]]] = {
    "and": (_logical_and, lambda x, y: computed("BitwiseAnd", np.bitwise_and, [x, y])),
    "or": (_logical_or, lambda x, y: computed("BitwiseOr", np.bitwise_or, [x, y])),
    "xor": (either_but_not_both, lambda x, y: computed("BitwiseXor", np.bitwise_xor, [x, y])),
}


def matrix_product(
    a: Any,
    b: Any,
    name: str | None = None,
    *,
    turn_a: bool = False,
    turn_b: bool = False,
    conjugate_a: bool = False,
    conjugate_b: bool = False,
) -> Any:
    """Returns the product of each two matrices in the last two dimensions, which may be turned or conjugated first."""

    def product(a: Array, b: Array) -> Any:
        if a.ndim < 2 or b.ndim < 2:
            raise ValueError(f"matrices have two dimensions or more, not {a.ndim} and {b.ndim}")
        a, b = (np.conj(a) if conjugate_a else a), (np.conj(b) if conjugate_b else b)
        return np.matmul(np.swapaxes(a, -1, -2) if turn_a else a, np.swapaxes(b, -1, -2) if turn_b else b)

    is_batch = any(_ndims(each) not in (1, 2) for each in (a, b))
    names = ("adj_x", "adj_y") if is_batch else ("transpose_a", "transpose_b")
    attributes = dict(zip(names, (turn_a, turn_b), strict=True))
    return computed(
        "BatchMatMulV2" if is_batch else "MatMul", product, [a, b], name=name or "MatMul", attributes=attributes
    )


def _ndims(value: Any) -> int | None:
    """Returns the number of dimensions of a value, None if it is not known."""
    if isinstance(value, list | tuple):
        inner = [_ndims(each) for each in value]
        return None if not inner or inner[0] is None else inner[0] + 1
    return TensorShape(value.shape).ndims if is_deferred(value) else np.ndim(value)
