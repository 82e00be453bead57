"""A partitioned variable of a deferred graph: reading and updating it makes operations for each of its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array, PartitionSlice, ScatterRule
from worker_client.deferred.call import deferred_call, itself
from worker_client.deferred.operands import tensor_of
from worker_client.deferred.variable_updates import DeferredVariableUpdates, shape_of
from worker_client.graph.deferred_array import DeferredArray, DeferredValue
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.values.conversion import IndexedSlices
from worker_client.values.shapes import ShapeLike, TensorShape
from worker_client.values.wire_names import WireDTypeName
from worker_client.variables import row_operations
from worker_client.variables.partitioned import PartitionedVariable, VariableInParts

_INT64 = np.dtype(np.int64)


def partitioned_variable(
    name: str, shape: ShapeLike, dtype: npt.DTypeLike, variable_list: Sequence[Any], partitions: Sequence[int]
) -> VariableInParts:
    """Makes a partitioned variable of the kind of its parts; arguments and errors as of ``PartitionedVariable``."""
    is_deferred = isinstance(variable_list, list | tuple) and isinstance(next(iter(variable_list), None), DeferredValue)
    kind = PartitionedDeferredVariable if is_deferred else PartitionedVariable
    return kind(name, shape, dtype, variable_list, partitions)


def sliced(whole: Tensor, place: PartitionSlice, shape: Sequence[int]) -> Tensor:
    """Returns the part of a tensor that a part of a partitioned variable starts from.

    Args:
        whole: Of the whole's shape; where that is not known yet, running it checks it.
        place: Of the part.
        shape: Of the part.
    """
    box = tuple(slice(start, start + size) for start, size in zip(place.offset, shape, strict=True))

    def part(array: Array) -> Array:
        if array.shape != place.full_shape:
            raise ValueError(f"partitioned variable {place.full_name} has the shape {list(place.full_shape)}")
        return array[box]

    return deferred_call(part, [whole], op_type="Slice", output=OutputSpec(whole.dtype, TensorShape(shape)))


class _AtOnce:
    """What a variable that acts at once has, and one of a deferred graph has not: asking for it says so."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, variable: VariableInParts | None, owner: type) -> Any:
        return self if variable is None else self._refuse(variable)

    def __set__(self, variable: VariableInParts, value: object) -> None:
        self._refuse(variable)

    def _refuse(self, variable: VariableInParts) -> NoReturn:
        raise InvalidArgumentError(
            f"variable {variable.name} belongs to a deferred graph: a session reads and updates it, all tensors travel "
            f"exactly, and there is no {self._name}",
            variable=variable.name,
        )


@PartitionedVariable.register
class PartitionedDeferredVariable(  # type: ignore[misc] # whose tensors are not iterated over
    DeferredVariableUpdates, VariableInParts, DeferredArray
):
    """The parts of a variable of a deferred graph in order, which together act like the whole.

    In operations it stands for the value of the whole, which each of them puts together. Rows and elements are read and
    updated where they are: an operation for each part, of which a session sends each ps task all at once.
    """

    def __init__(
        self,
        name: str,
        shape: ShapeLike,
        dtype: npt.DTypeLike,
        variable_list: Sequence[Any],
        partitions: Sequence[int],
    ):
        super().__init__(name, shape, dtype, variable_list, partitions)
        self.spec = self.whole_spec

    shape = VariableInParts.shape

    numpy: Any = _AtOnce()
    read_if_newer: Any = _AtOnce()
    push_dtype: Any = _AtOnce()
    pull_dtype: Any = _AtOnce()
    push_buffer: Any = _AtOnce()
    version: Any = _AtOnce()
    initialized: Any = _AtOnce()
    initialize: Any = _AtOnce()
    count_up_to: Any = _AtOnce()

    # -- as a value ---------------------------------------------------------------------------

    def __bool__(self) -> bool:
        return True  # as any object

    def __getitem__(self, key: Any) -> Tensor:
        return self.as_graph_tensor()[key]

    # -- reading ------------------------------------------------------------------------------

    def as_tensor(
        self, *, out: Array | None = None, wire_dtype: WireDTypeName | None = None, copy: bool = True
    ) -> Tensor:
        """Returns a tensor of the whole; InvalidArgumentError if ``out``, ``wire_dtype`` or ``copy`` is given."""
        if out is not None or wire_dtype is not None or not copy:
            raise InvalidArgumentError(
                f"variable {self._name} belongs to a deferred graph: its tensor gets a value in Session.run, "
                f"which takes no `out`, no `wire_dtype` and no `copy`",
                variable=self._name,
            )
        return self.as_graph_tensor()

    value = as_tensor

    def as_graph_tensor(self) -> Tensor:
        values, graph = self.part_values(), self.graph
        with graph.control_dependencies(None):
            with graph.name_scope(f"{self._name}/ConcatPartitions/"):
                value = self._joined(values)
            with graph.name_scope(None):
                return deferred_call(itself, [value], op_type="Identity", name=self._name, output=self._output)

    def read_value(
        self,
    ) -> Tensor:
        """Returns the value at the time that control dependencies say: new operations at each call."""
        return self._joined([part.read_value() for part in self._parts])

    def part_values(self) -> list[Any]:
        return [part.value() for part in self._parts]

    def _joined(self, values: Sequence[Tensor]) -> Tensor:
        """Returns the parts' values as one."""
        if len(values) == 1:
            return values[0]
        return deferred_call(
            np.concatenate, [values], {"axis": self._axis}, op_type="ConcatV2", name="concat", output=self._output
        )

    @property
    def _output(self) -> OutputSpec:
        return OutputSpec(self._dtype, self._shape)

    def sparse_read(self, indices: Any, name: str | None = None) -> Tensor:
        """Returns rows of the value, of which only those leave the ps tasks; errors as of ``DeferredVariable``."""
        rows = self.rows_operand(indices)
        row_operations.check_depth(self.spec, 1)
        return self._gathered(rows, _as_places, 1, name or "GatherV2", "GatherV2")

    gather = sparse_read

    def gather_nd(self, indices: Any, name: str | None = None) -> Tensor:
        """Returns slices or elements of the value, as ``DeferredVariable.gather_nd``."""
        places = self.rows_operand(indices)
        depth = row_operations.index_depth(self.spec, shape_of(places))
        return self._gathered(places, itself, depth, name or "GatherNd", "GatherNd")

    def _gathered(
        self, indices: Tensor | Array, places_of: Callable[[Array], Array], depth: int, name: str, op_type: str
    ) -> Tensor:
        found = []
        for index, part in enumerate(self._parts):
            share = self._share(indices, places_of, depth, index, reading=True)
            found.append(part.gather_nd(share))
        cut, row = self._cut, self.spec.shape[depth:]

        def stitched(indices: Array, found: Sequence[Array]) -> Array:
            places = places_of(indices)
            result = np.empty((places[..., 0].size, *row), found[0].dtype)
            for index, rows in enumerate(found):
                result[cut.share(places, index, reading=True).selection] = rows
            return result.reshape(*places.shape[:-1], *row)

        outer = shape_of(indices)
        shape = row_operations.with_row_shape(outer if places_of is _as_places else outer[:-1], row)
        output = OutputSpec(self._dtype, shape)
        return deferred_call(stitched, [indices, found], op_type=op_type, name=name, output=output)

    def _share(
        self,
        indices: Tensor | Array,
        places_of: Callable[[Array], Array],
        depth: int,
        index: int,
        *,
        reading: bool = False,
    ) -> Tensor:
        """Returns the places of a part that some indices of the whole ask for."""
        cut = self._cut
        return deferred_call(
            lambda indices: cut.share(places_of(indices), index, reading=reading).places.astype(_INT64),
            [indices],
            op_type="DynamicPartition",
            output=OutputSpec(_INT64, TensorShape([None, depth])),
        )

    # -- updates ------------------------------------------------------------------------------

    def assign(
        self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> list[Any]:
        """Replaces the value of the whole each time that a session runs it.

        Args:
            value: As for ``PartitionedVariable.assign``.
            use_locking: Ignored; the update of each part is atomic.
            name: Name of the operations.
            read_value: Whether to return tensors, or else operations.

        Returns:
            What each part's ``assign`` returns.
        """
        del use_locking
        return self._applied("assign", value, name, read_value)

    def assign_add(
        self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> list[Any]:
        """Adds to the whole; otherwise as ``assign``."""
        del use_locking
        return self._applied("assign_add", value, name, read_value)

    def assign_sub(
        self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> list[Any]:
        """Subtracts from the whole; otherwise as ``assign``."""
        del use_locking
        return self._applied("assign_sub", value, name, read_value)

    def _applied(self, method: str, value: Any, name: str | None, read_value: bool) -> list[Any]:
        return [
            getattr(part, method)(piece, name=name, read_value=read_value)
            for part, piece in zip(self._parts, self.pieces(value), strict=True)
        ]

    def _known(self, value: Any) -> Any:
        tensor = tensor_of(value, self._dtype)
        return super()._known(value) if tensor is None else tensor

    def _cut_up(self, value: Any) -> Sequence[Any]:
        if not isinstance(value, Tensor):
            return super()._cut_up(value)
        return [
            self._piece(value, part, start) for part, (start, _) in zip(self._parts, self._cut.spans(), strict=True)
        ]

    def _piece(self, tensor: Tensor, part: Any, start: int) -> Tensor:
        axis, end = self._axis, start + part.shape[self._axis]

        def piece(whole: Array) -> Array:
            if whole.shape != self._shape:
                raise ValueError(f"partitioned variable {self._name} has the shape {self._shape}")
            return np.take(whole, range(start, end), axis=axis)

        output = OutputSpec(tensor.dtype, TensorShape(part.shape))
        return deferred_call(piece, [tensor], op_type="SplitV", name="split", output=output)

    def _scope(self, name: str) -> AbstractContextManager[str]:
        return self.graph.name_scope(name)

    def scatter(self, rule: ScatterRule, indices: Any, updates: Any, name: str | None = None) -> Tensor:
        rows, values = self.rows_operand(indices), self.updates_operand(updates)
        row_operations.check_shapes(self.spec, shape_of(rows), shape_of(values), depth=1)
        return self._scattered(rule, rows, _as_places, 1, values, name or f"Scatter{rule.name.title()}")

    def scatter_nd(self, rule: ScatterRule, indices: Any, updates: Any, name: str | None = None) -> Tensor:
        places, values = self.rows_operand(indices), self.updates_operand(updates)
        depth = row_operations.index_depth(self.spec, shape_of(places))
        row_operations.check_shapes(self.spec, shape_of(places)[:-1], shape_of(values), depth)
        return self._scattered(rule, places, itself, depth, values, name or f"ScatterNd{rule.name.title()}")

    def batch_scatter_update(
        self, sparse_delta: IndexedSlices, use_locking: bool = False, name: str | None = None
    ) -> Tensor:
        del use_locking
        rows, values = self.rows_operand(sparse_delta.indices), self.updates_operand(sparse_delta.values)
        row_operations.check_batch(self.spec, shape_of(rows), shape_of(values))
        depth = shape_of(rows).ndims or 0
        name = name or "batch_scatter_update"
        return self._scattered(ScatterRule.UPDATE, rows, row_operations.batch_places, depth, values, name)

    def _scattered(
        self,
        rule: ScatterRule,
        indices: Tensor | Array,
        places_of: Callable[[Array], Array],
        depth: int,
        values: Tensor | Array,
        name: str,
    ) -> Tensor:
        cut, row = self._cut, self.spec.shape[depth:]

        def piece_of(index: int) -> Callable[[Array, Array], Array]:
            def piece(indices: Array, values: Array) -> Array:
                if not values.ndim:
                    return values
                places = places_of(indices)
                row_operations.check_shapes(self.spec, TensorShape(places.shape[:-1]), TensorShape(values.shape), depth)
                flat = values.reshape(places[..., 0].size, *row)
                found: Array = flat[cut.share(places, index).selection]
                return found

            return piece

        updated = []
        for index, part in enumerate(self._parts):
            share = self._share(indices, places_of, depth, index)
            shape = TensorShape([]) if shape_of(values).ndims == 0 else TensorShape(None)
            output = OutputSpec(self._dtype, shape)
            piece = deferred_call(piece_of(index), [indices, values], op_type="DynamicPartition", output=output)
            updated.append(part.scatter_nd(rule, share, piece, name))
        return self._joined(updated)


def _as_places(rows: Array) -> Array:
    return rows[..., np.newaxis]
