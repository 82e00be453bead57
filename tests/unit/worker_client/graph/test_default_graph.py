"""Which graph the module-level functions use."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from ps_protocol.errors import FailedPreconditionError
from tests.unit.worker_client.clusters import InProcessCluster
from tests.unit.worker_client.naming_fakes import deferred_graph, eager_graph
from worker_client import default_client
from worker_client.client import Client
from worker_client.embeddings.lookup import embedding_lookup
from worker_client.graph import defaults
from worker_client.graph.blocks import name_scope
from worker_client.graph.default_graph import get_default_graph, graph_of, reset_default_graph
from worker_client.graph.graph import Graph
from worker_client.initializers import ones_initializer
from worker_client.ops.collections import global_variables, trainable_variables
from worker_client.ops.initialization import global_variables_initializer, report_uninitialized_variables
from worker_client.scopes.arguments import AUTO_REUSE
from worker_client.scopes.variable_scope import get_local_variable, get_variable, variable_scope
from worker_client.sessions.session import Session


@pytest.fixture
def client() -> Iterator[Client]:
    connected = cast(Client, SimpleNamespace(graph=eager_graph()))
    with defaults.client_as_default(connected):
        yield connected


@pytest.fixture(autouse=True)
def _fresh_process_graph() -> Iterator[None]:
    yield
    reset_default_graph()


def test_without_a_connection_the_process_has_one_graph() -> None:
    graph = get_default_graph()
    assert graph is get_default_graph()
    reset_default_graph()
    assert get_default_graph() is not graph


def test_all_threads_share_the_graph_of_the_process() -> None:
    seen: list[Graph] = []
    thread = threading.Thread(target=lambda: seen.append(get_default_graph()))
    thread.start()
    thread.join()
    assert seen == [get_default_graph()]


def test_the_graph_of_the_connection_comes_before_that_of_the_process(client: Client) -> None:
    assert get_default_graph() is client.graph


def test_the_innermost_graph_comes_first(client: Client) -> None:
    outer, inner = deferred_graph(), deferred_graph()
    with outer.as_default() as entered:
        assert entered is outer
        with inner.as_default():
            assert get_default_graph() is inner
        assert get_default_graph() is outer
    assert get_default_graph() is client.graph


def test_graphs_left_out_of_order_are_an_error() -> None:
    outer, inner = deferred_graph().as_default(), deferred_graph().as_default()
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(RuntimeError, match="reverse order"):
        outer.__exit__(None, None, None)
    inner.__exit__(None, None, None)


def test_of_a_graph_and_a_connection_the_inner_one_comes_first(client: Client) -> None:
    graph = deferred_graph()
    with graph.as_default(), defaults.client_as_default(client):
        assert get_default_graph() is client.graph
        with graph.as_default():
            assert get_default_graph() is graph
            assert default_client.get_default_client() is client
        assert get_default_graph() is client.graph


def test_a_connection_entered_twice_is_left_from_the_inside_out(client: Client) -> None:
    other = cast(Client, SimpleNamespace(graph=eager_graph()))
    with defaults.client_as_default(other):
        with defaults.client_as_default(client):
            pass
        assert default_client.get_default_client() is other
    assert default_client.get_default_client() is client


@pytest.fixture
def opened_client() -> Iterator[Client]:
    """A connection that is open, but in no ``with`` statement."""
    connected = cast(Client, SimpleNamespace(graph=eager_graph()))
    defaults.opened(connected)
    yield connected
    defaults.closed(connected)


def test_outside_of_blocks_the_newest_connection_counts(opened_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "worker_client.compat.v1", raising=False)
    assert get_default_graph() is opened_client.graph
    before = opened_client.graph
    reset_default_graph()
    assert get_default_graph() is opened_client.graph is not before


def test_outside_of_blocks_programs_with_tensorflows_names_build_in_the_graph_of_the_process(
    opened_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "worker_client.compat.v1", ModuleType("v1"))
    graph = get_default_graph()
    assert graph is not opened_client.graph
    assert graph.deferred
    reset_default_graph()
    assert get_default_graph() is not graph
    assert default_client.find_default_client() is opened_client
    with defaults.client_as_default(opened_client):
        assert get_default_graph() is opened_client.graph


def test_importing_tensorflows_names_is_what_counts() -> None:
    program = (
        "from types import SimpleNamespace\n"
        "from worker_client import get_default_graph\n"
        "from worker_client.graph import defaults\n"
        "from worker_client.graph.graph import Graph\n"
        "client = SimpleNamespace(graph=Graph(deferred=False))\n"
        "defaults.opened(client)\n"
        "assert get_default_graph() is client.graph\n"
        "import worker_client.compat.v1 as tf\n"
        "assert tf.get_default_graph() is get_default_graph() is not client.graph\n"
        "assert isinstance(tf.get_variable('v', [1]), tf.Variable)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=50)


def test_without_a_connection_nothing_is_made_in_the_graph_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "worker_client.compat.v1", raising=False)
    makers: list[Callable[[], object]] = [
        lambda: get_variable("v", [1]),
        lambda: get_local_variable("v", [1]),
        global_variables_initializer,
        report_uninitialized_variables,
        global_variables,
        trainable_variables,
        lambda: embedding_lookup(np.ones((3, 2)), [0]),
        default_client.get_default_client,
        lambda: default_client.read_all([]),
    ]
    with variable_scope("scope", reuse=AUTO_REUSE):  # which may be opened
        for make in makers:
            with pytest.raises(FailedPreconditionError, match=r"not connected: call ss\.connect\(\) first"):
                make()
    assert get_default_graph().get_operations() == []


def test_who_connects_inside_of_a_scope_is_told_where_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "worker_client.compat.v1", raising=False)
    with InProcessCluster() as cluster, variable_scope("scope"):
        client = cluster.client()
        with pytest.raises(FailedPreconditionError, match=r"inside of a variable_scope .* connect before the block"):
            get_variable("v", [1])
        with client.as_default():
            assert get_variable("v", [1]).name == "v:0"


def test_without_a_connection_a_graph_is_built_where_the_program_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "worker_client.compat.v1", raising=False)
    with Graph().as_default():
        assert get_variable("v", [1]).graph is get_default_graph()
        assert global_variables_initializer() is not None
    with Session() as session:
        v = get_variable("v", [1], initializer=ones_initializer())
        session.run(global_variables_initializer())
        assert session.run(v) == [1.0]
    assert get_variable("w", [1]).graph is session.graph
    reset_default_graph()
    with pytest.raises(FailedPreconditionError, match="not connected"):
        get_variable("v", [1])


def test_resetting_empties_the_graph_of_the_connection(client: Client) -> None:
    before = client.graph
    before.create_op("Add")
    reset_default_graph()
    assert client.graph is get_default_graph() is not before
    assert client.graph.variable_factory is before.variable_factory
    assert client.graph.get_operations() == []


def test_resetting_inside_another_graph_is_an_error() -> None:
    with deferred_graph().as_default(), pytest.raises(RuntimeError, match="leave the block"):
        reset_default_graph()


def test_values_say_which_graph_is_meant() -> None:
    graph, other = deferred_graph(), deferred_graph()
    operation = graph.create_op("Add")
    assert graph_of([1.0, operation]) is graph
    assert graph_of([1.0]) is get_default_graph()
    with pytest.raises(ValueError, match="another graph"):
        graph_of([operation, other.create_op("Add")])


def test_a_name_scope_opens_in_the_graph_of_its_values() -> None:
    graph = deferred_graph()
    operation = graph.create_op("Add")
    with deferred_graph().as_default(), name_scope("a", values=[operation]) as scope:
        assert scope == "a/"
        assert get_default_graph() is graph
        assert graph.get_name_scope() == "a"
    assert graph.get_name_scope() == ""


def test_a_name_scope_takes_the_default_name_and_needs_one_of_both() -> None:
    with deferred_graph().as_default():
        with name_scope(None, "d", []) as scope:
            assert scope == "d/"
        with name_scope("n", "d") as scope:
            assert scope == "n/"
        with pytest.raises(ValueError, match="needs a name"), name_scope(None, values=[]):
            pass
    with pytest.raises(TypeError, match="default_name"):
        name_scope(None, cast(str, ["values", "in the wrong place"]))


def test_a_name_scope_can_be_entered_again() -> None:
    with deferred_graph().as_default():
        scope = name_scope("a")
        assert scope.name == "a"
        with scope as first, scope as inner:
            assert (first, inner) == ("a/", "a/a/")
        with scope as second:
            assert second == "a_1/"


class Interrupt(BaseException):
    """What a signal handler raises."""


@pytest.mark.parametrize("make", [defaults.graph_as_default, defaults.client_as_default])
def test_a_block_that_was_interrupted_while_it_was_entered_neither_stays_nor_hides_the_interrupt(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[Any], AbstractContextManager[Any]]
) -> None:
    def push(entry: defaults.Default) -> None:
        defaults.STACK._entries.append(entry)
        raise Interrupt

    outer, inner = deferred_graph(), deferred_graph()

    def enter_both() -> None:
        with outer.as_default():
            monkeypatch.setattr(defaults.STACK, "push", push)
            with make(inner):
                pass

    with pytest.raises(Interrupt):
        enter_both()
    assert not list(defaults.STACK)


def test_an_error_in_a_block_is_not_hidden_by_blocks_inside_that_are_still_open() -> None:
    def leave_open() -> None:
        with Graph().as_default():
            defaults.enter(Graph())
            raise KeyError

    with pytest.raises(KeyError):
        leave_open()
    assert not list(defaults.STACK)
