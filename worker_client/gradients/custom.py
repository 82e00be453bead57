"""Functions that say their own gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred.building import constant_op
from worker_client.deferred.call import tensor_or_none
from worker_client.deferred.computed import computed
from worker_client.deferred.operands import constant_array
from worker_client.gradients.rules import GRADIENT_FUNCTION, Wanted
from worker_client.gradients.sums import Gradient, dense
from worker_client.graph.computation import Kernel
from worker_client.graph.default_graph import graph_of
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Operation, OutputSpec, Tensor
from worker_client.values.conversion import IndexedSlices
from worker_client.values.dtypes import as_dtype


def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a function one whose gradient is what it says itself.

    Variables that it reads, without being given them, get no gradient from it.

    Args:
        f: Takes tensors; returns a tensor or several, and a function of their gradients that returns those of ``f``'s
            arguments, one each.

    Returns:
        A function of the same arguments that returns the tensors alone.

    Raises:
        ValueError: When gradients are asked for: the function of ``f`` returns another number of them.
    """

    @functools.wraps(f)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        graph = graph_of(each for each in args if hasattr(each, "graph"))
        if not graph.deferred:
            return f(*args, **kwargs)[0]
        inputs = [_tensor(graph, each) for each in args]
        result, gradient_function = f(*inputs, **kwargs)
        is_one = not isinstance(result, list | tuple)
        results = [_tensor(graph, each) for each in ([result] if is_one else result)]
        number = len(results)
        outputs = graph.create_op(
            "IdentityN",
            [*results, *inputs],
            [OutputSpec(each.dtype, each.shape) for each in results],
            attributes={GRADIENT_FUNCTION: _rule(gradient_function, getattr(f, "__name__", "f"), number)},
            computation=Kernel(lambda *values: tuple(values[:number])),
        ).outputs
        return outputs[0] if is_one else type(result)(outputs)

    return decorated


def _tensor(graph: Graph, value: Any) -> Tensor:
    tensor = tensor_or_none(value)
    return constant_op(graph, constant_array(value, None, "custom_gradient"), "Const") if tensor is None else tensor


def _rule(gradient_function: Callable[..., Any], name: str, number: int) -> Callable[..., Sequence[Gradient | None]]:
    def rule(operation: Operation, gradients: Sequence[Gradient | None], wanted: Wanted) -> Sequence[Gradient | None]:
        del wanted
        given = [
            _zeros(output) if gradient is None else dense(gradient)
            for gradient, output in zip(gradients, operation.outputs, strict=True)
        ]
        returned = gradient_function(*given)
        found = list(returned) if isinstance(returned, list | tuple) else [returned]
        inputs = operation.inputs[number:]
        if len(found) != len(inputs):
            raise ValueError(
                f"the gradient function of {name} should return a gradient for each of the {len(inputs)} arguments, "
                f"not {len(found)}"
            )
        return [None] * number + [
            each if each is None or isinstance(each, IndexedSlices) else _tensor(operation.graph, each)
            for each in found
        ]

    return rule


def _zeros(output: Tensor) -> Tensor:
    if not output.shape.is_fully_defined():
        found: Tensor = computed("ZerosLike", np.zeros_like, [output], name="zeros_like")
        return found
    sizes: Any = output.shape.as_list()
    zeros: Array = np.zeros(sizes, as_dtype(output.dtype))
    return constant_op(output.graph, zeros, "zeros_like")
