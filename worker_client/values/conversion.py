"""What users pass as values, turned into the arrays that an operation needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, final

import numpy as np
import numpy.typing as npt

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError
from ps_protocol.operations import Array, VariableSpec
from worker_client.values.dtypes import DType
from worker_client.values.shapes import TensorShape


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
    if source.kind == "c" and target.kind != "c":
        return False  # ml-dtypes would let the imaginary part go
    if target.kind == "S":
        return source.kind == "S" and source.itemsize <= target.itemsize
    return np.can_cast(source, target, "same_kind")


def convert(value: npt.ArrayLike, spec: VariableSpec, *, copy: bool = False) -> Array:
    """Returns ``value`` as an array of the variable's dtype, of any shape.

    Args:
        value: What the user gave.
        spec: The variable it is meant for.
        copy: Whether the array must be a new one even if ``value`` needs no conversion.

    Raises:
        DTypeMismatchError: The conversion would change the kind of number.
        InvalidArgumentError: A Python integer does not fit into the dtype.
    """
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    if array.dtype == spec.dtype:
        return array.copy() if copy else array
    is_python = not isinstance(value, np.ndarray | np.generic)
    # A Python integer has no sign of its own: whether it fits is checked below.
    if not keeps_kind(array.dtype, spec.dtype) and not (is_python and array.dtype.kind + spec.dtype.kind == "iu"):
        raise DTypeMismatchError(
            f"variable {spec.name} holds {spec.dtype.name}, the value is {array.dtype.name}; "
            f"convert it first if that is meant",
            variable=spec.name,
        )
    if not is_python:
        return array.astype(spec.dtype)
    try:
        return np.asarray(value, dtype=spec.dtype)
    except OverflowError as error:
        raise InvalidArgumentError(
            f"variable {spec.name} holds {spec.dtype.name}, the value is out of its range: {error}", variable=spec.name
        ) from error


def row_indices(indices: npt.ArrayLike, spec: VariableSpec, *, copy: bool = False) -> Array:
    """Returns row indices as an int32 or int64 array, new if ``copy``. The ps checks their range.

    Raises:
        DTypeMismatchError: They are not integers.
    """
    rows = np.asarray(indices)
    if rows.dtype in (np.int32, np.int64):
        return rows.copy() if copy else rows
    if rows.dtype.kind in "iu" or rows.size == 0:  # NumPy makes float64 of an empty list
        return rows.astype(np.int64)
    raise DTypeMismatchError(
        f"indices of variable {spec.name} are {rows.dtype.name}; integers are needed", variable=spec.name
    )
