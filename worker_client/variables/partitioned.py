"""A variable that is cut into parts, each a variable of its own on a ps task of its own."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import cached_property
from typing import Any, Self, SupportsIndex

import numpy as np
import numpy.typing as npt

from ps_protocol.errors import InvalidArgumentError, ShapeMismatchError
from ps_protocol.html_tables import html_table
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.not_copied import NotCopied
from ps_protocol.operations import Array, Describe, Result, ScatterRule, Update, UpdateRule, VariableSpec
from worker_client.connection.completes import Completes, exchange_of
from worker_client.connection.fanout import Routed, succeeded
from worker_client.connection.futures import mapped
from worker_client.graph.deferred_array import DeferredValue
from worker_client.graph.graph import Graph
from worker_client.values.array_likes import array_of
from worker_client.values.dtypes import DType, as_dtype
from worker_client.values.shapes import ShapeLike, TensorShape
from worker_client.values.versions import VersionedValue
from worker_client.values.wire_names import WireDTypeName
from worker_client.variables import part_reads, part_rows, row_operations
from worker_client.variables import prepared_updates as pushes
from worker_client.variables.array_protocols import ActsAsArray
from worker_client.variables.base import OperationRunner
from worker_client.variables.part_rows import Cut, RowsRead
from worker_client.variables.reductions import Reductions
from worker_client.variables.scatter_methods import Form, RowsLike, ScatterMethods, Updates, indices_and_updates
from worker_client.variables.team_calls import TeamCalls


class VariableInParts:
    """The parts of a variable in order: what a ``PartitionedVariable`` and one of a deferred graph have in common.

    As in TensorFlow 1 its length is the number of its parts, and it is iterated over part by part.

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
        self._whole_spec = VariableSpec(name, self._dtype, self._shape.as_tuple())

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

    @property
    def whole_spec(self) -> VariableSpec:
        return self._whole_spec

    @property
    def graph(self) -> Graph:
        """The graph of names that it belongs to."""
        graph: Graph = self._parts[0].graph
        return graph

    @property
    def trainable(self) -> bool:
        """Whether optimizers are meant to update it."""
        return bool(self._parts[0].trainable)

    # -- its parts ----------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parts)

    def __reversed__(self) -> Iterator[Any]:
        return iter(self._parts[::-1])

    def __contains__(self, part: Any) -> bool:
        return part in self._parts

    def __len__(self) -> int:
        """Number of parts."""
        return len(self._parts)

    # -- values -------------------------------------------------------------------------------

    def as_tensor(self) -> Any:
        """Returns the value of the whole."""
        raise NotImplementedError

    def part_values(self) -> list[Any]:
        """Returns the value of each part."""
        raise NotImplementedError

    def pieces(self, value: Any, *, is_delta: bool = False) -> Sequence[Any]:
        """Returns what of a value, given as for ``assign``, belongs to each part.

        Args:
            value: Of the whole.
            is_delta: Whether a scalar stands for an array of the shape of the whole.

        Raises:
            ShapeMismatchError: The value has another shape.
        """
        if isinstance(value, VariableInParts):
            if [part.shape for part in value] == [part.shape for part in self._parts]:
                return value.part_values()
            value = value.as_tensor()
        if isinstance(value, list) and self._is_one_for_each_part(value):
            return value
        known = self._known(value)
        if known.shape == self._whole_spec.shape:  # nearly always
            return self._cut_up(known)
        shape = TensorShape(known.shape)
        if is_delta and shape.ndims == 0:
            return [known] * len(self._parts)
        if not shape.is_compatible_with(self._shape):
            raise ShapeMismatchError(
                f"partitioned variable {self._name} has the shape {self._shape}, the value has {shape}; "
                f"give the value of the whole, or a list with one for each of its {len(self._parts)} parts",
                variable=self._name,
            )
        return self._cut_up(known)

    def _known(self, value: Any) -> Any:
        """Returns a value as something with a shape."""
        return array_of(value, self._whole_spec, dtype=self._dtype)

    def _cut_up(self, value: Any) -> Sequence[Any]:
        """Returns the pieces of a value of the shape of the whole."""
        return [value[each] for each in self._slices]

    def _is_one_for_each_part(self, values: list[Any]) -> bool:
        """Whether a list holds one value for each part, and not the rows of the whole, or what fits neither."""
        if len(values) != len(self._parts):
            return False
        shapes = [_shape_or_none(value) for value in values]
        return all(
            shape is not None and shape.is_compatible_with(part.shape)
            for part, shape in zip(self._parts, shapes, strict=True)
        )

    @cached_property
    def _slices(self) -> list[part_reads.Slices]:
        """Where each part lies in the whole."""
        before = (slice(None),) * self._axis
        return [(*before, slice(begin, end)) for begin, end in self._cut.spans()]

    @cached_property
    def _cut(self) -> Cut:
        return Cut(self._whole_spec, self._axis, tuple(part.shape[self._axis] for part in self._parts))

    def __repr__(self) -> str:
        return f"<PartitionedVariable {self._name!r} shape={self._shape} dtype={self._dtype.name} parts={len(self)}>"


class PartitionedVariable(
    VariableInParts,
    ScatterMethods,
    Reductions,
    TeamCalls,
    ActsAsArray,
    NotCopied,
    metaclass=ABCMeta,
    bound_to="a connection of this process",
    instead="connect in the other process and get it by its name there, or pass on its value: numpy()",
):
    """A variable that is cut into parts, which together act like the whole. Thread-safe.

    It offers what a ``Variable`` does, with one exchange for each ps task that has a part of what is read or updated,
    all tasks at once. What is updated is one update for each part: each is atomic, and others may see some of them done
    and some not yet. As in TensorFlow 1 its length is the number of its parts, and it is iterated over part by part.

    One of a deferred graph is a ``PartitionedDeferredVariable``, which counts as an instance of this class.

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

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override] # as of a whole variable that acts at once
        """Type of the elements."""
        return self._dtype

    def _repr_html_(self) -> str:
        """For notebooks: what is known here. The values are not asked for, since a ps may be away."""
        parts = [(part.name, part.shape, part.device) for part in self._parts]
        title = f"PartitionedVariable {self._name}: shape {self._shape}, {self._dtype.name}, {len(self)} parts"
        return html_table(title, parts)

    # -- whole values -------------------------------------------------------------------------

    def as_tensor(self, *, out: Array | None = None, wire_dtype: WireDTypeName | None = None, copy: bool = True) -> Any:
        """Returns the value of the whole. All parts are read at once, with one exchange for each ps task.

        Args:
            out: Where to put the value, as in ``Variable.read_value``. The parts of a variable that is cut along its
                first dimension are read straight into their places in it.
            wire_dtype: The form in which it travels, as in ``Variable.read_value``.
            copy: If not, the array is read-only. Only of a variable in one part it can be memory of the ps, as in
                ``Variable.read_value``.

        Raises:
            FailedPreconditionError: A part has not been initialised.
            InvalidArgumentError: ``out`` is no writable array of its dtype and shape, or ``wire_dtype`` no form for it.
        """
        (value,) = part_reads.read(self._runner, [self.whole_read(out, wire_dtype, view=not copy)])
        return value

    read_value = as_tensor
    value = as_tensor

    def numpy(self, *, out: Array | None = None, wire_dtype: WireDTypeName | None = None) -> Array:
        """Returns ``read_value()``."""
        value: Array = self.as_tensor(out=out, wire_dtype=wire_dtype)
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
        (newer,) = part_reads.read_if_newer(self._runner, [read], [self.part_versions(version)])
        return newer

    def part_versions(self, version: SupportsIndex | Sequence[SupportsIndex] | None) -> Sequence[SupportsIndex | None]:
        """Returns a version for each part, given as for ``read_if_newer``; InvalidArgumentError if one is missing."""
        if version is None:
            return [None] * len(self._parts)
        if isinstance(version, SupportsIndex):
            version = (version,)  # which is right for a variable of one part
        if not isinstance(version, Sequence) or len(version) != len(self._parts):
            raise InvalidArgumentError(
                f"variable {self._name} has {len(self._parts)} parts, and a version for each, not {version!r}; "
                f"give the version of a value that was read, or None to read always",
                variable=self._name,
            )
        return version

    def versioned(self, newer: VersionedValue[part_reads.PartVersions]) -> VersionedValue[part_reads.PartVersions]:
        """Returns what was read of it with a version for each part."""
        return newer

    def whole_read(
        self, out: Array | None = None, wire_dtype: WireDTypeName | None = None, *, view: bool = False
    ) -> part_reads.WholeRead:
        """Returns the read of the whole into ``out``, or into a new array; checks ``out``."""
        return part_reads.WholeRead(
            self._whole_spec, self._parts, slices=self._slices, out=out, wire_dtype=wire_dtype, view=view
        )

    def part_values(self) -> list[Any]:
        reads = [part_reads.WholeRead(part.spec, [part]) for part in self._parts]
        return list(part_reads.read(self._runner, reads))

    def assign(
        self,
        value: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
        *,
        wait: bool = True,
        wire_dtype: Form = None,
    ) -> Any:
        """Replaces the value of the whole; also initialises. All parts are sent theirs at once.

        Args:
            value: An array or a tensor of the shape of the whole, another partitioned variable, or a list with one
                value for each part.
            use_locking: Ignored; the update of each part is atomic.
            name: Name of the operations, in a deferred graph.
            read_value: Whether to return tensors, or else operations, in a deferred graph.
            wait: Whether to wait until all ps tasks have applied it. If not, ``value`` is copied.
            wire_dtype: The form in which the value travels, as in ``Variable.assign``.

        Returns:
            The variable itself, or without waiting a future of it; of a deferred graph, a list with what each part's
            ``assign`` returns.

        Raises:
            ShapeMismatchError: The value has another shape; it is a ValueError. Nothing has changed.
            DTypeMismatchError: The conversion would change the kind of number; so for the others.
        """
        del use_locking, name, read_value
        return self._update(UpdateRule.ASSIGN, value, wait, wire_dtype)

    def assign_add(
        self,
        value: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
        *,
        wait: bool = True,
        wire_dtype: Form = None,
        completes: Completes | None = None,
    ) -> Any:
        """Adds to the whole, as ``Variable.assign_add`` also a scalar; otherwise as ``assign``."""
        del use_locking, name, read_value
        return self._update(UpdateRule.ASSIGN_ADD, value, wait, wire_dtype, completes)

    def assign_sub(
        self,
        value: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
        *,
        wait: bool = True,
        wire_dtype: Form = None,
    ) -> Any:
        """Subtracts from the whole; otherwise as ``assign_add``."""
        del use_locking, name, read_value
        return self._update(UpdateRule.ASSIGN_SUB, value, wait, wire_dtype)

    def part_updates(
        self, rule: UpdateRule, value: Any, *, copy: bool, wire_dtype: Form = None
    ) -> list[tuple[Any, Update]]:
        """Returns each part with its update, checked against the spec; arguments as of ``Variable.update``."""
        pieces = self.pieces(value, is_delta=rule is not UpdateRule.ASSIGN)
        return [
            (part, part.update(rule, piece, copy=copy, wire_dtype=wire_dtype))
            for part, piece in zip(self._parts, pieces, strict=True)
        ]

    def _update(
        self, rule: UpdateRule, value: Any, wait: bool, wire_dtype: Form, completes: Completes | None = None
    ) -> Self | Future[Self]:
        exchange = exchange_of(self._runner, completes, wait=wait)
        updates = pushes.prepared(self.part_updates(rule, value, copy=not wait, wire_dtype=wire_dtype))
        if wait:
            pushes.send_all(exchange, updates)
            return self
        return mapped(pushes.send_all_later(self._runner, updates), lambda _: self)

    # -- rows and elements --------------------------------------------------------------------

    def gather(
        self, indices: npt.ArrayLike, *, out: Array | None = None, wire_dtype: WireDTypeName | None = None
    ) -> Array:
        """Returns rows of the current value, of the parts that have them.

        Arguments, result and errors are those of ``Variable.gather``, with the indices and the shape of the whole. The
        rows of each part are of one version of it.
        """
        (rows,) = part_rows.read(self._runner, [self.rows_read(indices, out, wire_dtype)])
        return rows

    sparse_read = gather

    def gather_nd(
        self, indices: npt.ArrayLike, *, out: Array | None = None, wire_dtype: WireDTypeName | None = None
    ) -> Array:
        """Returns slices or single elements, as ``Variable.gather_nd``; otherwise as ``gather``."""
        places = row_operations.places_of(self.whole_spec, indices)
        read = RowsRead.of_parts(self._cut, self._parts, places, out, wire_dtype)
        (found,) = part_rows.read(self._runner, [read])
        return found

    def rows_read(self, indices: npt.ArrayLike, out: Array | None, wire_dtype: WireDTypeName | None) -> RowsRead:
        """Returns the read of ``gather``, checked against the spec."""
        rows = row_operations.rows_of(self.whole_spec, indices)
        return RowsRead.of_parts(self._cut, self._parts, rows[..., np.newaxis], out, wire_dtype)

    def scatter(
        self,
        rule: ScatterRule,
        indices: RowsLike,
        updates: Updates = None,
        *,
        wait: bool = True,
        wire_dtype: Form = None,
        completes: Completes | None = None,
    ) -> Any:
        given = indices_and_updates(self.whole_spec, indices, updates)
        rows, values = row_operations.rows_and_values(self.whole_spec, *given, copy=False)
        return self._scatter(rule, rows[..., np.newaxis], values, wait, wire_dtype, completes)

    def scatter_nd(
        self,
        rule: ScatterRule,
        indices: RowsLike,
        updates: Updates = None,
        *,
        wait: bool = True,
        wire_dtype: Form = None,
        completes: Completes | None = None,
    ) -> Any:
        given = indices_and_updates(self.whole_spec, indices, updates)
        places, values = row_operations.places_and_values(self.whole_spec, *given, copy=False)
        return self._scatter(rule, places, values, wait, wire_dtype, completes)

    def batch_scatter_update(
        self, indices: RowsLike, updates: Updates = None, *, wait: bool = True, wire_dtype: Form = None
    ) -> Any:
        given = indices_and_updates(self.whole_spec, indices, updates)
        places, values = row_operations.batch_places_and_values(self.whole_spec, *given, copy=False)
        return self._scatter(ScatterRule.UPDATE, places, values, wait, wire_dtype)

    def _scatter(
        self,
        rule: ScatterRule,
        places: Array,
        values: Array,
        wait: bool,
        wire_dtype: Form,
        completes: Completes | None = None,
    ) -> Self | Future[Self]:
        exchange = exchange_of(self._runner, completes, wait=wait)
        routed = part_rows.scatters(self._cut, self._parts, rule, places, values, wire_dtype, copy=not wait)
        if wait:
            for reply in exchange(routed):
                succeeded(reply)
            return self
        return mapped(self._runner.run_all_later(routed), lambda _: self)

    def part_scatters(self, rule: ScatterRule, slices: Any, *, copy: bool, wire_dtype: Form = None) -> list[Routed]:
        """Returns the update of some rows for each part that has any, as ``Variable.part_scatters``."""
        rows, values = row_operations.rows_and_values(self.whole_spec, slices.indices, slices.values, copy=False)
        return part_rows.scatters(self._cut, self._parts, rule, rows[..., np.newaxis], values, wire_dtype, copy=copy)

    def part_row_values(self, rows: Array, values: Array) -> list[tuple[Any, tuple[Array, ...]]]:
        """Returns for each part which rows it has of those given, ``[n]``, and their values, ``[n, *row]``."""
        return part_rows.row_values(self._cut, self._parts, rows, values)

    # -- what is computed on the ps tasks -----------------------------------------------------

    def placed_parts(self) -> list[tuple[Any, tuple[int, ...]]]:
        ndim = len(self._whole_spec.shape)
        return [
            (part, tuple(begin if axis == self._axis else 0 for axis in range(ndim)))
            for part, (begin, _) in zip(self._parts, self._cut.spans(), strict=True)
        ]

    def part_pieces(self, value: Array) -> Sequence[Array]:
        return self.pieces(value)

    def reduce(self, function: str, *arguments: npt.ArrayLike) -> list[Array]:
        """Returns what a function of the ``--functions`` module computes from each part; as ``Variable.reduce``."""
        return self._reduced_by(function, arguments)

    # -- state --------------------------------------------------------------------------------

    @property
    def version(self) -> tuple[int, ...]:
        """Updates applied to each part since it was initialised, asked of the ps tasks now."""
        return tuple(result.version for result in self._states())

    @property
    def initialized(self) -> bool:
        """Whether all parts have a value, asked of the ps tasks now."""
        return all(result.initialized for result in self._states())

    def initialize(self, *, overwrite: bool = False) -> Self:
        """Gives each part its initial value again (``overwrite``), or only if it has none."""
        self._runner.run_all([Routed(part.ps_task, part.initialization(overwrite=overwrite)) for part in self._parts])
        return self

    def _states(self) -> list[Result]:
        return self._runner.run_all([Routed(part.ps_task, Describe(part.spec.name)) for part in self._parts])

    # -- how it travels -----------------------------------------------------------------------

    @property
    def push_dtype(self) -> WireDTypeName:
        """The form in which updates of its parts travel, as ``Variable.push_dtype``; setting it sets that of each."""
        name: WireDTypeName = self._parts[0].push_dtype
        return name

    @push_dtype.setter
    def push_dtype(self, name: WireDTypeName | None) -> None:
        for part in self._parts:
            part.push_dtype = name

    @property
    def pull_dtype(self) -> WireDTypeName:
        """The form in which its parts travel when they are read; otherwise as ``push_dtype``."""
        name: WireDTypeName = self._parts[0].pull_dtype
        return name

    @pull_dtype.setter
    def pull_dtype(self, name: WireDTypeName | None) -> None:
        for part in self._parts:
            part.pull_dtype = name

    def push_buffer(self) -> Array:
        """Returns an array to compute updates in, as ``Variable.push_buffer``.

        That of a variable in several parts is an ordinary array: no memory is shared with several ps tasks.
        """
        if len(self._parts) == 1:
            buffer: Array = self._parts[0].push_buffer()
            return buffer
        return np.empty(self._whole_spec.shape, self._whole_spec.dtype)

    @property
    def _runner(self) -> OperationRunner:
        runner: OperationRunner = self._parts[0].runner
        return runner


def _shape_or_none(value: Any) -> TensorShape | None:
    """Returns the shape of something in a list; None if it is none."""
    try:
        return TensorShape(value.shape if hasattr(value, "shape") else np.shape(value))
    except (TypeError, ValueError) as error:
        raise_interrupt(error)
        return None
