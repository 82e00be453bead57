"""Makes a slot in a graph, as TensorFlow 1's module of this name: a variable beside a variable, for an optimizer.

They are named, placed and cut into parts as the variable is, so that a step finds all of them on one ps task.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from ps_protocol.operations import PartitionSlice
from worker_client.deferred.variable import DeferredVariable
from worker_client.graph.operation import Tensor
from worker_client.scopes.arguments import VariableArguments
from worker_client.scopes.variable_scope import variable_scope
from worker_client.scopes.variable_table import VariableTable
from worker_client.values.dtypes import DType


def create_slot(
    primary: DeferredVariable | Tensor, initializer: Any, name: str, dtype: DType | None = None
) -> DeferredVariable:
    """Makes a slot of a variable's shape.

    Args:
        primary: The variable; or a tensor, whose slot is placed where variables are.
        initializer: Gives the slot its first value: an initializer, or a value.
        name: Of the slot behind that of the variable; made unique.
        dtype: Of the slot; the variable's if not given.
    """
    graph = primary.graph
    variable = primary if isinstance(primary, DeferredVariable) else None
    full_name = primary.op.name if variable is None else variable.spec.name
    with (
        graph.control_dependencies(None),
        variable_scope(None, f"{full_name}/{name}") as scope,
        nullcontext() if variable is None else graph.colocate_with(variable.op),
    ):
        arguments = VariableArguments(
            f"{scope.name}/",  # exactly this name, which the scope has made unique
            shape=primary.shape if callable(initializer) else None,
            dtype=dtype or primary.dtype,
            initializer=initializer,
            reuse=scope.reuse,
            trainable=False,
            validate_shape=primary.shape.is_fully_defined() if variable is None else variable.definition.validate_shape,
        )
        with graph.name_scope(None):
            slot: DeferredVariable = graph.slot(VariableTable).get_beside(
                arguments, None if variable is None else _place(variable, scope.name)
            )
        return slot


def _place(primary: DeferredVariable, name: str) -> PartitionSlice | None:
    """Returns where a part's slot lies in the whole's slot."""
    place = primary.spec.slice
    if place is None:
        return None
    _, _, short = name.rpartition(f"{primary.spec.name}/")
    return PartitionSlice(f"{place.full_name}/{short}", place.full_shape, place.offset)
