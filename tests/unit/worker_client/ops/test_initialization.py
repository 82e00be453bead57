"""Initialisers: what they initialise, with how many exchanges, and who waits for whom."""

from __future__ import annotations

import logging
import random
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import DeadlineExceededError, FailedPreconditionError
from ps_protocol.operations import Declare
from tests.unit.worker_client.clusters import InProcessCluster
from worker_client.client import Client
from worker_client.connection.fanout import Routed
from worker_client.connection.retry import RetryPolicy
from worker_client.connection.settings import Settings
from worker_client.graph.graph import Graph
from worker_client.initializers import constant_initializer
from worker_client.ops.initialization import (
    assert_variables_initialized,
    global_variables_initializer,
    initialize_all_variables,
    local_variables_initializer,
    report_uninitialized_variables,
    variables_initializer,
)
from worker_client.ops.state_ops import is_variable_initialized
from worker_client.scopes.creation import new_variable
from worker_client.scopes.variable_scope import get_local_variable, get_variable
from worker_client.sessions.initialization_wait import InitializationWait
from worker_client.sessions.session import Session
from worker_client.variables.partitioners import fixed_size_partitioner

ONE = constant_initializer(1)


class Waiting:
    """A clock that only moves when somebody waits, and lets things happen meanwhile."""

    def __init__(self, *events: Any) -> None:
        self.now_s = 0.0
        self.events = list(events)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        if self.events:
            self.events.pop(0)()

    def settings(self, timeout_s: float = 60.0) -> Settings:
        policy = RetryPolicy(random=random.Random(1), sleep=self.sleep, clock=lambda: self.now_s)
        return Settings(connect_timeout_s=timeout_s, retry=policy)


# -- in a graph -------------------------------------------------------------------------------------


def test_one_run_initialises_all_global_variables_and_no_local_one(graph: Graph) -> None:
    v, w = get_variable("v", [2], initializer=ONE), get_variable("w", [3], initializer=ONE)
    local = get_local_variable("local", [2], initializer=ONE)
    init = global_variables_initializer()
    assert init is not None
    assert (init.name, init.type) == ("init", "NoOp")
    with Session(graph=graph) as session:
        assert session.run(init) is None
        assert [value.tolist() for value in session.run([v, w])] == [[1, 1], [1, 1, 1]]
        assert not session.run(is_variable_initialized(local))
        session.run(local_variables_initializer())
        assert session.run(local).tolist() == [1, 1]


def test_names(graph: Graph) -> None:
    v = get_variable("v", [2])
    made = [initialize_all_variables(), variables_initializer([v], name="mine"), variables_initializer([])]
    assert [each and each.name for each in made] == ["init", "mine", "init_1"]


def test_an_initialiser_that_is_run_again_initialises_again(graph: Graph) -> None:
    v = get_variable("v", [2], initializer=ONE)
    init = global_variables_initializer()
    with Session(graph=graph) as session:
        session.run(init)
        session.run(v.assign([5, 5]))
        session.run(init)
        assert session.run(v).tolist() == [1, 1]


def test_parts_are_initialised_with_the_whole(graph: Graph) -> None:
    whole = get_variable("whole", [4], initializer=ONE, partitioner=fixed_size_partitioner(2))
    with Session(graph=graph) as session:
        session.run(variables_initializer([whole]))
        assert session.run(whole).tolist() == [1, 1, 1, 1]


def test_one_exchange_with_each_ps_task(cluster: InProcessCluster, graph: Graph) -> None:
    client = cluster.client()
    variables = [get_variable(f"v{index}", [2], initializer=ONE) for index in range(10)]
    dependent = new_variable(variables[0].initialized_value() + variables[1].initialized_value(), name="dependent")
    init = global_variables_initializer()
    with Session(client, graph) as session:
        session.run(variables_initializer(variables[:2]))
        session.run([is_variable_initialized(each) for each in (*variables, dependent)])
        before = cluster.batches()
        session.run(variables_initializer(variables))
        assert [after - earlier for after, earlier in zip(cluster.batches(), before, strict=True)] == [1, 1]
        session.run(init)
        assert session.run(dependent).tolist() == [2, 2]
        before = cluster.batches()
        session.run(variables)
        assert [after - earlier for after, earlier in zip(cluster.batches(), before, strict=True)] == [1, 1]


def test_reports_what_has_no_value(graph: Graph) -> None:
    get_variable("a", [2])
    b = get_variable("b", [2])
    get_local_variable("local", [2])
    report, of_one = report_uninitialized_variables(), report_uninitialized_variables([b], name="one")
    assert report.name.startswith("report_uninitialized_variables/")
    assert of_one.name.startswith("one/")
    with Session(graph=graph) as session:
        assert session.run(report).tolist() == [b"a", b"b", b"local"]
        session.run(b.initializer)
        assert session.run(report).tolist() == [b"a", b"local"]
        assert session.run(of_one).tolist() == []


def test_without_variables_nothing_is_reported(graph: Graph) -> None:
    with Session(graph=graph) as session:
        assert session.run(report_uninitialized_variables()).tolist() == []
    assert assert_variables_initialized() is None


def test_asserts_that_all_have_values(graph: Graph) -> None:
    a, b = get_variable("a", [2]), get_variable("scope/b", [])
    assertion = assert_variables_initialized()
    with Session(graph=graph) as session:
        session.run(a.initializer)
        with pytest.raises(FailedPreconditionError, match="not initialised: scope/b;"):
            session.run(assertion)
        session.run(b.initializer)
        assert session.run(assertion).tolist() == [1, 0]


@pytest.mark.parametrize("build", [variables_initializer, report_uninitialized_variables, assert_variables_initialized])
def test_only_variables_can_be_initialised(graph: Graph, build: Any) -> None:
    v = get_variable("v", [2])
    with pytest.raises(TypeError, match="not a variable"):
        build([v, v.value()])


# -- at once ----------------------------------------------------------------------------------------


def test_on_a_connection_it_acts_at_once_with_one_exchange_for_each_task(cluster: InProcessCluster) -> None:
    with cluster.client(initialize=False) as client:
        variables = [get_variable(f"v{index}", [2], initializer=ONE) for index in range(6)]
        local = get_local_variable("local", [2], initializer=ONE)
        assert report_uninitialized_variables().tolist() == [b"v%d" % index for index in range(6)] + [b"local"]
        with pytest.raises(FailedPreconditionError, match="not initialised: v0, v1"):
            assert_variables_initialized()
        before = cluster.batches()
        assert global_variables_initializer() is None
        assert [after - earlier for after, earlier in zip(cluster.batches(), before, strict=True)] == [1, 1]
        assert all(is_variable_initialized(each) for each in variables)
        assert report_uninitialized_variables().tolist() == [b"local"]
        assert local_variables_initializer() is None
        assert local.read_value().tolist() == [1, 1]
        assert assert_variables_initialized() is None
        assert client.read_all(variables)[5].tolist() == [1, 1]


def test_at_once_a_value_is_kept(cluster: InProcessCluster) -> None:
    with cluster.client():
        v = get_variable("v", [2], initializer=ONE)
        v.assign([5, 5])
        global_variables_initializer()
        assert v.read_value().tolist() == [5, 5]
        variables_initializer([])
        assert report_uninitialized_variables([]).tolist() == []


def test_variables_of_both_kinds_are_not_initialised_together(cluster: InProcessCluster, graph: Graph) -> None:
    deferred = get_variable("deferred", [2])
    client = cluster.client()
    with client.graph.as_default():
        eager = get_variable("eager", [2])
    with pytest.raises(TypeError, match="deferred:0 belongs to a deferred graph and eager:0 does not"):
        variables_initializer([deferred, eager])


# -- waiting for the chief --------------------------------------------------------------------------


def same_program(client: Client) -> tuple[Session, Any, Any]:
    """A session, a variable and its assign_add, as every worker builds them."""
    graph = Graph()
    with graph.as_default():
        v = new_variable(np.float32(1), name="v")
        add = v.assign_add(10)
    return Session(client, graph), v, add


def test_another_worker_waits_until_the_chief_has_initialised(
    cluster: InProcessCluster, caplog: pytest.LogCaptureFixture
) -> None:
    chief, v, _ = same_program(cluster.client(0))
    nothing = [lambda: None] * 8
    waiting = Waiting(*nothing, lambda: chief.run(v.initializer))
    other, w, _ = same_program(cluster.client(1, settings=waiting.settings()))
    with chief, other, caplog.at_level(logging.WARNING):
        assert other.run(w) == 1
    assert waiting.events == []
    assert caplog.messages[0].startswith("waiting for the chief to initialise v, ")
    assert len(caplog.messages) < len(nothing)


def test_what_waited_counts_once_and_what_did_not_wait_is_not_repeated(cluster: InProcessCluster) -> None:
    chief, v, _ = same_program(cluster.client(0))
    graph = Graph()
    with graph.as_default():
        w, ready = new_variable(np.float32(1), name="v"), new_variable(np.float32(0), name="ready")
        adds = [w.assign_add(10), ready.assign_add(1)]
    waiting = Waiting(lambda: None, lambda: chief.run(v.initializer))
    other = Session(cluster.client(1, settings=waiting.settings()), graph)
    with chief, other:
        other.run(ready.initializer)
        assert other.run(adds) == [11, 1]
        assert other.run([w, ready]) == [11, 1]


def test_waiting_ends_with_an_error_that_says_what_for(cluster: InProcessCluster) -> None:
    waiting = Waiting()
    other, w, add = same_program(cluster.client(1, settings=waiting.settings(timeout_s=7)))
    with other:
        for fetch in (w, add):
            with pytest.raises(FailedPreconditionError, match="v not initialised after 7 s of waiting for the chief"):
                other.run(fetch)
        assert 0 < waiting.now_s <= 14
        other.run(w.initializer)
        assert other.run(w) == 1


def test_the_chief_does_not_wait(cluster: InProcessCluster) -> None:
    waiting = Waiting()
    chief, v, add = same_program(cluster.client(0, settings=waiting.settings()))
    with chief:
        for fetch in (v, add):
            with pytest.raises(FailedPreconditionError, match=r"variable v .*has not been initialised"):
                chief.run(fetch)
    assert waiting.now_s == 0


def test_nobody_waits_for_what_asks_or_falls_back_or_is_local(cluster: InProcessCluster, graph: Graph) -> None:
    waiting = Waiting()
    v = new_variable(np.float32(1), name="v")
    local = get_local_variable("local", [2])
    fetches = [v.initialized_value(), v.is_initialized(), report_uninitialized_variables()]
    with Session(cluster.client(1, settings=waiting.settings()), graph) as session:
        assert session.run(fetches)[0] == 1
        with pytest.raises(FailedPreconditionError, match="not initialised: v, local"):
            session.run(assert_variables_initialized())
        with pytest.raises(FailedPreconditionError, match=r"variable local .*has not been initialised"):
            session.run(local)
    assert waiting.now_s == 0


def test_waiting_may_be_asked_for(cluster: InProcessCluster) -> None:
    chief, v, _ = same_program(cluster.client(0))
    waiting = Waiting(lambda: chief.run(v.initializer))
    other, w, _ = same_program(cluster.client(1, settings=waiting.settings()))
    with chief, other:
        other.wait_until_initialized()
        assert waiting.events == []
        other.wait_until_initialized([w], timeout_s=0.0)
        with pytest.raises(ValueError, match="v/read:0 cannot be waited for: it belongs to another graph"):
            other.wait_until_initialized([v])
    with pytest.raises(RuntimeError, match="closed"):
        other.wait_until_initialized()


def test_waiting_in_a_private_session(graph: Graph) -> None:
    whole = get_variable("whole", [4], initializer=ONE, partitioner=fixed_size_partitioner(2))
    with Session(graph=graph) as session:
        with pytest.raises(FailedPreconditionError, match="whole/part_0, whole/part_1 not initialised after 0 s"):
            session.wait_until_initialized([whole], timeout_s=0.0)
        session.run(variables_initializer([whole]))
        session.wait_until_initialized([whole], timeout_s=0.0)


def test_many_names_are_cut_short_in_the_error(cluster: InProcessCluster) -> None:
    client, waiting = cluster.client(1), Waiting()
    settings = waiting.settings()
    with client.graph.as_default():
        variables = [get_variable(f"v{index}", [2]) for index in range(2)]
    wait = InitializationWait(client.fanout, retry=settings.retry, timeout_s=1.0)
    wait.wait({each.spec.name: each.ps_task for each in variables})
    names = [f"u{index}" for index in range(12)]
    specs = [variables[0].spec.__class__(name, np.dtype(np.float32), ()) for name in names]
    client.fanout.run_all([Routed(0, Declare(spec)) for spec in specs])
    with pytest.raises(FailedPreconditionError, match="u8, u9 and 2 more not initialised after 1 s"):
        wait.wait(dict.fromkeys(names, 0))


def test_a_task_that_does_not_answer_is_not_taken_for_a_slow_chief(
    cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = Waiting()
    other, w, _ = same_program(cluster.client(1, settings=waiting.settings(timeout_s=1)))

    def silent(*_: Any, **__: Any) -> Any:
        raise DeadlineExceededError("no answer")

    with other:
        other.run(w.is_initialized())
        monkeypatch.setattr("worker_client.connection.fanout.Fanout.exchange_all", silent)
        with pytest.raises(DeadlineExceededError, match="no answer"):
            other.wait_until_initialized()
