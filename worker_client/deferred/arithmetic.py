"""Arithmetic, NumPy functions and indexing of deferred tensors and variables: each makes an operation of the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from worker_client.deferred.call import deferred_call
from worker_client.deferred.indexing import item
from worker_client.deferred.operands import of_one_dtype
from worker_client.graph.operation import Tensor

_OPERATOR_NAMES: Final = {
    "subtract": "sub",
    "multiply": "mul",
    "true_divide": "truediv",
    "divide": "truediv",
    "floor_divide": "floordiv",
    "remainder": "mod",
    "power": "pow",
    "negative": "Neg",
    "absolute": "Abs",
    "less": "Less",
    "less_equal": "LessEqual",
    "greater": "Greater",
    "greater_equal": "GreaterEqual",
    "logical_and": "and",
    "logical_or": "or",
    "matmul": "matmul",
}
"""TensorFlow's names of the operations that Python's operators make, where they are not NumPy's."""


class DeferredArithmetic:
    """What ``DeferredArray`` does, done by adding operations to the graph."""

    def ufunc(self, ufunc: np.ufunc, method: str, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> Tensor:
        if "out" in keywords or method == "at":
            raise TypeError(f"a deferred tensor cannot be changed in place by {ufunc.__name__}; assign to a variable")
        name = _OPERATOR_NAMES.get(ufunc.__name__, ufunc.__name__)
        if method in ("__call__", "outer") and _wants_one_dtype(ufunc):
            inputs = of_one_dtype(name, inputs)
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        return deferred_call(function, inputs, keywords, op_type=name)

    def function(self, function: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Tensor:
        return deferred_call(function, arguments, keywords, op_type=function.__name__)

    def item(self, tensor: Tensor, key: Any) -> Tensor:
        return item(tensor, key)


def _wants_one_dtype(ufunc: np.ufunc) -> bool:
    """Whether a ufunc takes several operands and is meant for operands of one dtype, as ``ldexp`` is not."""
    return ufunc.nin > 1 and any(len(set(loop.partition("->")[0])) == 1 for loop in ufunc.types)
