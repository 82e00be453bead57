"""Initial values that are computed from other variables, made safe to compute in any order.

One run initialises many variables that have no value yet. So an initial value that reads another variable reads that
one's initial value while it has none; TensorFlow's ``_try_guard_against_uninitialized_dependencies``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from worker_client.graph.computation import VariableAccess
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Operation, OutputSpec, Tensor

_READS = ("VariableV2", "Identity")


def with_initialized_values(value: Tensor, variable: Operation) -> Tensor:
    """Returns a tensor that is computed like ``value``, but reads initialised values of variables.

    Args:
        value: An initial value; operations that have to change are copied.
        variable: Of the variable that it is for, after which copies are named.
    """
    replacements: dict[Operation, Operation] = {}
    for operation in _inputs_first(value.op):
        replacements[operation] = _replacement(operation, replacements, variable.name)
    return replacements[value.op].outputs[value.value_index]


def _replacement(operation: Operation, replacements: Mapping[Operation, Operation], suffix: str) -> Operation:
    computation = operation.computation
    if isinstance(computation, VariableAccess) and operation.type in _READS:
        return computation.variable.initialized_value().op
    inputs = [replacements[tensor.op].outputs[tensor.value_index] for tensor in operation.operands]
    if all(one is other for one, other in zip(inputs, operation.operands, strict=True)):
        return operation
    graph: Graph = operation.graph
    with graph.control_dependencies(None):
        return graph.create_op(
            operation.type,
            inputs,
            [OutputSpec(output.dtype, output.shape) for output in operation.outputs],
            name=f"{operation.name}_{suffix}",
            attributes=operation.attributes,
            computation=operation.computation,
            references=operation.references,
        )


def _inputs_first(last: Operation) -> Iterable[Operation]:
    """The operation and all that it is computed from, each behind its own inputs."""
    seen: set[Operation] = set()
    stack = [(last, False)]
    while stack:
        operation, has_inputs = stack.pop()
        if has_inputs:
            yield operation
        elif operation not in seen:
            seen.add(operation)
            stack.append((operation, True))
            stack.extend((tensor.op, False) for tensor in operation.operands)
