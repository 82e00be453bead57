"""Arithmetic for deferred tensors and variables, through NumPy's own protocols.

``__array_ufunc__`` and ``__array_function__`` see every NumPy function that is applied to one of them; Python's
operators are NumPy's ufuncs. So a graph can do later what NumPy can do with arrays. ``deferred.arithmetic`` makes the
operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn, Protocol

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from ps_protocol.not_copied import NotCopied
from worker_client.values.conversion import IndexedSlices
from worker_client.values.shapes import TensorShape


class Reference:
    """Stands for a tensor or a variable as a key of dictionaries: equal to another if both stand for the same one."""

    __slots__ = ("_referent",)

    def __init__(self, referent: Any):
        self._referent = referent

    def deref(self) -> Any:
        """Returns what it stands for."""
        return self._referent

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and other._referent is self._referent

    def __hash__(self) -> int:
        return id(self._referent)

    def __repr__(self) -> str:
        return f"<Reference to {self._referent!r}>"


class DeferredValue:
    """What stands for a tensor, whose value is known only when a session runs it: tensors and deferred variables."""

    __slots__ = ()

    def as_graph_tensor(self) -> Any:
        """Returns the tensor that it stands for, of type ``Tensor``."""
        raise NotImplementedError


class Arithmetic(Protocol):
    """Makes operations for what is done with deferred arrays, and returns their outputs."""

    def ufunc(self, ufunc: np.ufunc, method: str, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """For a call of a ufunc, or of one of its methods."""
        ...

    def function(self, function: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """For a call of any other function of NumPy."""
        ...

    def sizes(self, tensor: Any) -> TensorShape:
        """Returns what is known of the shape that a tensor of sizes stands for."""
        ...

    def dense(self, slices: IndexedSlices) -> Any:
        """For rows of deferred tensors where a whole tensor is wanted."""
        ...

    def item(self, tensor: Any, key: Any) -> Any:
        """For an element or slice of a tensor."""
        ...


class DeferredArray(
    DeferredValue,
    NDArrayOperatorsMixin,
    NotCopied,
    bound_to="a graph of this process",
    instead="build the graph in the other process, or pass on the value that session.run() returns",
):
    """Makes operations instead of computing. ``==`` compares identity, as in TensorFlow 1, so that it can be a key.

    Attributes:
        arithmetic: Makes the operations; one for all, given once, by a module that stands higher.
    """

    __slots__ = ()

    __pandas_priority__: ClassVar = 10_000  # pandas leaves ``series + tensor`` to the tensor
    arithmetic: ClassVar[Arithmetic]

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return self.arithmetic.ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        return self.arithmetic.function(func, args, kwargs)

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
        raise self._without("value")

    def __dlpack__(self, **options: Any) -> NoReturn:
        raise self._without("value")

    def __dlpack_device__(self) -> NoReturn:
        raise self._without("value")

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> NoReturn:
        """Refuses; an operator of Python's is left to this class then, which makes an operation."""
        raise TypeError(
            f"{getattr(function, '__name__', function)} of torch was given a tensor or a variable of a graph, which "
            f"has no value before a session runs it; use Session.run or eval()"
        )

    def __bool__(self) -> bool:
        raise self._without("truth value")

    def _without(self, what: str) -> TypeError:
        return TypeError(f"{self!r} has no {what} before a session runs it; use Session.run or eval()")

    __iter__ = None

    def ref(self) -> Reference:
        """Returns a key that stands for it. It can be a key itself as well."""
        return Reference(self)

    experimental_ref = ref

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    __hash__ = object.__hash__
