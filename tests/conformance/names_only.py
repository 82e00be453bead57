"""TensorFlow 1's names over the client's graph, scopes and placement, with variables that hold no value.

It offers what the programs of ``reference/scope_programs.py`` use. Everything that they observe, names, scopes, reuse,
devices, collections, comes from ``worker_client``; only the variables and the few operations are stand-ins.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import numpy.typing as npt

from worker_client import graph
from worker_client.default_graph import get_default_graph, graph_of
from worker_client.dtypes import DType, as_dtype, float32, float64, int32
from worker_client.graph_collections import get_collection
from worker_client.graph_scopes import colocate_with, device, name_scope
from worker_client.initial_value import tensor_value
from worker_client.initializers import constant_initializer
from worker_client.operation import Operation, OutputSpec, Tensor
from worker_client.partitioners import (
    fixed_size_partitioner,
    min_max_variable_partitioner,
    variable_axis_size_partitioner,
)
from worker_client.placement import replica_device_setter
from worker_client.tensor_shape import TensorShape
from worker_client.variable_creation import new_variable
from worker_client.variable_definition import VariableDefinition
from worker_client.variable_scope import (
    AUTO_REUSE,
    get_local_variable,
    get_variable,
    get_variable_scope,
    variable_scope,
)

__all__ = [
    "AUTO_REUSE",
    "Graph",
    "Variable",
    "add",
    "colocate_with",
    "constant",
    "constant_initializer",
    "device",
    "fixed_size_partitioner",
    "float32",
    "float64",
    "get_collection",
    "get_default_graph",
    "get_local_variable",
    "get_variable",
    "get_variable_scope",
    "int32",
    "min_max_variable_partitioner",
    "name_scope",
    "reduce_sum",
    "train",
    "variable_axis_size_partitioner",
    "variable_scope",
]

train = SimpleNamespace(replica_device_setter=replica_device_setter)
Variable = new_variable


class NamedVariable:
    """A variable without a value; makes the operations that TensorFlow makes for one."""

    def __init__(self, definition: VariableDefinition):
        self.definition = definition
        reference = definition.op.outputs[0]
        here = definition.graph
        here.create_op("Assign", [reference], [_like(reference)], name="Assign")
        with here.colocate_with(definition.op):
            self._snapshot = here.create_op("Identity", [reference], [_like(reference)], name="read").outputs[0]

    @property
    def name(self) -> str:
        return f"{self.definition.name}:0"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.definition.shape

    @property
    def dtype(self) -> DType:
        return DType(self.definition.dtype)

    @property
    def device(self) -> str:
        return self.definition.device

    @property
    def op(self) -> Operation:
        return self.definition.op

    @property
    def graph(self) -> graph.Graph:
        return self.definition.graph

    def value(self) -> Tensor:
        return self._snapshot

    def __add__(self, other: NamedVariable) -> Tensor:
        return add(self, other, name="add")


class Graph(graph.Graph):
    """A graph of operations that are named and placed but never run."""

    def __init__(self) -> None:
        super().__init__(NamedVariable, deferred=True)


def constant(value: npt.ArrayLike, name: str = "Const") -> Tensor:
    array = tensor_value(value, name)
    return _operation("Const", [], OutputSpec(array.dtype, TensorShape(array.shape)), name)


def add(x: NamedVariable, y: NamedVariable, name: str = "Add") -> Tensor:
    return _operation("AddV2", [x.value(), y.value()], _like(x.value()), name)


def reduce_sum(x: NamedVariable, name: str = "Sum") -> Tensor:
    scalar = OutputSpec(np.dtype(np.int32), TensorShape([]))
    rank = len(x.shape)
    if rank:
        axes = _operation("Const", [], OutputSpec(np.dtype(np.int32), TensorShape([rank])), "Const")
    else:
        axes = _operation("Range", [_operation("Const", [], scalar, "Rank")], scalar, "range")
    return _operation("Sum", [x.value(), axes], OutputSpec(as_dtype(x.dtype), TensorShape([])), name)


def _operation(op_type: str, inputs: list[Tensor], output: OutputSpec, name: str) -> Tensor:
    return graph_of(inputs).create_op(op_type, inputs, [output], name=name).outputs[0]


def _like(tensor: Tensor) -> OutputSpec:
    return OutputSpec(tensor.dtype, tensor.shape)
