"""What users pass as values, turned into the arrays that an operation needs."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, final

import numpy as np
import numpy.typing as npt

from ps_protocol.dtype_traits import (
    DTypeCategory,
    dtype_category,
    dtype_name,
    float_limits,
    integer_limits,
    is_ml_dtype,
)
from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError
from ps_protocol.operations import Array, VariableSpec
from worker_client.values.array_likes import array_of, named, out_of_range
from worker_client.values.dtypes import DType
from worker_client.values.shapes import TensorShape

_INDEX_DTYPES: Final = (np.dtype(np.int32), np.dtype(np.int64))
_MAX_INDEX: Final = np.iinfo(np.int64).max


class IndexedSlicesValue(NamedTuple):
    """The value of ``IndexedSlices`` of tensors, as a session returns it.

    Attributes:
        values: The rows.
        indices: Row of each.
        dense_shape: Shape of the whole, None if it is not known.
    """

    values: Any
    indices: Any
    dense_shape: Any


@final
class IndexedSlices:
    """Rows of a tensor and where they belong: the sparse form of a delta.

    Args:
        values: Shape ``[len(indices), ...]``.
        indices: Row of each; rows may repeat.
        dense_shape: Shape of the whole, if known.
    """

    def __init__(self, values: npt.ArrayLike, indices: npt.ArrayLike, dense_shape: Sequence[int] | None = None):
        self.values = values
        self.indices = indices
        self.dense_shape = dense_shape

    @property
    def name(self) -> str:
        """That of the values, which are a deferred tensor."""
        return str(self._values.name)

    @property
    def op(self) -> Any:
        """The operation that makes the values, which are a deferred tensor."""
        return self._values.op

    @property
    def graph(self) -> Any:
        """The graph of the values, which are a deferred tensor."""
        return self._values.graph

    @property
    def device(self) -> str:
        """Where the values are, which are a deferred tensor."""
        return str(self._values.device)

    @property
    def dtype(self) -> DType:
        """Type of the elements."""
        return DType(getattr(self.values, "dtype", None) or np.asarray(self.values).dtype)

    @property
    def shape(self) -> TensorShape:
        """Shape of the whole, as far as it is known."""
        sizes: Any = self.dense_shape
        return sizes.as_shape() if hasattr(sizes, "as_shape") else TensorShape(sizes)

    def consumers(self) -> Any:
        """Returns the operations that have the values, a deferred tensor, among their inputs."""
        return self._values.consumers()

    def __neg__(self) -> IndexedSlices:
        return IndexedSlices(np.negative(self.values), self.indices, self.dense_shape)

    def __repr__(self) -> str:
        return f"IndexedSlices(indices={self.indices!r}, values={self.values!r}, dense_shape={self.dense_shape!r})"

    @property
    def _values(self) -> Any:
        return self.values


def keeps_kind(source: np.dtype[Any], target: np.dtype[Any]) -> bool:
    """Whether a conversion keeps the kind of number: integer to float, float64 to float32, but not float to integer."""
    try:
        kind, wanted = dtype_category(source), dtype_category(target)
    except InvalidArgumentError:  # Python objects, dates
        return False
    if DTypeCategory.BYTES in (kind, wanted):
        return kind is wanted and source.itemsize <= target.itemsize
    return kind <= wanted and (wanted is not DTypeCategory.BOOL or kind is wanted)


def convert(value: npt.ArrayLike, spec: VariableSpec, *, copy: bool = False) -> Array:
    """Returns ``value`` as an array of the variable's dtype, of any shape.

    Args:
        value: What the user gave.
        spec: The variable it is meant for.
        copy: Whether the array must be a new one even if ``value`` needs no conversion.

    Raises:
        DTypeMismatchError: It is no array, or the conversion would change the kind of number.
        ShapeMismatchError: It is a list whose rows differ in length.
        ValueRangeError: A number does not fit into the dtype.
    """
    if type(value) is np.ndarray and value.dtype == spec.dtype:
        return value.copy() if copy else value
    array = array_of(value, spec, dtype=spec.dtype)
    if array.dtype == spec.dtype:
        return array.copy() if copy else array
    return cast(array, spec)


def cast(array: Array, spec: VariableSpec, what: str = "the value") -> Array:
    """Returns a new array, in C order, of a variable's dtype.

    The kind of number stays, and so does each number but for rounding: what is beyond the range of the dtype is
    refused, whatever it comes from. An empty array has no kind.

    Args:
        array: What ``array_of`` returned.
        spec: The variable.
        what: What errors should call the value.

    Raises:
        DTypeMismatchError: The conversion would change the kind of number.
        ValueRangeError: A number does not fit into the dtype; a finite float would become infinite.
    """
    way = _way(array.dtype, spec.dtype)
    if way is _Way.NONE and array.size:
        convert_it = "encode it" if (array.dtype.kind, spec.dtype.kind) == ("U", "S") else "convert it"
        raise DTypeMismatchError(
            f"{named(spec)} holds {_described(spec.dtype)}, {what} is {_described(array.dtype)}; {convert_it} first if "
            f"that is meant",
            variable=spec.name,
        )
    if way is _Way.AMONG_INTEGERS:
        _check_integers(array, spec, what)
    elif way is _Way.MAY_OVERFLOW:
        return _cast_floats(array, spec, what)
    return array.astype(spec.dtype, order="C")


def _described(dtype: np.dtype[Any]) -> str:
    words = {"S": "bytes", "U": "str"}.get(dtype.kind)
    return dtype_name(dtype) if words is None else f"{words} of length {dtype_name(dtype)[1:]}"


class _Way(enum.Enum):
    """How elements of one dtype become those of another."""

    NONE = enum.auto()
    """They are of another kind."""
    SAFE = enum.auto()
    """No element is out of range."""
    AMONG_INTEGERS = enum.auto()
    MAY_OVERFLOW = enum.auto()
    """A finite number may become an infinite float."""


@lru_cache(maxsize=1024)
def _way(source: np.dtype[Any], target: np.dtype[Any]) -> _Way:
    if not keeps_kind(source, target):
        return _Way.NONE
    category = dtype_category(target)
    if np.can_cast(source, target, "safe") or category is DTypeCategory.BYTES:
        return _Way.SAFE
    if category is DTypeCategory.INTEGER:
        return _Way.SAFE if source.kind == "b" else _Way.AMONG_INTEGERS
    # All 64 bits of an integer are well within the range of a float32.
    return _Way.SAFE if source.kind in "biu" and target.itemsize >= 4 else _Way.MAY_OVERFLOW


def _check_integers(array: Array, spec: VariableSpec, what: str) -> None:
    if array.size:
        least, greatest = integer_limits(spec.dtype)
        for extreme in (int(array.min()), int(array.max())):
            if not least <= extreme <= greatest:
                raise out_of_range(spec, what, spec.dtype, extreme)


def _cast_floats(array: Array, spec: VariableSpec, what: str) -> Array:
    if not array.ndim and array.dtype.kind == "f" and abs(float(array)) <= float_limits(spec.dtype)[1]:
        return array.astype(spec.dtype)  # a scalar, for which the context below would take longer than all else
    try:
        with np.errstate(over="raise", invalid="ignore"):
            converted = array.astype(spec.dtype, order="C")
        if not is_ml_dtype(spec.dtype):  # of NumPy's own the processor would have said so
            return converted
    except FloatingPointError:
        with np.errstate(over="ignore", invalid="ignore"):
            converted = array.astype(spec.dtype, order="C")
    # A finite number may have become infinite; where the dtype has no infinity, NaN or its greatest number.
    is_lost = (np.isnan(converted) != np.isnan(array)) | (np.isinf(converted) != np.isinf(array))
    if _saturates(spec.dtype):
        is_lost |= np.abs(array) > float_limits(spec.dtype)[1]
    lost = np.asarray(array[is_lost])
    if lost.size:
        raise out_of_range(spec, what, spec.dtype, lost[0])
    return converted


@lru_cache(maxsize=64)
def _saturates(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype has neither infinity nor NaN, so that what is beyond its range becomes its greatest number."""
    return bool(np.isfinite(np.array(np.inf).astype(dtype)))


def row_indices(indices: npt.ArrayLike, spec: VariableSpec, *, copy: bool = False) -> Array:
    """Returns row indices as an int32 or int64 array, new if ``copy``. The ps checks their range.

    Raises:
        DTypeMismatchError: They are not integers.
        ValueRangeError: One of them is beyond int64.
    """
    if type(indices) is np.ndarray and indices.dtype in _INDEX_DTYPES:
        return indices.copy() if copy else indices
    rows = array_of(indices, spec, what="the index", dtype=_INDEX_DTYPES[-1])
    if rows.dtype in _INDEX_DTYPES:
        return rows.copy() if copy else rows
    if rows.dtype == np.uint64 and rows.size and rows.max() > _MAX_INDEX:
        raise out_of_range(spec, "the index", _INDEX_DTYPES[-1], rows.max())
    if rows.size == 0 or dtype_category(rows.dtype) is DTypeCategory.INTEGER:  # NumPy makes float64 of an empty list
        return rows.astype(np.int64)
    raise DTypeMismatchError(
        f"indices of variable {spec.name} are {rows.dtype.name}; integers are needed", variable=spec.name
    )
