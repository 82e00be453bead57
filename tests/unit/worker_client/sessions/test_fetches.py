"""Structures of fetches: taken apart, run, and put together again."""

from __future__ import annotations

from collections import namedtuple
from typing import Any, NamedTuple

import numpy as np
import pytest

from worker_client.deferred.call import deferred_call
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Tensor
from worker_client.initializers import constant_initializer
from worker_client.scopes.creation import new_variable
from worker_client.scopes.variable_scope import get_variable
from worker_client.sessions.fetches import Fetches, tensor_of_graph
from worker_client.variables.partitioners import fixed_size_partitioner

pytestmark = pytest.mark.usefixtures("graph")


class Pair(NamedTuple):
    """One of each."""

    left: Any
    right: Any


Untyped = namedtuple("Untyped", ["only"])


def number(value: float, name: str = "number") -> Tensor:
    return deferred_call(np.add, [value, 0.0], op_type="Number", name=name)


def fetched(graph: Graph, structure: Any) -> Any:
    """The structure with the names of tensors instead of values."""
    fetches = Fetches(graph, structure)
    return fetches.structured([np.array(tensor.name) for tensor in fetches.tensors])


def test_structures_keep_their_form(graph: Graph) -> None:
    a, b = number(1, "a"), number(2, "b")
    assert fetched(graph, a) == "a:0"
    assert fetched(graph, [a, (b, a)]) == ["a:0", ("b:0", "a:0")]
    assert fetched(graph, {"x": a, "y": [b]}) == {"x": "a:0", "y": ["b:0"]}
    assert fetched(graph, Pair(a, Untyped(b))) == Pair("a:0", Untyped("b:0"))
    assert fetched(graph, []) == []
    assert fetched(graph, ((), {})) == ((), {})


def test_operations_run_and_give_none(graph: Graph) -> None:
    a = number(1, "a")
    fetches = Fetches(graph, {"run": a.op, "value": a})
    assert (fetches.operations, fetches.tensors) == ([a.op], [a])
    assert fetches.structured([np.array(3.0)]) == {"run": None, "value": 3.0}


def test_names_stand_for_what_they_name(graph: Graph) -> None:
    a = number(1, "scope/a")
    fetches = Fetches(graph, ["scope/a:0", "scope/a"])
    assert (fetches.operations, fetches.tensors) == ([a.op], [a])


def test_scalars_come_as_scalars(graph: Graph) -> None:
    value = Fetches(graph, number(1)).structured([np.array(1.5)])
    assert isinstance(value, np.float64)


def test_variables_stand_for_their_values(graph: Graph) -> None:
    v = new_variable(np.float32(1))
    assert Fetches(graph, v).tensors == [v.value()]


def test_a_partitioned_variable_is_put_together_without_an_operation(graph: Graph) -> None:
    whole = get_variable("whole", [3], initializer=constant_initializer(0), partitioner=fixed_size_partitioner(2))
    before = len(graph.get_operations())
    fetches = Fetches(graph, [whole])
    assert [tensor.name for tensor in fetches.tensors] == ["whole/part_0/read:0", "whole/part_1/read:0"]
    assert fetches.structured([np.array([1, 2]), np.array([3])])[0].tolist() == [1, 2, 3]
    assert len(graph.get_operations()) == before


@pytest.mark.parametrize("nothing", [None, 3, object(), np.zeros(2), Graph()])
def test_what_is_nothing_of_a_graph_is_refused(graph: Graph, nothing: Any) -> None:
    with pytest.raises(TypeError, match="cannot be fetched: it is a"):
        Fetches(graph, [number(1), nothing])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "'missing' cannot be fetched: the graph has no operation 'missing'"),
        ("missing:0", "'missing:0' cannot be fetched"),
        ("number:1", "'number:1' cannot be fetched: operation 'number' has no output 1"),
        ("number:x", "'number:x' is not the name of a tensor"),
    ],
)
def test_names_of_nothing_are_refused(graph: Graph, name: str, reason: str) -> None:
    number(1)
    with pytest.raises(ValueError, match=reason):
        Fetches(graph, name)


def test_elements_of_another_graph_are_refused(graph: Graph) -> None:
    with Graph().as_default():
        stranger, variable = number(1, "scope/stranger"), new_variable(np.float32(1), name="theirs")
    for fetch in (stranger, stranger.op, [variable]):
        with pytest.raises(ValueError, match=r"(scope/stranger|theirs).* cannot be fetched: it belongs to another"):
            Fetches(graph, fetch)


def test_only_tensors_are_fed(graph: Graph) -> None:
    a = number(1, "a")
    assert tensor_of_graph(graph, "a:0", "fed") is a
    with pytest.raises(TypeError, match="operation a cannot be fed; name one of its tensors, such as a:0"):
        tensor_of_graph(graph, a.op, "fed")
