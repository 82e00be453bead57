"""Variables that are known by what the cluster says of them, and are no part of a connection's table of names."""

from __future__ import annotations

from collections.abc import Sequence

from ps_protocol.forks import new_lock
from ps_protocol.operations import VariableSpec
from worker_client.connection.fanout import Fanout
from worker_client.graph.definition import VariableAggregation, VariableDefinition, VariableSynchronization
from worker_client.graph.graph import Graph
from worker_client.graph.operation import OutputSpec
from worker_client.values.shapes import TensorShape
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.variable import Variable


class FoundVariables:
    """Makes them, each once. Thread-safe.

    Args:
        fanout: The way to the ps tasks.
    """

    def __init__(self, fanout: Fanout):
        self._fanout = fanout
        self._graph = Graph(deferred=False)  # of what is found
        self._lock = new_lock()  # guards: _found, _whole, and what is made in _graph
        self._found: dict[str, Variable] = {}
        self._whole: dict[str, PartitionedVariable] = {}

    def variable(self, spec: VariableSpec, ps_task: int | None) -> Variable:
        """The variable of a spec on a ps task, or without one in this worker's own store; the same object each time."""
        device = "" if ps_task is None else f"/job:ps/task:{ps_task}"
        with self._lock:
            known = self._found.get(spec.name)
            if known is not None:
                if (known.spec, known.ps_task) == (spec, ps_task):
                    return known
                self._graph.withdraw_op(known.op)  # the cluster has lost it, and has another of that name
            variable = Variable(
                self._definition(spec, device=device),
                spec,
                initializer=None,
                runner=self._fanout,
                ps_task=ps_task,
                device=device,
            )
            self._found[spec.name] = variable
            return variable

    def whole(
        self, name: str, shape: Sequence[int], parts: Sequence[Variable], partitions: Sequence[int]
    ) -> PartitionedVariable:
        """The variable that some parts make up, which ``variable`` has made; the same object each time."""
        with self._lock:
            known = self._whole.get(name)
            if known is None or list(known) != list(parts):
                known = PartitionedVariable(name, shape, parts[0].dtype, parts, partitions)
                self._whole[name] = known
            return known

    def _definition(self, spec: VariableSpec, *, device: str) -> VariableDefinition:
        op = self._graph.create_op(
            "VarHandleOp", outputs=[OutputSpec(spec.dtype, TensorShape(spec.shape))], name=f"{spec.name}/"
        )
        op.device = device
        return VariableDefinition(
            name=spec.name,
            key=None,
            dtype=spec.dtype,
            shape=spec.shape,
            initializer=None,
            initial_value=None,
            trainable=True,
            collections=(),
            device=device,
            slice=spec.slice,
            constraint=None,
            regularizer=None,
            caching_device=None,
            validate_shape=True,
            synchronization=VariableSynchronization.AUTO,
            aggregation=VariableAggregation.NONE,
            name_scope=f"{spec.name}/",
            op=op,
            graph=self._graph,
        )
