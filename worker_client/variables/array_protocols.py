"""How a variable that acts at once stands for its value, wherever Python or NumPy expects an array or a number.

Each use reads the value, once, and what comes of it is the reader's own. Nothing can be changed through it: whatever
would change the value in place says what to use instead.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt
from numpy.lib.mixins import NDArrayOperatorsMixin

from ps_protocol.operations import Array, VariableSpec
from worker_client.values.dlpack import dlpack_capsule, has_dlpack
from worker_client.values.torch_tensors import is_tensor


class ActsAsArray(NDArrayOperatorsMixin):
    """The protocols of Python and NumPy for an array that is read when it is used.

    ``==`` and ``!=`` compare identity, as in TensorFlow 1, so that variables can be keys; ``np.equal`` compares values.
    """

    @property
    def whole_spec(self) -> VariableSpec:
        """Name, dtype and shape of the value."""
        raise NotImplementedError

    def read_value(self) -> Array:
        """Returns the value, a new array."""
        raise NotImplementedError

    # -- what is known without reading --------------------------------------------------------

    @property
    def ndim(self) -> int:
        """Number of dimensions of the value."""
        return len(self.whole_spec.shape)

    @property
    def size(self) -> int:
        """Number of elements of the value."""
        return math.prod(self.whole_spec.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.whole_spec.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the value."""
        return self.whole_spec.size_bytes

    # -- as an array --------------------------------------------------------------------------

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError(f"{self.whole_spec.name} lives on a ps: an array of it is always a copy")
        value = self.read_value()
        return value if dtype is None else value.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        changed = kwargs.get("out", ()) if method != "at" else inputs[:1]
        for each in changed:
            if isinstance(each, ActsAsArray):
                each._cannot_change(f"by {ufunc.__name__}")
        arrays = [each.read_value() if isinstance(each, ActsAsArray) else each for each in inputs]
        return getattr(ufunc, method)(*arrays, **kwargs)

    def __dlpack__(self, *, copy: bool | None = None, **options: Any) -> Any:
        if copy is False:
            raise BufferError(f"{self.whole_spec.name} lives on a ps: a tensor of it is always a copy")
        if not has_dlpack(self.whole_spec.dtype):
            raise BufferError(
                f"variable {self.whole_spec.name} holds {self.whole_spec.dtype.name}, of which there are no DLPack "
                f"tensors; take its numpy(), as another dtype where it holds numbers: .numpy().astype('float32')"
            )
        return dlpack_capsule(self.read_value(), **options)  # its own memory already

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0  # the memory of the CPU

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls a function of torch with tensors of the values; they are constants to autograd."""
        del types
        given = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        in_place = name.endswith("_") and not name.endswith("__")
        for each in (given.get("out"), args[0] if in_place and args else None):
            if isinstance(each, ActsAsArray):
                each._cannot_change(f"by torch's {name}")
        return function(*_as_tensors(args), **_as_tensors(given))

    def __jax_array__(self) -> Any:
        return sys.modules["jax"].numpy.asarray(self.read_value())  # JAX has asked

    @property
    def T(self) -> Array:  # noqa: N802 - NumPy's name
        """The value with its dimensions in the reverse order, read now."""
        return self.read_value().T

    def tolist(self) -> Any:
        """Returns the value as nested lists of Python's numbers; of a scalar, the number."""
        return self.read_value().tolist()

    def item(self, *index: Any) -> Any:
        """Returns an element as a Python number: the only one, or the one at an index, as of a NumPy array."""
        return self.read_value().item(*index)

    def __getitem__(self, key: Any) -> Any:
        return self.read_value()[key]

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        self._cannot_change("by an assignment to elements")

    def __delitem__(self, key: Any) -> NoReturn:
        self._cannot_change("by leaving elements out")

    def __bytes__(self) -> bytes:
        return self.read_value().tobytes()

    def __len__(self) -> int:
        self._check_has_rows("len()")
        return self.whole_spec.shape[0]

    def __iter__(self) -> Iterator[Any]:
        self._check_has_rows("rows to iterate over")
        return iter(self.read_value())

    def __reversed__(self) -> Iterator[Any]:
        self._check_has_rows("rows to iterate over")
        return iter(self.read_value()[::-1])

    def __contains__(self, element: Any) -> bool:
        return element in self.read_value()

    # -- as a number --------------------------------------------------------------------------

    def __bool__(self) -> bool:
        return bool(
            self._only_element("has no truth value of its own; use np.any, np.all or `is not None`", ValueError)
        )

    def __int__(self) -> int:
        return int(self._number())

    def __float__(self) -> float:
        return float(self._number())

    def __complex__(self) -> complex:
        return complex(self._number())

    def __index__(self) -> int:
        if self.whole_spec.shape or self.whole_spec.dtype.kind not in "iu":
            raise TypeError(f"{self._described()} is no index: only a scalar of integers can be one")
        return int(self.read_value())

    def __round__(self, digits: int | None = None) -> Any:
        if self.whole_spec.shape:
            return np.round(self.read_value(), digits or 0)
        return round(self._number(), digits)

    def __format__(self, how: str) -> str:
        if not how:
            return str(self)
        return format(self._only_element(f"cannot be written as {how!r}; write its elements", TypeError), how)

    # -- as a key -----------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)

    # -- what is refused ----------------------------------------------------------------------

    def _number(self) -> Any:
        return self._only_element("is no number", TypeError)

    def _only_element(self, otherwise: str, error: type[Exception]) -> Any:
        """Returns the element of a value that has only one, as a Python number."""
        if self.size != 1:
            raise error(f"{self._described()} {otherwise}")
        return self.read_value().item()

    def _check_has_rows(self, what: str) -> None:
        if not self.whole_spec.shape:
            raise TypeError(f"{self.whole_spec.name} is a scalar and has no {what}")

    def _cannot_change(self, how: str) -> NoReturn:
        raise TypeError(
            f"{self.whole_spec.name} lives on a ps and cannot be changed in place {how}; "
            f"use assign, assign_add or assign_sub, or scatter_update for rows"
        )

    def _described(self) -> str:
        return f"variable {self.whole_spec.name} of shape {list(self.whole_spec.shape)}"


_OPERATORS: Final = ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow")
_COMPARISONS: Final = ("lt", "le", "gt", "ge")


def _left_to_others(name: str) -> Callable[[ActsAsArray, Any], Any]:
    """Returns a method for an operator of Python's that is NumPy's ufunc, but leaves it to whom arrays leave it."""
    by_ufunc: Callable[[ActsAsArray, Any], Any] = getattr(NDArrayOperatorsMixin, name)
    is_reflected = name not in vars(operator)
    of_arrays = getattr(operator, name.replace("__r", "__") if is_reflected else name)

    def method(self: ActsAsArray, other: Any) -> Any:
        if not _has_operators_of_its_own(other):
            return by_ufunc(self, other)
        value = _as_tensors(self) if is_tensor(other) else self.read_value()
        return of_arrays(other, value) if is_reflected else of_arrays(value, other)

    method.__name__ = name
    return method


def _has_operators_of_its_own(other: object) -> bool:
    """Whether operators mean something else than ufuncs beside it.

    Those are NumPy's matrices, SciPy's sparse arrays, and the arrays of torch and JAX, which know of gradients.
    """
    return isinstance(other, np.matrix) or (
        hasattr(other, "__array_priority__") and (hasattr(other, "toarray") or is_tensor(other) or _is_jax_array(other))
    )


def _is_jax_array(value: object) -> bool:
    kind = getattr(sys.modules.get("jax"), "Array", None)
    return kind is not None and isinstance(value, kind)


def _as_tensors(given: Any) -> Any:
    """Returns what a function of torch is given with tensors in place of variables."""
    if isinstance(given, ActsAsArray):
        return sys.modules["torch"].as_tensor(given)
    if type(given) in (list, tuple):
        return type(given)([_as_tensors(each) for each in given])
    if type(given) is dict:
        return {name: _as_tensors(each) for name, each in given.items()}
    return given


for _name in (*_OPERATORS, *(f"r{each}" for each in _OPERATORS), *_COMPARISONS):
    setattr(ActsAsArray, f"__{_name}__", _left_to_others(f"__{_name}__"))


def _array_member(self: ActsAsArray, name: str) -> NoReturn:
    """Says of a member of NumPy's arrays how to use it, of any other that there is none."""
    if hasattr(np.ndarray, name) and not name.startswith("_"):
        raise AttributeError(
            f"variable {self.whole_spec.name} has no {name!r} of its own, since it lives on a ps; read it first, as "
            f"numpy().{name}",
            name=name,
            obj=self,
        )
    if hasattr(getattr(sys.modules.get("torch"), "Tensor", None), name) and not name.startswith("_"):
        raise AttributeError(
            f"variable {self.whole_spec.name} has no {name!r}, since it is no tensor of torch; make one of it first, "
            f"as torch.as_tensor(variable).{name}",
            name=name,
            obj=self,
        )
    raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)


# Not in the class, where type checkers would take every name for a member of it.
ActsAsArray.__getattr__ = _array_member  # type: ignore[attr-defined]
