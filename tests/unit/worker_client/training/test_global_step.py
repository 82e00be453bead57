"""The variable that counts training steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import pytest

from tests.unit.worker_client.naming_fakes import deferred_graph, eager_graph
from worker_client.graph.graph import Graph
from worker_client.graph.keys import GraphKeys
from worker_client.scopes.creation import new_variable
from worker_client.scopes.variable_scope import variable_scope
from worker_client.sessions.session import Session
from worker_client.training.global_step import (
    assert_global_step,
    create_global_step,
    get_global_step,
    get_or_create_global_step,
    global_step,
)
from worker_client.values.dtypes import int64


@pytest.fixture(params=[eager_graph, deferred_graph, Graph], ids=["eager", "deferred", "default"], autouse=True)
def graph(request: pytest.FixtureRequest) -> Iterator[Graph]:
    with cast(Graph, request.param()).as_default() as made:
        yield made


def test_there_is_none_until_it_is_made(graph: Graph) -> None:
    assert get_global_step() is None
    step = create_global_step()
    assert get_global_step() is get_global_step(graph) is get_or_create_global_step() is step
    assert (step.name, step.dtype, tuple(step.shape)) == ("global_step:0", int64, ())
    assert graph.get_collection(GraphKeys.GLOBAL_STEP) == graph.get_collection(GraphKeys.GLOBAL_VARIABLES) == [step]
    assert graph.get_collection(GraphKeys.TRAINABLE_VARIABLES) == []


def test_it_is_made_only_once(graph: Graph) -> None:
    step = get_or_create_global_step(graph)
    with pytest.raises(ValueError, match="global_step already exists"):
        create_global_step(graph)
    assert get_or_create_global_step() is step


def test_it_belongs_to_the_graph_that_is_given() -> None:
    other = deferred_graph()
    assert get_or_create_global_step(other).graph is other
    assert get_global_step() is None


def test_its_name_is_that_of_no_name_scope_but_of_the_variable_scope(graph: Graph) -> None:
    with variable_scope("a"), graph.name_scope("b"):
        assert create_global_step().name == "a/global_step:0"
        assert get_global_step() is not None


def test_a_variable_of_the_name_counts_as_it(graph: Graph) -> None:
    made = new_variable(np.int64(0), name="global_step", trainable=False)
    found = get_global_step()
    assert found.op is made.op


def test_of_several_none_is_it(graph: Graph, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("one", "two"):
        new_variable(np.int64(0), name=name, collections=[GraphKeys.GLOBAL_STEP])
    assert get_global_step() is None
    assert "2 members" in caplog.text


@pytest.mark.parametrize(("value", "message"), [(np.float32(0), "integer"), (np.zeros([2], np.int64), "scalar")])
def test_what_cannot_count_is_refused(value: object, message: str) -> None:
    new_variable(value, name="steps", collections=[GraphKeys.GLOBAL_STEP])
    with pytest.raises(TypeError, match=f"steps.*{message}"):
        get_global_step()


def test_a_session_reads_it() -> None:
    with Graph().as_default() as graph, Session(graph=graph) as session:
        step = create_global_step()
        session.run(step.initializer)
        session.run(step.assign_add(3))
        count = global_step(session, step)
    assert count == 3
    assert type(count) is int


def test_a_number_is_no_global_step() -> None:
    with pytest.raises(TypeError, match='"global_step" should be a variable or a tensor, not 3'):
        assert_global_step(3)
