"""Variables that hold their value in the test process, for tests of naming, reuse and placement."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ps_protocol.initial_values.compute import initial_value
from ps_protocol.operations import Array, Result, VariableSpec, WireDType
from worker_client.connection.fanout import Routed
from worker_client.graph.definition import VariableDefinition
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Operation
from worker_client.initializers.base import Initializer
from worker_client.values.dtypes import DType


class FakeVariable:
    """A variable with a value of its own. ``device`` is where a cluster would have put it.

    Attributes:
        definition: What naming has settled.
        array: The present value.
    """

    def __init__(self, definition: VariableDefinition):
        self.definition = definition
        self.device = definition.device or "/job:ps/task:7"
        self.op: Operation = definition.op
        self.graph: Graph = definition.graph
        initializer = definition.initializer
        assert isinstance(initializer, Initializer)
        self.ps_task = None
        self.spec = VariableSpec(definition.name, definition.dtype, definition.shape, definition.slice)
        self.array = initial_value(self.spec, initializer.spec(self.spec, 7)).copy()
        values_of(self.graph)[self.spec.name] = self.array

    @property
    def name(self) -> str:
        return f"{self.definition.name}:0"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.definition.shape

    @property
    def dtype(self) -> DType:
        return DType(self.definition.dtype)

    def read_value(self) -> Array:
        return self.array.copy()

    def pull_wire(self, name: str | None) -> WireDType:
        assert name is None
        return WireDType.EXACT

    @property
    def runner(self) -> FakeRunner:
        return FakeRunner(values_of(self.graph))

    def assign(self, value: npt.ArrayLike) -> FakeVariable:
        self.array[...] = value
        return self

    def assign_add(self, value: npt.ArrayLike) -> FakeVariable:
        self.array += np.asarray(value)
        return self

    def assign_sub(self, value: npt.ArrayLike) -> FakeVariable:
        self.array -= np.asarray(value)
        return self

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.array(self.array, dtype=dtype)


class FakeRunner:
    """Answers reads with the present values."""

    def __init__(self, values: Mapping[str, Array]):
        self._values = values

    def run_all(self, routed: Sequence[Routed]) -> list[Result]:
        return [Result(0, True, self._values[each.operation.name].copy()) for each in routed]


_VALUES: weakref.WeakKeyDictionary[Graph, dict[str, Array]] = weakref.WeakKeyDictionary()


def values_of(graph: Graph) -> dict[str, Array]:
    """The present values of a graph's variables, by full name."""
    return _VALUES.setdefault(graph, {})


def eager_graph() -> Graph:
    """A graph in which everything happens at once, as that of a connection."""
    return Graph(FakeVariable)


def deferred_graph() -> Graph:
    """A graph as TensorFlow's, whose operations wait for a session."""
    return Graph(FakeVariable, deferred=True)


def refusing_graph(error: Exception) -> Graph:
    """A graph whose cluster refuses every variable."""

    def refuse(_: VariableDefinition) -> Any:
        raise error

    return Graph(refuse)
