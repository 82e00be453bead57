"""Arithmetic, NumPy functions and indexing of deferred tensors and variables: each makes an operation of the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from worker_client.deferred.call import deferred_call
from worker_client.deferred.operands import of_one_dtype
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.values.shapes import TensorShape

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
        output = _item_spec(tensor, key)
        return deferred_call(_item, [tensor, key], op_type="strided_slice", output=output, is_view=True)


def _wants_one_dtype(ufunc: np.ufunc) -> bool:
    """Whether a ufunc takes several operands and is meant for operands of one dtype, as ``ldexp`` is not."""
    return ufunc.nin > 1 and any(len(set(loop.partition("->")[0])) == 1 for loop in ufunc.types)


def _item(array: Any, key: Any) -> Any:
    return array[key]


def _item_spec(tensor: Tensor, key: Any) -> OutputSpec | None:
    """Returns what is known about an element or slice of a tensor of which not all sizes are; None to find it out."""
    shape = tensor.shape
    keys = key if type(key) is tuple else (key,)
    if shape.ndims is None or shape.is_fully_defined() or not all(_is_basic(each) for each in keys):
        return None
    missing = shape.ndims - sum(each is not None and each is not Ellipsis for each in keys)
    keys = keys if Ellipsis in keys else (*keys, Ellipsis)
    at = keys.index(Ellipsis)
    sizes: list[int | None] = []
    unread = iter(shape)
    for each in [*keys[:at], *[slice(None)] * missing, *keys[at + 1 :]]:
        size = 1 if each is None else next(unread, None)
        if isinstance(each, slice) and size is not None:
            size = len(range(*each.indices(size)))
        if each is None or isinstance(each, slice):
            sizes.append(size)
    return OutputSpec(tensor.dtype, TensorShape(sizes)) if missing >= 0 and keys.count(Ellipsis) == 1 else None


def _is_basic(key: Any) -> bool:
    """Whether a part of an index is a number, or a slice of numbers, so that no tensor nor array is in it."""
    if isinstance(key, slice):
        return all(bound is None or isinstance(bound, int | np.integer) for bound in (key.start, key.stop, key.step))
    return key is None or key is Ellipsis or (isinstance(key, int | np.integer) and not isinstance(key, bool))
