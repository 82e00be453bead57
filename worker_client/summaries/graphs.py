"""A graph as TensorBoard shows it."""

from __future__ import annotations

from typing import Any

from worker_client.graph.graph import Graph
from worker_client.summaries.protos import message_type


def graph_message(graph: Any) -> Any:
    """Returns the ``GraphDef`` of a graph: names, types, inputs, control inputs and devices, without values.

    Raises:
        TypeError: It is no graph.
    """
    if not isinstance(graph, Graph):
        raise TypeError(f"The passed graph must be an instance of `Graph`, not {type(graph).__name__}")
    message = message_type("GraphDef")()
    for operation in graph.get_operations():
        inputs = [each.name.removesuffix(":0") for each in operation.inputs]
        inputs += [f"^{each.name}" for each in operation.control_inputs]
        message.node.add(name=operation.name, op=operation.type, device=operation.device or "", input=inputs)
    return message
