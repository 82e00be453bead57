"""Connections, variables, graphs and sessions in a forked child: the parent's raise, and those of its own work."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.errors import FailedPreconditionError
from tests.forked import error_in_child, error_of, in_child
from tests.unit.worker_client.clusters import TIMEOUT_S, InProcessCluster
from worker_client.client import Client
from worker_client.default_client import find_default_client
from worker_client.deferred.partitioned import PartitionedDeferredVariable
from worker_client.graph.graph import Graph
from worker_client.initializers import Zeros
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.partitioners import fixed_size_partitioner
from worker_client.variables.variable import Variable

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(autouse=True)
def _is_no_program_of_tf1(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one, the default graph outside of all blocks is no connection's; other tests of this process import it."""
    monkeypatch.delitem(sys.modules, "worker_client.compat.v1", raising=False)


@pytest.fixture
def client(cluster: InProcessCluster) -> Client:
    return cluster.client()


class Model:
    """Something of every kind that uses a connection, made by the parent."""

    def __init__(self, client: Client):
        self.client = client
        with client.as_default():
            self.whole: Variable = ss.get_variable("whole", [4], initializer=Zeros())
            self.local: Variable = ss.get_local_variable("local", [4], initializer=Zeros())
            self.parts: PartitionedVariable = ss.get_variable(
                "parts", [4, 2], initializer=Zeros(), partitioner=fixed_size_partitioner(2)
            )
            self.mirror = client.mirror([self.whole, self.parts])
        self.graph = Graph()
        with self.graph.as_default():
            self.deferred: Any = ss.get_variable("deferred", [2], initializer=Zeros())
            self.deferred_parts: PartitionedDeferredVariable = ss.get_variable(
                "deferred_parts", [4, 2], initializer=Zeros(), partitioner=fixed_size_partitioner(2)
            )
            self.session = ss.Session(client)
            self.session.run(ss.global_variables_initializer())


USES: dict[str, Callable[[Model], object]] = {
    "read": lambda model: model.whole.numpy(),
    "in place of its value": lambda model: model.whole + 1,
    "assign": lambda model: model.whole.assign(np.ones(4)),
    "assign_add": lambda model: model.whole.assign_add(1.0),
    "queued": lambda model: model.whole.assign_add(1.0, wait=False),
    "lossy": lambda model: model.whole.assign_add(np.ones(4), wire_dtype="int8"),
    "gather": lambda model: model.whole.gather([1]),
    "scatter": lambda model: model.whole.scatter_add([1], [1.0]),
    "version": lambda model: model.whole.version,
    "if newer": lambda model: model.whole.read_if_newer(0),
    "local": lambda model: model.local.numpy(),
    "parts": lambda model: model.parts.as_tensor(),
    "parts, updated": lambda model: model.parts.assign_add(np.ones([4, 2])),
    "read_all": lambda model: model.client.read_all([model.whole, model.parts]),
    "assign_add_all": lambda model: ss.assign_add_all([(model.whole, 1.0), (model.parts, np.ones([4, 2]))]),
    "assign_add_all, queued": lambda model: ss.assign_add_all([(model.whole, 1.0)], wait=False),
    "mirror": lambda model: model.mirror.pull(),
    "new variable": lambda model: ss.get_variable("new", [2]),
    "new parts": lambda model: ss.get_variable("new", [4], partitioner=fixed_size_partitioner(2)),
    "report_step": lambda model: model.client.report_step(1),
    "session": lambda model: model.session.run(model.deferred),
    "session, parts": lambda model: model.session.run(model.deferred_parts.as_tensor()),
    "load": lambda model: model.deferred.load([1.0, 2.0], model.session),
}


@pytest.mark.parametrize("use", USES)
def test_every_use_of_the_parents_connection_raises(client: Client, use: str) -> None:
    model = Model(client)
    error = error_in_child(lambda: USES[use](model))
    assert isinstance(error, FailedPreconditionError), error
    assert "call connect() in this process" in str(error)
    model.whole.assign_add(1.0)
    assert (model.whole.numpy() == 1).all()
    assert model.whole.version == 1


def test_nothing_of_the_client_is_waited_for_that_another_thread_held(client: Client) -> None:
    model = Model(client)
    feedback = model.whole._feedback._lock
    held, over = threading.Event(), threading.Event()

    locks = [feedback, model.session._runtime._lock, client._report_lock, client.fanout.handle(0)._order._lock]
    locks += [client.graph.collections._lock, model.graph._names._table._lock]

    def hold() -> None:
        with ExitStack() as entered:
            for lock in locks:
                entered.enter_context(lock)
            held.set()
            over.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    try:
        errors = in_child(lambda: {name: error_of(lambda use=use: use(model)) for name, use in USES.items()})  # type: ignore[misc]
    finally:
        over.set()
        thread.join(60)
    assert {name: type(error) for name, error in errors.items()} == dict.fromkeys(USES, FailedPreconditionError)


def test_blocks_of_the_parent_are_left_in_the_child_without_a_word_to_the_ps(cluster: InProcessCluster) -> None:
    client = cluster.client()
    with ExitStack() as blocks:
        blocks.enter_context(client)
        blocks.enter_context(ss.variable_scope("scope"))
        blocks.enter_context(ss.device("/job:ps/task:0"))

        def leave() -> tuple[int, int]:
            blocks.close()
            client.close()
            return len(cluster.tasks[0].list_members(timeout_s=TIMEOUT_S)), cluster.batches()[0]

        assert in_child(leave) == (1, 0), "the ps tasks are in this process, and so copied too"
        variable = ss.get_variable("v", [2], initializer=Zeros())
        assert variable.name == "scope/v:0"


def test_a_private_session_is_its_process_s_too() -> None:
    graph = Graph()
    with graph.as_default():
        variable: Any = ss.get_variable("v", [2], initializer=Zeros())
        with ss.Session() as session:
            session.run(variable.initializer)
            assert isinstance(error_in_child(lambda: session.run(variable)), FailedPreconditionError)

            def another() -> list[float]:
                with ss.Session() as mine:
                    mine.run(variable.initializer)
                    return list(mine.run(variable))

            assert in_child(another) == [0.0, 0.0]
            assert list(session.run(variable)) == [0.0, 0.0]


def test_a_child_that_connects_uses_its_own_connection(cluster: InProcessCluster, client: Client) -> None:
    with client.as_default():
        ours = ss.get_variable("v", [2], initializer=Zeros())

        def child() -> tuple[bool, float, list[str], bool, bool]:
            mine = cluster.client(1)
            variable = ss.get_variable("v", [2], initializer=Zeros())  # the name is free here
            variable.assign_add(1.0)
            (value,) = ss.read_all([variable])
            names = [each.name for each in ss.get_default_graph().get_collection(ss.GraphKeys.GLOBAL_VARIABLES)]
            is_default = find_default_client() is mine
            mine.close()
            return variable is not ours, float(value[0]), names, is_default, find_default_client() is client

        assert in_child(child) == (True, 1.0, ["v:0"], True, True)
        assert find_default_client() is client
    ours.assign_add(1.0)
    assert (ours.numpy() == 1).all()  # these ps tasks are in the process that was forked


def test_inside_a_block_of_the_parent_a_child_builds_no_graph_though_tf1s_names_are_imported(
    monkeypatch: pytest.MonkeyPatch, cluster: InProcessCluster, client: Client
) -> None:
    def made() -> object:
        return ss.get_variable("v", [2], initializer=Zeros())

    def child() -> tuple[type[BaseException] | None, bool]:
        refused = error_of(made)
        with cluster.client(1):
            return type(refused) if refused else None, isinstance(made(), Variable)

    def child_without_a_block() -> tuple[bool, str]:
        cluster.client(1)
        eager = made()
        block.close()
        return isinstance(eager, Variable), type(made()).__name__

    monkeypatch.setitem(sys.modules, "worker_client.compat.v1", ss)
    with ExitStack() as block:
        block.enter_context(client.as_default())
        assert in_child(child) == (FailedPreconditionError, True)
        assert in_child(child_without_a_block) == (True, "DeferredVariable")


def test_a_name_that_another_thread_was_creating_is_free_in_the_child(cluster: InProcessCluster) -> None:
    cluster.client()
    graph = Graph()
    creating, over = threading.Event(), threading.Event()

    def slow(*_: object, **__: object) -> np.ndarray[Any, Any]:
        creating.set()
        over.wait(60)
        return np.zeros(2, np.float32)

    def create() -> None:
        with graph.as_default():
            ss.get_variable("v", [2], initializer=slow)

    thread = threading.Thread(target=create)
    thread.start()
    assert creating.wait(60)

    def child() -> str:
        with graph.as_default():
            made: Any = ss.get_variable("v", [2], initializer=Zeros())
        return str(made.op.type)

    try:
        assert in_child(child) == "VariableV2"
    finally:
        over.set()
        thread.join(60)


def test_without_a_connection_in_the_parent_a_child_is_as_any_process() -> None:
    assert in_child(find_default_client) is None
