"""A variable that is cut into parts, each a variable of its own on a ps task of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array, VariableSpec
from worker_client import part_reads
from worker_client.dtypes import DType, as_dtype
from worker_client.operation import OutputSpec
from worker_client.tensor_shape import ShapeLike, TensorShape
from worker_client.variable_wire import VariableWire
from worker_client.versioned_value import VersionedValue
from worker_client.wire_names import WireDTypeName


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

    def as_tensor(self, *, out: Array | None = None, wire_dtype: WireDTypeName | None = None) -> Any:
        """Returns the value of the whole, in a deferred graph a tensor of it.

        All parts are read at once, with one exchange for each ps task.

        Args:
            out: Where to put the value, as in ``Variable.read_value``. The parts of a variable that is cut along its
                first dimension are read straight into their places in it.
            wire_dtype: The form in which it travels, as in ``Variable.read_value``.

        Raises:
            FailedPreconditionError: A part has not been initialised.
            InvalidArgumentError: ``out`` is no writable array of its dtype and shape, or ``wire_dtype`` no form for it,
                or one of both was given in a deferred graph.
        """
        if not self._is_lazy:
            (value,) = part_reads.read(self._parts[0].runner, [self.whole_read(out, wire_dtype)])
            return value
        if out is not None or wire_dtype is not None:
            raise InvalidArgumentError(
                f"variable {self._name} belongs to a deferred graph: its tensor gets a value in Session.run, "
                f"which takes no `out` and no `wire_dtype`",
                variable=self._name,
            )
        return self._lazy_value()

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
        """Returns a version for each part, given as for ``read_if_newer``; InvalidArgumentError if there is not."""
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
        return self._eager_part().push_dtype

    @push_dtype.setter
    def push_dtype(self, name: WireDTypeName | None) -> None:
        self._eager_part()
        for part in self._parts:
            part.push_dtype = name

    @property
    def pull_dtype(self) -> WireDTypeName:
        """The form in which its parts travel when they are read; otherwise as ``push_dtype``."""
        return self._eager_part().pull_dtype

    @pull_dtype.setter
    def pull_dtype(self, name: WireDTypeName | None) -> None:
        self._eager_part()
        for part in self._parts:
            part.pull_dtype = name

    def _eager_part(self) -> VariableWire:
        part = self._parts[0]
        if not isinstance(part, VariableWire):
            raise InvalidArgumentError(
                f"variable {self._name} belongs to a deferred graph, where all tensors travel exactly",
                variable=self._name,
            )
        return part

    @property
    def whole_spec(self) -> VariableSpec:
        """Name, dtype and shape of the whole."""
        return VariableSpec(self._name, self._dtype, self._shape.as_tuple())

    def whole_read(
        self, out: Array | None = None, wire_dtype: WireDTypeName | None = None, *, view: bool = False
    ) -> part_reads.WholeRead:
        """Returns the read of the whole into ``out``, or into a new array; checks ``out``."""
        return part_reads.WholeRead(
            self.whole_spec, self._parts, axis=self._axis, out=out, wire_dtype=wire_dtype, view=view
        )

    @property
    def _is_lazy(self) -> bool:
        return hasattr(self._parts[0], "as_graph_tensor")

    def _lazy_value(self) -> Any:
        from worker_client.lazy_call import lazy_call  # which knows partitioned variables

        graph, whole = self._parts[0].graph, OutputSpec(self._dtype, self._shape)
        value = self._parts[0].value()
        with graph.control_dependencies(None):
            if len(self._parts) > 1:
                with graph.name_scope(f"{self._name}/ConcatPartitions/"):
                    values, along = [part.value() for part in self._parts], {"axis": self._axis}
                    value = lazy_call(np.concatenate, [values], along, op_type="ConcatV2", name="concat", output=whole)
            with graph.name_scope(None):
                return lazy_call(_itself, [value], op_type="Identity", name=self._name, output=whole)

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
        if self._is_lazy:
            options = {"name": name, "read_value": read_value, **options}
        pieces = self.pieces(value)
        return [getattr(part, method)(piece, **options) for part, piece in zip(self._parts, pieces, strict=True)]

    def pieces(self, value: Any) -> Sequence[Any]:
        """Returns what of a value, given as for ``assign``, belongs to each part.

        Raises:
            ValueError: The value has another shape.
        """
        if isinstance(value, PartitionedVariable):
            if [part.shape for part in value] == [part.shape for part in self._parts]:
                return [part.value() if value._is_lazy else part.read_value() for part in value]
            value = value.as_tensor()
        if isinstance(value, list):
            self._check_list(value)
            return value
        shape = _shape_of(value)
        if not shape.is_compatible_with(self._shape):
            raise ValueError(f"partitioned variable {self._name} has the shape {self._shape}, the value has {shape}")
        ends = np.cumsum([part.shape[self._axis] for part in self._parts])
        if not hasattr(value, "as_graph_tensor"):
            return np.split(np.asarray(value), ends[:-1], axis=self._axis)
        return [self._lazy_piece(value, part, int(end)) for part, end in zip(self._parts, ends, strict=True)]

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

    def _lazy_piece(self, value: Any, part: Any, end: int) -> Any:
        from worker_client.lazy_call import lazy_call

        axis, start = self._axis, end - part.shape[self._axis]

        def piece(whole: Array) -> Array:
            if whole.shape != self._shape:
                raise ValueError(f"partitioned variable {self._name} has the shape {self._shape}")
            return np.take(whole, range(start, end), axis=axis)

        output = OutputSpec(value.dtype, TensorShape(part.shape))
        return lazy_call(piece, [value], op_type="SplitV", name="split", output=output)

    def __repr__(self) -> str:
        return f"<PartitionedVariable {self._name!r} shape={self._shape} dtype={self._dtype.name} parts={len(self)}>"


def _shape_of(value: Any) -> TensorShape:
    return TensorShape(value.shape if hasattr(value, "as_graph_tensor") else np.shape(value))


def _itself(value: Array) -> Array:
    return value
