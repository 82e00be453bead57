"""Arithmetic for lazy tensors and variables, through NumPy's own protocols.

``__array_ufunc__`` and ``__array_function__`` see every NumPy function that is applied to one of them; the operators of
Python are NumPy's ufuncs. None is written by hand, so what NumPy can do with arrays, a graph can do later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from worker_client.deferred_value import DeferredValue

if TYPE_CHECKING:
    from worker_client.operation import Tensor

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


class LazyArray(DeferredValue, NDArrayOperatorsMixin):
    """Makes operations instead of computing. ``==`` compares identity, as in TensorFlow 1, so that it can be a key."""

    __slots__ = ()

    def as_graph_tensor(self) -> Tensor:
        """Returns the tensor that it stands for in arithmetic."""
        raise NotImplementedError

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from worker_client.lazy_call import lazy_call  # which makes tensors, of this very class
        from worker_client.operands import of_one_dtype

        if "out" in kwargs or method == "at":
            raise TypeError(f"a lazy tensor cannot be changed in place by {ufunc.__name__}; assign to a variable")
        name = _OPERATOR_NAMES.get(ufunc.__name__, ufunc.__name__)
        if method in ("__call__", "outer") and _wants_one_dtype(ufunc):
            inputs = tuple(of_one_dtype(name, inputs))
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        return lazy_call(function, inputs, kwargs, op_type=name)

    def __array_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        from worker_client.lazy_call import lazy_call

        return lazy_call(func, args, kwargs, op_type=func.__name__)

    def __getitem__(self, key: Any) -> Tensor:
        from worker_client.indexing import item

        return item(self.as_graph_tensor(), key)

    # ``x += 1`` makes a new tensor and lets the name ``x`` stand for it, as in TensorFlow: nothing is changed in place.
    __iadd__ = NDArrayOperatorsMixin.__add__
    __isub__ = NDArrayOperatorsMixin.__sub__
    __imul__ = NDArrayOperatorsMixin.__mul__
    __itruediv__ = NDArrayOperatorsMixin.__truediv__
    __ifloordiv__ = NDArrayOperatorsMixin.__floordiv__
    __imod__ = NDArrayOperatorsMixin.__mod__
    __ipow__ = NDArrayOperatorsMixin.__pow__
    __imatmul__ = NDArrayOperatorsMixin.__matmul__
    __iand__ = NDArrayOperatorsMixin.__and__
    __ior__ = NDArrayOperatorsMixin.__or__
    __ixor__ = NDArrayOperatorsMixin.__xor__

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise TypeError(f"{self!r} has no value before a session runs it; use Session.run or eval()")

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} has no truth value before a session runs it; use Session.run or eval()")

    __iter__ = None

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)


def _wants_one_dtype(ufunc: np.ufunc) -> bool:
    """Whether a ufunc takes several operands and is meant for operands of one dtype, as ``ldexp`` is not."""
    return ufunc.nin > 1 and any(len(set(loop.partition("->")[0])) == 1 for loop in ufunc.types)
