"""A variable that is cut into parts, each a variable of its own on a ps task of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ps_protocol.operations import Array
from worker_client.dtypes import DType, as_dtype
from worker_client.tensor_shape import ShapeLike, TensorShape


class PartitionedVariable:
    """The parts of a variable in order, which together act like the whole. Thread-safe as far as the parts are.

    Reading and assigning the whole is one operation for each part, so others may see some parts updated and some not.

    Args:
        name: Full name of the whole, without ":0".
        shape: Shape of the whole.
        dtype: Type of its elements.
        variable_list: The parts, in the order of their offsets.
        partitions: Number of parts along each dimension; more than one along at most one dimension.

    Raises:
        TypeError: ``variable_list`` or ``partitions`` is no list.
        ValueError: There are no parts, or ``partitions`` does not fit the shape or the number of parts.
    """

    def __init__(
        self,
        name: str,
        shape: ShapeLike,
        dtype: npt.DTypeLike,
        variable_list: Sequence[Any],
        partitions: Sequence[int],
    ):
        for value, what in ((variable_list, "variable_list"), (partitions, "partitions")):
            if not isinstance(value, list | tuple):
                raise TypeError(f"the {what} of partitioned variable {name} should be a list, not {value!r}")
        self._name = name
        self._shape = TensorShape(shape)
        self._dtype = as_dtype(dtype)
        self._parts = tuple(variable_list)
        self.partitions = list(partitions)
        self._check()
        self._axis = next((axis for axis, number in enumerate(partitions) if number > 1), 0)

    def _check(self) -> None:
        if not self._parts:
            raise ValueError(f"partitioned variable {self._name} needs at least one part")
        if len(self._shape.as_tuple()) != len(self.partitions) or min(self.partitions, default=0) < 1:
            raise ValueError(
                f"the partitions {self.partitions} of variable {self._name} should be one positive number for each "
                f"dimension of {self._shape}"
            )
        if sorted(self.partitions)[:-1] != [1] * (len(self.partitions) - 1):
            raise ValueError(
                f"variable {self._name} is cut along several dimensions: {self.partitions}; only one may be"
            )
        if max(self.partitions) != len(self._parts):
            raise ValueError(f"variable {self._name} has {len(self._parts)} parts for the partitions {self.partitions}")

    @property
    def name(self) -> str:
        """Full name of the whole, without ":0"."""
        return self._name

    @property
    def dtype(self) -> DType:
        return DType(self._dtype)

    @property
    def shape(self) -> TensorShape:
        """Shape of the whole."""
        return self._shape

    def get_shape(self) -> TensorShape:
        """Returns the shape of the whole."""
        return self._shape

    @property
    def axis(self) -> int:
        """The dimension that is cut."""
        return self._axis

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parts)

    def __len__(self) -> int:
        """Number of parts."""
        return len(self._parts)

    def as_tensor(self) -> Any:
        """Returns the value of the whole: the parts read one by one and put together."""
        values = [part.read_value() for part in self._parts]
        return values[0] if len(values) == 1 else np.concatenate(values, axis=self._axis)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError(f"{self._name} lives on the ps tasks: an array of it is always a copy")
        return np.asarray(self.as_tensor(), dtype=dtype)

    def assign(self, value: Any, **options: Any) -> list[Any]:
        """Replaces the value of the whole.

        Args:
            value: An array of the shape of the whole, another partitioned variable, or a list with one value for each
                part.
            **options: Passed on to the ``assign`` of each part.

        Returns:
            What each part's ``assign`` returns.

        Raises:
            ValueError: The value has another shape; nothing has changed.
        """
        return self._apply(lambda part, value: part.assign(value, **options), value)

    def assign_add(self, value: Any, **options: Any) -> list[Any]:
        """Adds to the whole; otherwise as ``assign``."""
        return self._apply(lambda part, value: part.assign_add(value, **options), value)

    def assign_sub(self, value: Any, **options: Any) -> list[Any]:
        """Subtracts from the whole; otherwise as ``assign``."""
        return self._apply(lambda part, value: part.assign_sub(value, **options), value)

    def _apply(self, update: Callable[[Any, Any], Any], value: Any) -> list[Any]:
        return [update(part, piece) for part, piece in zip(self._parts, self.pieces(value), strict=True)]

    def pieces(self, value: Any) -> Sequence[Any]:
        """Returns what of a value, given as for ``assign``, belongs to each part.

        Raises:
            ValueError: The value has another shape.
        """
        if isinstance(value, PartitionedVariable):
            value = value.as_tensor()
        if isinstance(value, list):
            if len(value) != len(self._parts):
                raise ValueError(
                    f"partitioned variable {self._name} has {len(self._parts)} parts, the list has {len(value)} values;"
                    f" give the value of the whole as an array"
                )
            return value
        if np.shape(value) != self._shape:
            raise ValueError(
                f"partitioned variable {self._name} has the shape {self._shape}, the value has {list(np.shape(value))}"
            )
        ends = np.cumsum([part.shape[self._axis] for part in self._parts[:-1]])
        return np.split(np.asarray(value), ends, axis=self._axis)

    def __repr__(self) -> str:
        return f"<PartitionedVariable {self._name!r} shape={self._shape} dtype={self._dtype.name} parts={len(self)}>"
