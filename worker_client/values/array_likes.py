"""What users hold as arrays, made NumPy arrays of plain elements, or refused with what to do instead.

Every value, index and initial value comes through ``array_of``, so that all places take the same things. What is taken
means the same as to the library that it comes from; where NumPy would drop something in silence (a mask, what says that
an element is missing, the elements of a sparse matrix, the order of a set), the value is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from ps_protocol.dtype_traits import DTypeCategory, dtype_category, dtype_name, integer_limits, is_ml_dtype
from ps_protocol.errors import (
    DTypeMismatchError,
    ShapeMismatchError,
    ShardscopeError,
    ValueRangeError,
)
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import Array, VariableSpec
from worker_client.values.torch_tensors import is_tensor, tensor_array, tensor_defect

_ELEMENT_KINDS: Final = frozenset("biufcSU")
_TEXT: Final = (str, bytes)
_NUMBERS: Final = (int, float, complex, np.number, np.bool_)
_PLAIN: Final = (*_NUMBERS, *_TEXT, np.generic)
_FLOATS: Final = {float}
_INTEGERS: Final = {int}
_MAX_DEPTH: Final = 64  # of NumPy's arrays


def array_of(
    value: object, owner: VariableSpec | str, *, what: str = "the value", dtype: np.dtype[Any] | None = None
) -> Array:
    """Returns a value as an array of numbers, truth values or text; the same array if it is one already.

    Args:
        value: What the user gave.
        owner: The variable that it is meant for, or what else errors should name.
        what: What errors should call the value.
        dtype: What the elements will be converted to; it decides for integers that no int64 can hold.

    Returns:
        An array of any shape, in any byte order and layout, perhaps read-only, perhaps the user's own memory. Text that
        an array holds as Python objects is left so.

    Raises:
        DTypeMismatchError: It is no array, or its elements are nothing that a variable can hold.
        ShapeMismatchError: Its rows differ in length.
        ValueRangeError: An integer is out of the range of ``dtype``.
    """
    if type(value) is np.ndarray and value.dtype.kind in _ELEMENT_KINDS:
        return value
    if type(value) is float:
        return np.asarray(value)
    return _Conversion(owner, what, dtype).array(value)


def out_of_range(owner: VariableSpec | str, what: str, dtype: np.dtype[Any], element: object) -> ValueRangeError:
    """Returns the error for an element that a dtype cannot hold."""
    holder = f"{named(owner)} holds {dtype.name}," if _is_of(owner, dtype) else f"{named(owner)}:"
    return ValueRangeError(
        f"{holder} {what} is out of its range: {element} is out of the range of {dtype.name}",
        variable=variable_name(owner),
    )


def _is_of(owner: VariableSpec | str, dtype: np.dtype[Any]) -> bool:
    return isinstance(owner, VariableSpec) and owner.dtype == dtype


def named(owner: VariableSpec | str) -> str:
    """Returns how an error calls what a value is for."""
    if isinstance(owner, str):
        return owner
    return f"variable {owner.name}" if owner.name else f"a value of {owner.dtype.name}{list(owner.shape)}"


def variable_name(owner: VariableSpec | str) -> str:
    """Returns the full name of the variable that a value is for, or "" if it is for none."""
    return owner.name if isinstance(owner, VariableSpec) else ""


def is_masked(value: object) -> bool:
    """Whether an array has a mask, which plain NumPy functions drop. Does not import what is there if it has."""
    return isinstance(value, np.ndarray) and hasattr(value, "mask")


class _Conversion:
    """One value on its way; the arguments are those of ``array_of``."""

    __slots__ = ("_dtype", "_owner", "_what")

    def __init__(self, owner: VariableSpec | str, what: str, dtype: np.dtype[Any] | None):
        self._owner = owner
        self._what = what
        self._dtype = dtype

    def array(self, value: Any) -> Array:
        array = value if type(value) is np.ndarray else self._made(value)
        return array if array.dtype.kind in _ELEMENT_KINDS else self._elements(array)

    def _made(self, value: Any) -> Array:
        if isinstance(value, _PLAIN):
            return np.asarray(value)
        if isinstance(value, list | tuple):
            return self._of_sequence(value)
        if is_masked(value):
            raise self._masked()
        if is_tensor(value):
            return self._of_tensor(value)
        if any(hasattr(value, protocol) for protocol in ("__array__", "__array_interface__", "__array_struct__")):
            return self._of_library(value)
        if hasattr(value, "__dlpack__"):
            return np.asarray(self._asked(np.from_dlpack, value))
        if _has_buffer(value):
            return np.asarray(self._asked(np.asarray, value))
        if isinstance(value, Sequence):
            return self._of_sequence(tuple(value))
        raise self._no_array(value)

    def _of_tensor(self, value: Any) -> Array:
        defect: tuple[str, str] | None = self._asked(tensor_defect, value)
        if defect is not None:
            raise self._refused(*defect)
        array: Array = self._asked(tensor_array, value)
        return array

    def _of_library(self, value: Any) -> Array:
        """Has an object of another library make an array of itself, unless that would drop what is missing in it."""
        if self._asked(_has_gaps, value):
            raise self._refused("has missing elements", "fill them first, or take them for NaN with value.to_numpy()")
        array = self._asked(np.asanyarray, value)
        if is_masked(array):
            raise self._masked()
        return np.asarray(array)

    def _asked(self, make: Any, value: Any) -> Any:
        """Asks an object of another library, which may refuse."""
        try:
            return make(value)
        except ShardscopeError:
            raise
        except Exception as error:
            raise_interrupt(error)
            raise self._refused(
                f"is a {_type_name(value)} that makes no array of itself ({_one_line(error)})",
                "make a NumPy array of it first",
            ) from error

    # -- lists --------------------------------------------------------------------------------

    def _of_sequence(self, value: Sequence[Any]) -> Array:
        found = set(map(type, value))
        if found in (_FLOATS, _INTEGERS):
            array = np.asarray(value)
            if found == _FLOATS or array.dtype.kind == "i":
                return array
        kinds: set[type] = set()
        plain = self._plain(value, kinds, 1)
        numbers = [kind for kind in kinds if issubclass(kind, _NUMBERS)]
        if numbers and any(issubclass(kind, _TEXT) for kind in kinds):
            raise self._refused("has text and numbers side by side")
        try:
            array = np.asarray(plain)
        except ValueError as error:
            raise_interrupt(error)
            raise ShapeMismatchError(
                f"{named(self._owner)}: {self._what} is a list whose rows differ in length; give all the same length",
                variable=variable_name(self._owner),
            ) from error
        if array.dtype.kind in "fO" and numbers and all(issubclass(kind, int | np.integer) for kind in numbers):
            return array if array.dtype.kind == "f" and _has_floats(plain) else self._integers(plain)
        if array.dtype.kind == "O" and numbers:  # an integer among the floats that is beyond all integer dtypes
            return self._floats(plain)
        return array

    def _plain(self, value: Sequence[Any], kinds: set[type], depth: int) -> Sequence[Any]:
        """Returns a list with arrays instead of what is neither plain nor a list; collects the types of the others."""
        found = set(map(type, value))
        strange = [kind for kind in found if not issubclass(kind, _PLAIN)]
        kinds.update(found.difference(strange))
        if not strange:
            return value
        if depth > _MAX_DEPTH:
            raise self._refused(f"is a list of more than {_MAX_DEPTH} dimensions")
        return [
            each
            if isinstance(each, _PLAIN)
            else self._plain(each, kinds, depth + 1)
            if isinstance(each, list | tuple)
            else self.array(each)
            for each in value
        ]

    def _integers(self, value: Any) -> Array:
        """Returns Python's integers, some of which are beyond int64."""
        objects: Array = np.asarray(value, object)
        elements = list(map(int, objects.flat))
        dtype = self._dtype
        if dtype is None:
            dtype = np.dtype(np.uint64 if min(elements, default=0) >= 0 else np.int64)
        elif dtype_category(dtype) is not DTypeCategory.INTEGER:
            return self._floats(value)
        least, greatest = integer_limits(dtype)
        for each in elements:
            if not least <= each <= greatest:
                raise out_of_range(self._owner, self._what, dtype, each)
        return np.array(elements, dtype).reshape(objects.shape)

    def _floats(self, value: Any) -> Array:
        try:
            return np.asarray(value, np.float64)
        except OverflowError as error:
            raise_interrupt(error)
            raise out_of_range(self._owner, self._what, np.dtype(np.float64), "an integer") from error
        except (TypeError, ValueError) as error:  # complex numbers beside it
            raise_interrupt(error)
            raise self._refused(f"has integers beyond all dtypes ({_one_line(error)})") from error

    # -- elements -----------------------------------------------------------------------------

    def _elements(self, array: Array) -> Array:
        """Returns an array of elements that are not NumPy's own numbers or text, if they mean some."""
        if is_ml_dtype(array.dtype):
            return array
        if array.dtype.names == ("float0",):
            raise self._refused(
                "holds float0, JAX's gradients with respect to integers", "leave out what JAX does not differentiate"
            )
        if array.dtype.names is not None:
            raise self._refused("is a structured array", f"take one of its fields: {', '.join(array.dtype.names)}")
        if array.dtype.kind in "mM":
            raise self._refused(
                f"holds times ({array.dtype})", "convert them to numbers, as with value.astype('int64')"
            )
        if array.dtype.kind != "O":
            raise self._refused(f"holds {array.dtype}, which is neither numbers, nor truth values, nor text")
        kinds = set(map(type, array.flat))
        if all(issubclass(kind, _TEXT) for kind in kinds):
            return array
        wrong = next((kind for kind in kinds if not issubclass(kind, _PLAIN)), None)
        if wrong is not None:
            raise self._refused(
                f"holds Python objects ({wrong.__name__})", "make an array of numbers of it first, without gaps"
            )
        return self._of_sequence([array.item()]).reshape(()) if not array.ndim else self._of_sequence(array.tolist())

    # -- what is refused ----------------------------------------------------------------------

    def _masked(self) -> DTypeMismatchError:
        return self._refused("is masked", "fill it first, as with value.filled(0)")

    def _no_array(self, value: Any) -> DTypeMismatchError:
        if value is None:
            return self._refused("is None")
        for method in ("toarray", "todense"):  # of SciPy, and of JAX
            if hasattr(value, method):
                return self._refused(
                    f"is a sparse {_type_name(value)}", f"use value.{method}(), or IndexedSlices for rows"
                )
        if hasattr(value, "__cuda_array_interface__"):
            return self._refused(f"is a {_type_name(value)} on a GPU", "copy it to the host first")
        if isinstance(value, Mapping):
            return self._refused("is a dictionary", "give an array of what is in it")
        return self._refused(f"is a {_type_name(value)}, of which NumPy makes no array", "give an array or a list")

    def _refused(self, reason: str, remedy: str = "give an array of numbers") -> DTypeMismatchError:
        needed = "" if self._dtype is None else f", needed is {dtype_name(self._dtype)}"
        return DTypeMismatchError(
            f"{named(self._owner)}: {self._what} {reason}{needed}; {remedy}", variable=variable_name(self._owner)
        )


def _has_buffer(value: Any) -> bool:
    try:
        memoryview(value).release()
    except TypeError as error:
        raise_interrupt(error)
        return False
    except (ValueError, BufferError) as error:  # it has one that it does not give, which will be said
        raise_interrupt(error)
        return True
    return True


def _has_gaps(value: Any) -> bool:
    """Whether elements are missing in what pandas, Arrow or Polars holds, of which NumPy's form of it may make NaN."""
    if hasattr(value, "null_count"):  # Arrow and Polars
        count = value.null_count
        return bool(np.any(np.asarray(count() if callable(count) else count)))
    if hasattr(value, "itercolumns"):  # a table of Arrow's
        return any(map(_has_gaps, value.itercolumns()))
    if not hasattr(value, "isna"):
        return False
    dtypes = list(value.dtypes) if getattr(value, "ndim", 1) == 2 else [value.dtype]
    # Where NaN itself stands for what is missing, it stays what it is.
    nullable = [not isinstance(getattr(dtype, "na_value", math.nan), float) for dtype in dtypes]
    return any(nullable) and bool(np.asarray(value.isna()).reshape(-1, len(dtypes))[:, nullable].any())


def _has_floats(value: Any) -> bool:
    """Whether some of the arrays in a list are of floats; its own elements are integers."""
    if isinstance(value, np.ndarray):
        return bool(value.dtype.kind == "f")
    return isinstance(value, list | tuple) and any(map(_has_floats, value))


def _type_name(value: object) -> str:
    return type(value).__name__


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
