"""What users pass as values, turned into the arrays that an operation needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from ps_protocol.dtype_traits import DTypeCategory, dtype_category, integer_limits
from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError
from ps_protocol.operations import Array, VariableSpec
from worker_client.values.array_likes import array_of, named, out_of_range

_INDEX_DTYPES: Final = (np.dtype(np.int32), np.dtype(np.int64))
_MAX_INDEX: Final = np.iinfo(np.int64).max


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
    target = spec.dtype
    if array.size and not keeps_kind(array.dtype, target):
        raise DTypeMismatchError(
            f"{named(spec)} holds {target.name}, {what} is {array.dtype.name}; convert it first if that is meant",
            variable=spec.name,
        )
    if np.can_cast(array.dtype, target, "safe") or not array.size:
        return array.astype(target, order="C")
    if dtype_category(target) is DTypeCategory.INTEGER:
        _check_integers(array, spec, what)
    elif array.dtype.kind in "biu" and target.itemsize >= 4:
        pass  # all 64 bits are well within its range
    else:
        return _cast_floats(array, spec, what)
    return array.astype(target, order="C")


def _check_integers(array: Array, spec: VariableSpec, what: str) -> None:
    if array.size and array.dtype.kind != "b":
        least, greatest = integer_limits(spec.dtype)
        for extreme in (int(array.min()), int(array.max())):
            if not least <= extreme <= greatest:
                raise out_of_range(spec, what, spec.dtype, extreme)


def _cast_floats(array: Array, spec: VariableSpec, what: str) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(spec.dtype, order="C")
    finite = np.isfinite(converted)
    if not finite.all():
        lost = np.asarray(array[~finite & np.isfinite(array)])
        if lost.size:
            raise out_of_range(spec, what, spec.dtype, lost[0])
    return converted


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
    if rows.dtype.kind in "iu" or rows.size == 0:  # NumPy makes float64 of an empty list
        return rows.astype(np.int64)
    raise DTypeMismatchError(
        f"indices of variable {spec.name} are {rows.dtype.name}; integers are needed", variable=spec.name
    )
