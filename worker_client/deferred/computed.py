"""Applies an operation of TensorFlow's to whatever users give: a tensor in a graph, elsewhere the result at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred.building import QuietFunction, built_op, checked_dtypes
from worker_client.deferred.call import is_deferred, tensor_or_none
from worker_client.deferred.operands import operands_of
from worker_client.graph.default_graph import graph_of
from worker_client.graph.graph import Graph
from worker_client.op_definitions.op_def import Output
from worker_client.op_definitions.op_defs import OP_DEFS


def computed(
    op_type: str,
    function: Callable[..., Any],
    values: Sequence[Any],
    *,
    name: str | None = None,
    dtype: Output | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Any:
    """Adds an operation with one output, or calls its function now if neither values nor default graph are deferred.

    Args:
        op_type: A type that has a definition.
        function: Computes the output from arrays, one for each input; nothing else matters to it.
        values: One for each argument of the definition: tensors, variables, arrays, numbers, lists of those. What is
            known now becomes constants of the graph, named after the arguments.
        name: Name within the name scope; ``op_type`` if not given.
        dtype: Of the output, if not that which the definition says; or one for each.
        attributes: Of the operation.

    Returns:
        The output, or the function's result: an array, or a NumPy scalar.

    Raises:
        TypeError: The dtypes are not those that such operations take.
        ValueError: The shapes do not fit, or the values belong to several graphs.
    """
    outputs = all_computed(op_type, function, values, name=name, dtype=dtype, attributes=attributes)
    return outputs[0]


def all_computed(
    op_type: str,
    function: Callable[..., Any],
    values: Sequence[Any],
    *,
    name: str | None = None,
    dtype: Output | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> list[Any]:
    """Does what ``computed`` does; returns all outputs."""
    graph = deferred_graph(values)
    if graph is None:
        result = QuietFunction(function)(*arrays_of(op_type, values))
        return list(result) if isinstance(result, tuple) else [np.asarray(result)[()]]
    definition = OP_DEFS[op_type]
    if all(is_deferred(each) for each in values):
        inputs = [tensor for tensor in map(tensor_or_none, values) if tensor is not None]
        try:
            return built_op(graph, op_type, function, inputs, name=name, dtype=dtype, attributes=attributes).outputs
        except (TypeError, ValueError):
            graph.unique_name(name or op_type)  # it is taken, as in TensorFlow
            raise
    with graph.name_scope(name or op_type) as scope:
        inputs = operands_of(op_type, definition, values, graph)
        return built_op(graph, op_type, function, inputs, name=scope, dtype=dtype, attributes=attributes).outputs


def arrays_of(op_type: str, values: Sequence[Any]) -> list[Array]:
    """Returns the operands of an operation that is to be computed now; raises as ``computed``."""
    operands = operands_of(op_type, OP_DEFS[op_type], values, None)
    checked_dtypes(OP_DEFS[op_type], op_type, None, operands)
    return operands


def deferred_graph(values: Sequence[Any]) -> Graph | None:
    """Returns the graph that an operation on some values belongs to; None if it is to be computed now."""
    graph = graph_of(_deferred_in(values))
    return graph if graph.deferred or next(_deferred_in(values), None) is not None else None


def _deferred_in(values: Sequence[Any]) -> Iterator[Any]:
    for each in values:
        if is_deferred(each):
            yield each
        elif isinstance(each, list | tuple):
            yield from _deferred_in(each)
