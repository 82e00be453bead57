"""A partitioned variable of a deferred graph: reading and updating it makes operations for each of its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array, PartitionSlice
from worker_client.deferred.call import deferred_call, itself
from worker_client.deferred.operands import tensor_of
from worker_client.graph.deferred_array import DeferredValue
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.values.shapes import ShapeLike, TensorShape
from worker_client.values.wire_names import WireDTypeName
from worker_client.variables.partitioned import PartitionedVariable


def partitioned_variable(
    name: str, shape: ShapeLike, dtype: npt.DTypeLike, variable_list: Sequence[Any], partitions: Sequence[int]
) -> PartitionedVariable:
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


class PartitionedDeferredVariable(PartitionedVariable, DeferredValue):
    """The parts of a variable of a deferred graph in order, which together act like the whole.

    In operations it stands for the value of the whole, which each of them puts together.
    """

    def as_tensor(self, *, out: Array | None = None, wire_dtype: WireDTypeName | None = None) -> Tensor:
        """Returns a tensor of the whole; InvalidArgumentError if ``out`` or ``wire_dtype`` is given."""
        if out is not None or wire_dtype is not None:
            raise InvalidArgumentError(
                f"variable {self._name} belongs to a deferred graph: its tensor gets a value in Session.run, "
                f"which takes no `out` and no `wire_dtype`",
                variable=self._name,
            )
        return self.as_graph_tensor()

    def as_graph_tensor(self) -> Tensor:
        whole = OutputSpec(self._dtype, self._shape)
        values, along = self.part_values(), {"axis": self._axis}
        value, graph = values[0], self._parts[0].graph
        with graph.control_dependencies(None):
            if len(values) > 1:
                with graph.name_scope(f"{self._name}/ConcatPartitions/"):
                    value = deferred_call(
                        np.concatenate, [values], along, op_type="ConcatV2", name="concat", output=whole
                    )
            with graph.name_scope(None):
                return deferred_call(itself, [value], op_type="Identity", name=self._name, output=whole)

    def part_values(self) -> list[Any]:
        return [part.value() for part in self._parts]

    @property
    def _eager_parts(self) -> Sequence[Any]:
        raise InvalidArgumentError(
            f"variable {self._name} belongs to a deferred graph: a session reads it whole, and all tensors travel "
            f"exactly",
            variable=self._name,
        )

    def _apply(
        self, method: str, value: Any, name: str | None, read_value: bool, options: Mapping[str, Any]
    ) -> list[Any]:
        return super()._apply(method, value, name, read_value, {"name": name, "read_value": read_value, **options})

    def _cut(self, value: Any) -> Sequence[Any]:
        tensor = tensor_of(value, self._dtype)
        if tensor is None:
            return super()._cut(value)
        return [self._piece(tensor, part, end) for part, end in zip(self._parts, self._ends, strict=True)]

    def _piece(self, tensor: Tensor, part: Any, end: int) -> Tensor:
        axis, start = self._axis, end - part.shape[self._axis]

        def piece(whole: Array) -> Array:
            if whole.shape != self._shape:
                raise ValueError(f"partitioned variable {self._name} has the shape {self._shape}")
            return np.take(whole, range(start, end), axis=axis)

        output = OutputSpec(tensor.dtype, TensorShape(part.shape))
        return deferred_call(piece, [tensor], op_type="SplitV", name="split", output=output)
