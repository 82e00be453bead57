"""Makes the variables of a connection's own graph, which are declared when they are made."""

from __future__ import annotations

from typing import Any

import numpy as np

from ps_protocol.operations import PartitionSlice, VariableSpec
from worker_client.connection.fanout import Fanout
from worker_client.graph.definition import VariableDefinition
from worker_client.initializers.standard import initializer_spec
from worker_client.placement.declaration import Declaration, Declarer
from worker_client.variables.partitioners import parts
from worker_client.variables.variable import Variable


class EagerVariableFactory:
    """Turns a definition into a variable that is declared on the cluster. Thread-safe.

    Args:
        fanout: The way to the ps tasks.
        declarer: Declares the variables.
        job_seed: Seed from which initial values follow.
        initialize: Whether a variable gets its value when it is declared, or later.
    """

    def __init__(self, fanout: Fanout, declarer: Declarer, *, job_seed: int, initialize: bool):
        self._fanout = fanout
        self._declarer = declarer
        self._job_seed = job_seed
        self._initialize = initialize

    def __call__(self, definition: VariableDefinition) -> Variable:
        """Declares a variable, or finds the one of that name that another worker has declared.

        Raises:
            ShardscopeError: As ``Declarer.declare``.
        """
        spec = VariableSpec(definition.name, definition.dtype, definition.shape, definition.slice)
        initializer = initializer_spec(definition.initializer, spec, self._job_seed)
        declaration = Declaration(spec, definition.op, initializer if self._initialize else None, definition.is_local)
        (ps_task,) = self._declarer.declare([declaration])
        return Variable(
            definition,
            spec,
            initializer=initializer,
            runner=self._fanout,
            ps_task=ps_task,
            device=definition.device if ps_task is None else f"/job:ps/task:{ps_task}",
        )

    def partitions_there(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> list[int] | None:
        """Returns how the cluster has cut a variable, as a partitioner does; None if it has it not whole and alike.

        Args:
            name: Full name of the whole.
            shape: Of the whole.
            dtype: Of the whole.
        """
        there = self._declarer.parts_there(name)
        counts = [len({part.slice.offset[axis] for part in there if part.slice}) for axis in range(len(shape))]
        if not there or len(there) != max(counts) or not shape[counts.index(max(counts))] >= len(there):
            return None
        expected = [
            VariableSpec(f"{name}/part_{index}", dtype, part_shape, PartitionSlice(name, shape, offset))
            for index, (offset, part_shape) in enumerate(parts(shape, counts))
        ]
        return counts if [_layout(spec) for spec in there] == [_layout(spec) for spec in expected] else None


def _layout(spec: VariableSpec) -> tuple[Any, ...]:
    return spec.name, spec.dtype, spec.shape, spec.slice
