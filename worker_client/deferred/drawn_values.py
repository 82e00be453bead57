"""The operations that stand for an initial value of random numbers: bounds, a draw, and what scales it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np

from ps_protocol.initial_values.random_draws import scaled_kind
from ps_protocol.initializer_spec import RandomNormalKind, RandomUniformKind, TruncatedNormalKind, VarianceScalingKind
from ps_protocol.operations import Array, VariableSpec
from worker_client.deferred.building import built_op, constant_op
from worker_client.graph.computation import SeededKernel
from worker_client.graph.graph import Graph
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.values.dtypes import DType

Drawn: TypeAlias = RandomUniformKind | RandomNormalKind | TruncatedNormalKind

_OP_TYPES: Final = {
    RandomUniformKind: "RandomUniform",
    RandomNormalKind: "RandomStandardNormal",
    TruncatedNormalKind: "TruncatedNormal",
}


def drawn_kind(kind: object, spec: VariableSpec) -> Drawn | None:
    """Returns the distribution of a described initial value, None if its elements are not drawn one by one."""
    if isinstance(kind, VarianceScalingKind):
        return scaled_kind(spec, kind)
    return kind if isinstance(kind, RandomUniformKind | RandomNormalKind | TruncatedNormalKind) else None


def drawn_value(
    graph: Graph, kind: Drawn, sizes: Array, output: OutputSpec, value: Callable[[int], Array], scope: str
) -> Tensor:
    """Adds the operations to a graph.

    Args:
        graph: To which.
        kind: The distribution.
        sizes: The shape of the value.
        output: What the value looks like.
        value: Makes it, of the job's seed, as the ps does.
        scope: The name scope that is open, which names the last of the operations.
    """
    shape = constant_op(graph, sizes, "shape")
    is_uniform = isinstance(kind, RandomUniformKind)
    names, numbers = ("mean", "stddev"), (0.0, 0.0)
    if isinstance(kind, RandomUniformKind):
        names, numbers = ("min", "max"), (kind.minval, kind.maxval)
    else:
        numbers = (kind.mean, kind.stddev)
    first, second = (
        constant_op(graph, np.asarray(number).astype(output.dtype), name)
        for name, number in zip(names, numbers, strict=True)
    )

    def last(job_seed: int, *_: Array) -> Array:
        return value(job_seed)

    dtype = DType.of(output.dtype)
    seeds: dict[str, Any] = {"seed": 0, "seed2": 0, "T": shape.dtype}
    if dtype.is_integer:
        attributes = {**seeds, "Tout": dtype}
        return _added(graph, "RandomUniformInt", [shape, first, second], output, scope, attributes, last)

    least, width = numbers[0], numbers[1] - numbers[0] if is_uniform else numbers[1]

    def drawn(job_seed: int, *_: Array) -> Array:
        return np.asarray((value(job_seed) - least) / (width or 1.0), output.dtype)

    op_type = _OP_TYPES[type(kind)]
    number = _added(graph, op_type, [shape], output, op_type, {**seeds, "dtype": dtype}, drawn)
    if is_uniform:
        second = built_op(graph, "Sub", np.subtract, [second, first], name="sub").outputs[0]
    scaled = built_op(graph, "Mul", np.multiply, [number, second], name="mul").outputs[0]
    return _added(graph, "AddV2", [scaled, first], output, scope, {"T": dtype}, last)


def _added(
    graph: Graph,
    op_type: str,
    inputs: list[Tensor],
    output: OutputSpec,
    name: str,
    attributes: dict[str, Any],
    function: Callable[..., Array],
) -> Tensor:
    computation = SeededKernel(function)
    return graph.create_op(
        op_type, inputs, [output], name=name, attributes=attributes, computation=computation
    ).outputs[0]
