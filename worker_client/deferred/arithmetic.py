"""Arithmetic, NumPy functions and indexing of deferred tensors and variables: each makes an operation of the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred import elementwise
from worker_client.deferred.building import constant_op
from worker_client.deferred.call import deferred_call, is_deferred
from worker_client.deferred.computed import computed
from worker_client.deferred.indexing import item
from worker_client.deferred.operands import of_one_dtype
from worker_client.graph.operation import Tensor
from worker_client.op_definitions.static_values import known_sizes
from worker_client.values.conversion import IndexedSlices
from worker_client.values.dtypes import as_dtype
from worker_client.values.shapes import TensorShape


def _of_type(op_type: str, function: Callable[..., Any], name: str | None = None) -> Callable[..., Any]:
    return lambda *values: computed(op_type, function, values, name=name)


_OPERATORS: Final[Mapping[np.ufunc, Callable[..., Any]]] = {
    np.add: partial(elementwise.added, name="add"),
    np.subtract: _of_type("Sub", np.subtract, "sub"),
    np.multiply: partial(elementwise.multiplied, name="mul"),
    np.true_divide: elementwise.divided,
    np.floor_divide: _of_type("FloorDiv", elementwise.rounded_down, "floordiv"),
    np.remainder: _of_type("FloorMod", np.remainder, "mod"),
    np.power: _of_type("Pow", np.power, "pow"),
    np.matmul: partial(elementwise.matrix_product, name="matmul"),
    np.negative: _of_type("Neg", np.negative),
    np.absolute: elementwise.absolute,
    np.less: _of_type("Less", np.less),
    np.less_equal: _of_type("LessEqual", np.less_equal),
    np.greater: _of_type("Greater", np.greater),
    np.greater_equal: _of_type("GreaterEqual", np.greater_equal),
    np.bitwise_and: partial(elementwise.bitwise, "and"),
    np.bitwise_or: partial(elementwise.bitwise, "or"),
    np.bitwise_xor: partial(elementwise.bitwise, "xor"),
    np.invert: elementwise.inverted,
}
"""What Python's operators make, by the ufunc that NumPy calls for them."""


class DeferredArithmetic:
    """What ``DeferredArray`` does, done by adding operations to the graph."""

    def ufunc(self, ufunc: np.ufunc, method: str, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> Tensor:
        if "out" in keywords or method == "at":
            raise TypeError(f"a deferred tensor cannot be changed in place by {ufunc.__name__}; assign to a variable")
        operator = _OPERATORS.get(ufunc)
        if operator is not None and method == "__call__" and not keywords:
            result: Tensor = operator(*inputs)
            return result
        if method in ("__call__", "outer") and _wants_one_dtype(ufunc):
            inputs = of_one_dtype(ufunc.__name__, inputs)
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        return deferred_call(function, inputs, keywords, op_type=ufunc.__name__)

    def function(self, function: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        if function is np.result_type:  # known without a session; JAX asks before it wants the value
            return np.result_type(*[as_dtype(each.dtype) if is_deferred(each) else each for each in arguments])
        return deferred_call(function, arguments, keywords, op_type=function.__name__)

    def sizes(self, tensor: Tensor) -> TensorShape:
        return known_sizes(tensor)

    def dense(self, slices: IndexedSlices) -> Tensor:
        """Rows with the same index are summed, as TensorFlow does.

        Raises:
            ValueError: The shape of the whole is not given.
        """
        if slices.dense_shape is None:
            raise ValueError(f"{slices.name}: IndexedSlices without dense_shape cannot become a tensor; give it")
        sizes: Any = slices.dense_shape
        if not is_deferred(sizes):
            sizes = constant_op(slices.graph, np.array(sizes), "Const")
        total: Tensor = computed("UnsortedSegmentSum", _summed_rows, [slices.values, slices.indices, sizes[0]])
        return total

    def item(self, tensor: Tensor, key: Any) -> Tensor:
        return item(tensor, key)


def _summed_rows(rows: Array, indices: Array, number: Array) -> Array:
    total = np.zeros((int(number), *rows.shape[indices.ndim :]), rows.dtype)
    np.add.at(total, indices[indices >= 0], rows[indices >= 0])
    return total


def _wants_one_dtype(ufunc: np.ufunc) -> bool:
    """Whether a ufunc takes several operands and is meant for operands of one dtype, as ``ldexp`` is not."""
    return ufunc.nin > 1 and any(len(set(loop.partition("->")[0])) == 1 for loop in ufunc.types)
