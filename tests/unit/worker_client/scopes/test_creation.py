"""``Variable(...)`` and the creators that it can be made through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest

from ps_protocol.errors import DTypeMismatchError, ShapeMismatchError, UnavailableError
from tests.unit.worker_client.naming_fakes import FakeVariable, eager_graph
from worker_client.graph.blocks import name_scope, variable_creator_scope
from worker_client.graph.definition import VariableDefinition
from worker_client.graph.graph import Graph
from worker_client.graph.keys import GraphKeys
from worker_client.scopes.creation import new_variable
from worker_client.scopes.pure_scope import ScopeStores
from worker_client.scopes.variable_scope import get_variable


@pytest.fixture(autouse=True)
def graph() -> Iterator[Graph]:
    with eager_graph().as_default() as made:
        yield made


def definition(*arguments: Any, **keywords: Any) -> VariableDefinition:
    return cast(FakeVariable, new_variable(*arguments, **keywords)).definition


def test_it_is_named_by_the_name_scope_and_not_found_again() -> None:
    with name_scope("a"):
        assert definition([1.0]).name == "a/Variable"
        made = definition([1.0], name="v")
    assert (made.name, made.key) == ("a/v", None)
    assert get_variable("a/v", [1]).definition.name == "a/v_1"


def test_what_the_cluster_does_not_answer_can_be_tried_again_under_its_name(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, failures = graph.variable_factory, [UnavailableError("gone"), UnavailableError("gone")]
    assert make is not None

    def fails_at_first(definition: VariableDefinition) -> Any:
        if failures:
            raise failures.pop()
        return make(definition)

    monkeypatch.setattr(graph, "variable_factory", fails_at_first)
    for _ in range(2):
        with name_scope("a"), pytest.raises(UnavailableError):
            new_variable(lambda: np.zeros(1), name="v")
    assert "a/v" not in [each.name for each in graph.get_operations()]
    with name_scope("a/"):
        assert definition(lambda: np.zeros(1), name="v").name == "a/v"
        assert definition([1.0], name="v").name == "a/v_1"


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [
        ([0.0], "float32", (1,)),
        (3, "int32", ()),
        (True, "bool", ()),
        ([2**40], "int64", (1,)),
        (np.zeros((2, 2)), "float64", (2, 2)),
        (np.int64(3), "int64", ()),
        (lambda: np.zeros(3, np.int8), "int8", (3,)),
        ("abc", "bytes24", ()),
    ],
)
def test_dtype_and_shape_follow_from_the_value(value: Any, dtype: str, shape: tuple[int, ...]) -> None:
    made = definition(value)
    assert (made.dtype.name, made.shape) == (dtype, shape)


def test_the_value_is_converted_where_nothing_is_lost() -> None:
    assert new_variable([1, 2], dtype="float64").array.tolist() == [1.0, 2.0]
    assert new_variable(np.zeros(2), dtype="int32").dtype == np.int32
    for lossy in ([1.5], np.array([1.5])):
        with pytest.raises(DTypeMismatchError, match="Variable"):
            new_variable(lossy, dtype="int32")


def test_it_starts_as_a_copy_of_its_value() -> None:
    value = np.zeros(2, np.float32)
    variable = new_variable(value)
    value += 1
    assert variable.array.tolist() == [0.0, 0.0]


def test_another_variable_can_be_the_value() -> None:
    first = new_variable(np.full(2, 3.0))
    second = new_variable(first)
    first.assign_add(1)
    assert (second.dtype.name, second.array.tolist()) == ("float64", [3.0, 3.0])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({}, "initial value"),
        ({"initial_value": 1.0, "name": "bad name"}, "bad name"),
        ({"initial_value": 1.0, "collections": "abc"}, "list of keys"),
        ({"initial_value": 1.0, "constraint": 3}, "constraint"),
        ({"initial_value": 1.0, "shape": [2]}, r"shape \[\], expected is \[2\]"),
        ({"variable_def": object()}, "variable_def"),
    ],
)
def test_arguments_are_checked(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        new_variable(**keywords)


def test_the_shape_must_agree_as_far_as_it_is_given() -> None:
    assert definition([1.0], shape=[None]).shape == (1,)
    with pytest.raises(ShapeMismatchError) as caught:
        new_variable([1.0], name="v", shape=[2])
    assert caught.value.variable == "v"


def test_collections(graph: Graph) -> None:
    first = new_variable(1.0, collections=("own",))
    second = new_variable(1.0, trainable=False)
    assert graph.get_collection("own") == [first]
    assert graph.get_collection(GraphKeys.TRAINABLE_VARIABLES) == [first]
    assert graph.get_collection(GraphKeys.GLOBAL_VARIABLES) == [second]


def test_the_container_is_noted(graph: Graph) -> None:
    with graph.container("box"):
        assert definition(1.0).op.get_attr("container") == b"box"


# -- creators ---------------------------------------------------------------------------------


def test_the_innermost_creator_is_called_first_and_may_change_the_arguments() -> None:
    called: list[tuple[str, str]] = []

    def making(label: str) -> Any:
        def creator(next_creator: Any, **keywords: Any) -> Any:
            called.append((label, keywords["name"]))
            keywords["name"] += label
            return next_creator(**keywords)

        return creator

    with variable_creator_scope(making("_outer")), variable_creator_scope(making("_inner")):
        names = [new_variable(1.0, name="v").name, get_variable("w", [1]).name]
    assert names == ["v_inner_outer:0", "w_inner_outer:0"]
    assert called == [("_inner", "v"), ("_outer", "v_inner"), ("_inner", "w"), ("_outer", "w_inner")]
    assert new_variable(1.0, name="x").name == "x:0"


def test_get_variable_finds_what_a_creator_returned_under_the_name_it_asked_for(graph: Graph) -> None:
    made = object.__new__(FakeVariable)

    def creator(next_creator: Any, **keywords: Any) -> Any:
        made.__dict__.update(next_creator(**keywords).__dict__)
        return made

    with variable_creator_scope(creator):
        assert get_variable("v", [1]) is made
    graph.slot(ScopeStores).here.current.reuse_variables()
    assert get_variable("v", [1]) is made


def test_a_creator_can_compute_the_initial_value() -> None:
    values: list[Any] = []

    def creator(next_creator: Any, **keywords: Any) -> Any:
        values.append(keywords["initial_value"]())
        return next_creator(**keywords)

    with variable_creator_scope(creator):
        get_variable("v", [2], initializer=lambda shape, dtype: np.full(shape, 2, dtype))
    assert values[0].tolist() == [2.0, 2.0]


def test_what_creators_pass_on_is_checked() -> None:
    with (
        variable_creator_scope(lambda next_creator, **keywords: next_creator(colour="red", **keywords)),
        pytest.raises(TypeError, match="colour"),
    ):
        new_variable(1.0)


def test_creators_have_priorities(graph: Graph) -> None:
    order: list[int] = []

    def making(number: int) -> Any:
        def creator(next_creator: Any, **keywords: Any) -> Any:
            order.append(number)
            return next_creator(**keywords)

        return creator

    with graph.variable_creator_scope(making(1), priority=200), graph.variable_creator_scope(making(2)):
        new_variable(1.0)
    assert order == [1, 2]


def test_creator_scopes_left_out_of_order_are_an_error(graph: Graph) -> None:
    outer, inner = (graph.variable_creator_scope(lambda next_creator, **keywords: None) for _ in range(2))
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(RuntimeError, match="creator scope"):
        outer.__exit__(None, None, None)
