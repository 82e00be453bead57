"""A variable that is cut into parts, each a variable of its own on a ps task of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array, VariableSpec
from worker_client.graph.deferred_array import DeferredValue
from worker_client.values.dtypes import DType, as_dtype
from worker_client.values.shapes import ShapeLike, TensorShape
from worker_client.values.versions import VersionedValue
from worker_client.values.wire_names import WireDTypeName
from worker_client.variables import part_reads


class PartitionedVariable:
    """The parts of a variable in order, which together act like the whole. Thread-safe as far as the parts are.

    One of a deferred graph is a ``PartitionedDeferredVariable``.

    Reading and assigning the whole is one operation for each part, so others may see some parts updated and some not.

    Args:
        name: Full name of the whole, without ":0".
        shape: Shape of the whole.
        dtype: Type of its elements.
        variable_list: The parts, in the order of their offsets.
        partitions: Number of parts along each dimension; more than one along at most one dimension.

    Raises:
        TypeError: ``variable_list`` or ``partitions`` is no list, or the parts belong to a deferred graph.
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
        if isinstance(self._parts[0], DeferredValue) and not isinstance(self, DeferredValue):
            raise TypeError(f"the parts of {self._name} are deferred: make a PartitionedDeferredVariable of them")
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

    def as_tensor(self, *, out: Array | None = None, wire_dtype: WireDTypeName | None = None) -> Any:
        """Returns the value of the whole. All parts are read at once, with one exchange for each ps task.

        Args:
            out: Where to put the value, as in ``Variable.read_value``. The parts of a variable that is cut along its
                first dimension are read straight into their places in it.
            wire_dtype: The form in which it travels, as in ``Variable.read_value``.

        Raises:
            FailedPreconditionError: A part has not been initialised.
            InvalidArgumentError: ``out`` is no writable array of its dtype and shape, or ``wire_dtype`` no form for it.
        """
        (value,) = part_reads.read(self._parts[0].runner, [self.whole_read(out, wire_dtype)])
        return value

    def read_if_newer(
        self,
        version: Sequence[SupportsIndex] | None,
        *,
        out: Array | None = None,
        wire_dtype: WireDTypeName | None = None,
    ) -> VersionedValue[part_reads.PartVersions] | None:
        """Returns the value of the whole unless all parts still have the versions that the caller has already.

        Args:
            version: One for each part, from an earlier call; None reads always.
            out: Where to put the value, which is the whole also if only some parts have changed. Left as it is if none
                has.
            wire_dtype: The form in which it travels, as in ``Variable.read_value``.

        Returns:
            The value and the versions of the parts, or None.

        Raises:
            FailedPreconditionError: A part has not been initialised.
            InvalidArgumentError: ``version`` does not hold one version for each part, or ``out`` does not fit.
        """
        read = self.whole_read(out, wire_dtype)
        (newer,) = part_reads.read_if_newer(self._parts[0].runner, [read], [self.part_versions(version)])
        return newer

    def part_versions(self, version: Sequence[SupportsIndex] | None) -> Sequence[SupportsIndex | None]:
        """Returns a version for each part, given as for ``read_if_newer``; InvalidArgumentError if one is missing."""
        if version is None:
            return [None] * len(self._parts)
        if not isinstance(version, Sequence) or len(version) != len(self._parts):
            raise InvalidArgumentError(
                f"variable {self._name} has {len(self._parts)} parts, and a version for each, not {version!r}; "
                f"give the version of a value that was read, or None to read always",
                variable=self._name,
            )
        return version

    @property
    def push_dtype(self) -> WireDTypeName:
        """The form in which updates of its parts travel, as ``Variable.push_dtype``; setting it sets that of each."""
        name: WireDTypeName = self._eager_parts[0].push_dtype
        return name

    @push_dtype.setter
    def push_dtype(self, name: WireDTypeName | None) -> None:
        for part in self._eager_parts:
            part.push_dtype = name

    @property
    def pull_dtype(self) -> WireDTypeName:
        """The form in which its parts travel when they are read; otherwise as ``push_dtype``."""
        name: WireDTypeName = self._eager_parts[0].pull_dtype
        return name

    @pull_dtype.setter
    def pull_dtype(self, name: WireDTypeName | None) -> None:
        for part in self._eager_parts:
            part.pull_dtype = name

    @property
    def _eager_parts(self) -> Sequence[Any]:
        """The parts, where they are read and updated at once; InvalidArgumentError in a deferred graph."""
        return self._parts

    @property
    def whole_spec(self) -> VariableSpec:
        """Name, dtype and shape of the whole."""
        return VariableSpec(self._name, self._dtype, self._shape.as_tuple())

    def whole_read(
        self, out: Array | None = None, wire_dtype: WireDTypeName | None = None, *, view: bool = False
    ) -> part_reads.WholeRead:
        """Returns the read of the whole into ``out``, or into a new array; checks ``out``."""
        return part_reads.WholeRead(
            self.whole_spec, self._eager_parts, axis=self._axis, out=out, wire_dtype=wire_dtype, view=view
        )

    def part_values(self) -> list[Any]:
        """Returns the value of each part, with one exchange for each."""
        return [part.read_value() for part in self._parts]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError(f"{self._name} lives on the ps tasks: an array of it is always a copy")
        return np.asarray(self.as_tensor(), dtype=dtype)

    def assign(
        self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True, **options: Any
    ) -> list[Any]:
        """Replaces the value of the whole.

        Args:
            value: An array or a tensor of the shape of the whole, another partitioned variable, or a list with one
                value for each part.
            use_locking: Ignored; the update of each part is atomic.
            name: Name of the operations, in a deferred graph.
            read_value: Whether to return tensors, or else operations, in a deferred graph.
            **options: Passed on to the ``assign`` of each part.

        Returns:
            What each part's ``assign`` returns.

        Raises:
            ValueError: The value has another shape; nothing has changed.
        """
        del use_locking
        return self._apply("assign", value, name, read_value, options)

    def assign_add(
        self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True, **options: Any
    ) -> list[Any]:
        """Adds to the whole; otherwise as ``assign``."""
        del use_locking
        return self._apply("assign_add", value, name, read_value, options)

    def assign_sub(
        self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True, **options: Any
    ) -> list[Any]:
        """Subtracts from the whole; otherwise as ``assign``."""
        del use_locking
        return self._apply("assign_sub", value, name, read_value, options)

    def _apply(
        self, method: str, value: Any, name: str | None, read_value: bool, options: Mapping[str, Any]
    ) -> list[Any]:
        del name, read_value  # for the operations of a deferred graph
        pieces = self.pieces(value)
        return [getattr(part, method)(piece, **options) for part, piece in zip(self._parts, pieces, strict=True)]

    def pieces(self, value: Any) -> Sequence[Any]:
        """Returns what of a value, given as for ``assign``, belongs to each part.

        Raises:
            ValueError: The value has another shape.
        """
        if isinstance(value, PartitionedVariable):
            if [part.shape for part in value] == [part.shape for part in self._parts]:
                return value.part_values()
            value = value.as_tensor()
        if isinstance(value, list):
            self._check_list(value)
            return value
        shape = _shape_of(value)
        if not shape.is_compatible_with(self._shape):
            raise ValueError(f"partitioned variable {self._name} has the shape {self._shape}, the value has {shape}")
        return self._cut(value)

    def _cut(self, value: Any) -> Sequence[Any]:
        """Returns the pieces of a value of the shape of the whole."""
        return np.split(np.asarray(value), self._ends[:-1], axis=self._axis)

    @property
    def _ends(self) -> list[int]:
        """Where each part ends, along the dimension that is cut."""
        ends: list[int] = np.cumsum([part.shape[self._axis] for part in self._parts]).tolist()
        return ends

    def _check_list(self, values: list[Any]) -> None:
        if len(values) != len(self._parts):
            raise ValueError(
                f"partitioned variable {self._name} has {len(self._parts)} parts, the list has {len(values)} values;"
                f" give the value of the whole as an array"
            )
        for part, value in zip(self._parts, values, strict=True):
            shape = _shape_of(value)
            if shape.ndims != 0 and not shape.is_compatible_with(part.shape):
                raise ValueError(f"{part.name} has the shape {list(part.shape)}, the value for it has {shape}")

    def __repr__(self) -> str:
        return f"<PartitionedVariable {self._name!r} shape={self._shape} dtype={self._dtype.name} parts={len(self)}>"


def _shape_of(value: Any) -> TensorShape:
    return TensorShape(value.shape if hasattr(value, "shape") else np.shape(value))
