"""Variables with a caching device: what a session asks for, keeps and hands out."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import FailedPreconditionError
from ps_protocol.operations import Array, PsOperation, Read, Reply, Result
from tests.unit.worker_client.clusters import InProcessCluster
from worker_client.connection.fanout import Routed
from worker_client.graph.graph import Graph
from worker_client.initializers import zeros_initializer
from worker_client.scopes.creation import new_variable
from worker_client.scopes.variable_scope import get_variable, variable_scope
from worker_client.sessions.runtime import ClusterRuntime, PrivateRuntime
from worker_client.sessions.session import Session
from worker_client.sessions.value_cache import ValueCache
from worker_client.values.versions import VersionedValue
from worker_client.variables.partitioners import fixed_size_partitioner

pytestmark = pytest.mark.usefixtures("graph")


@pytest.fixture
def session(graph: Graph) -> Iterator[Session]:
    with Session(graph=graph) as session:
        yield session


Exchanged = list[tuple[PsOperation, Reply]]


@pytest.fixture
def exchanged(monkeypatch: pytest.MonkeyPatch) -> Exchanged:
    """What sessions have asked for and were answered, in order."""
    log: Exchanged = []
    for runtime in (ClusterRuntime, PrivateRuntime):
        exchange: Any = runtime.exchange

        def recorded(self: Any, routed: Sequence[Routed], exchange: Any = exchange) -> list[Reply]:
            replies: list[Reply] = exchange(self, routed)
            log.extend((each.operation, reply) for each, reply in zip(routed, replies, strict=True))
            return replies

        monkeypatch.setattr(runtime, "exchange", recorded)
    return log


def reads(exchanged: Exchanged) -> list[tuple[Read, bool]]:
    """The reads so far, and whether each brought a value; forgets them."""
    found = [
        (operation, isinstance(reply, Result) and reply.tensor is not None)
        for operation, reply in exchanged
        if isinstance(operation, Read)
    ]
    exchanged.clear()
    return found


def cached_variable(name: str = "v") -> Any:
    return get_variable(name, [2], initializer=zeros_initializer(), caching_device="/job:worker")


def variable_in(graph: Graph) -> Any:
    with graph.as_default():
        return cached_variable()


# -- in a session -----------------------------------------------------------------------------------


def test_the_value_is_sent_again_only_after_an_update(session: Session, exchanged: Exchanged) -> None:
    v = cached_variable()
    session.run(v.initializer)
    assert [session.run(v * 2).tolist() for _ in range(3)] == [[0, 0]] * 3
    assert reads(exchanged) == [(Read("v"), True), (Read("v", 0), False), (Read("v", 0), False)]
    session.run(v.assign_add([1, 2]).op)
    assert [session.run(v).tolist() for _ in range(2)] == [[1, 2]] * 2
    assert reads(exchanged) == [(Read("v", 0), True), (Read("v", 1), False)]


def test_every_kind_of_update_is_seen_by_the_next_run(session: Session) -> None:
    v = cached_variable()
    session.run(v.initializer)
    assert session.run(v).tolist() == [0, 0]
    v.load([1, 1], session)
    assert session.run(v).tolist() == [1, 1]
    session.run(v.scatter_nd_update([[0]], [5]))
    assert session.run(v).tolist() == [5, 1]
    session.run(v.initializer)
    assert session.run(v).tolist() == [0, 0]


def test_read_value_comes_from_the_ps(session: Session, exchanged: Exchanged) -> None:
    v = cached_variable()
    session.run(v.initializer)
    fresh = v.read_value()
    session.run(v)
    for _ in range(2):
        assert session.run(fresh).tolist() == [0, 0]
    assert reads(exchanged) == [(Read("v"), True)] * 3


def test_without_a_caching_device_nothing_is_kept(session: Session, exchanged: Exchanged) -> None:
    v = new_variable(np.zeros(2, np.float32), name="v")
    session.run(v.initializer)
    for _ in range(2):
        session.run(v + 1)
    assert reads(exchanged) == [(Read("v"), True)] * 2


def test_the_caching_device_of_a_scope_holds_for_all_parts(session: Session, exchanged: Exchanged) -> None:
    with variable_scope("a", caching_device="/cpu:0", partitioner=fixed_size_partitioner(2)):
        v = get_variable("v", [4], initializer=zeros_initializer())
    session.run([part.initializer for part in v])
    for _ in range(2):
        assert session.run(v.as_tensor()).tolist() == [0, 0, 0, 0]
    assert [brought for _, brought in reads(exchanged)] == [True, True, False, False]


def test_what_is_fetched_is_the_receivers_own(session: Session) -> None:
    v = cached_variable()
    session.run(v.initializer)
    for fetch in (v, v.value(), v[:1], np.reshape(v, (2, 1))):
        for _ in range(2):
            value = session.run(fetch)
            value[...] = 7
    assert session.run(v).tolist() == [0, 0]


def test_a_variable_without_a_value_is_refused_until_it_has_one(session: Session) -> None:
    v = cached_variable()
    for _ in range(2):
        with pytest.raises(FailedPreconditionError, match=r"v .*not been initialised"):
            session.run(v)
    session.run(v.initializer)
    assert session.run(v).tolist() == [0, 0]


def test_a_closed_session_keeps_nothing(graph: Graph, exchanged: Exchanged, cluster: InProcessCluster) -> None:
    v = cached_variable()
    client = cluster.client()
    for target in (client, None):
        session = Session(target, graph)
        session.run(v.initializer)
        session.run(v)
        cache = session._runtime.value_cache
        assert cache.find(v) is not None
        session.close()
        assert cache.find(v) is None


def test_threads_that_run_and_update_see_no_value_go_back(session: Session) -> None:
    v = cached_variable()
    session.run(v.initializer)
    add, seen = v.assign_add([1, 1]).op, list[list[float]]()

    def look() -> None:
        values = [session.run(v) for _ in range(100)]
        assert all(value[0] == value[1] for value in values)
        seen.append([float(value[0]) for value in values])

    threads = [threading.Thread(target=look) for _ in range(3)]
    threads.append(threading.Thread(target=lambda: [session.run(add) for _ in range(100)]))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [values == sorted(values) for values in seen] == [True] * 3
    assert session.run(v).tolist() == [100, 100]


# -- on a cluster -----------------------------------------------------------------------------------


def test_an_update_by_another_client_is_seen(cluster: InProcessCluster, exchanged: Exchanged) -> None:
    here, there = Graph(), Graph()
    v, elsewhere = variable_in(here), variable_in(there)
    with Session(cluster.client(0), here) as session, Session(cluster.client(1), there) as other:
        session.run(v.initializer)
        assert [session.run(v).tolist() for _ in range(2)] == [[0, 0]] * 2
        other.run(elsewhere.assign_add([1, 2]).op)
        assert [session.run(v).tolist() for _ in range(2)] == [[1, 2]] * 2
    assert [brought for _, brought in reads(exchanged)] == [True, False, True, False]


def test_two_sessions_have_copies_of_their_own(cluster: InProcessCluster, graph: Graph, exchanged: Exchanged) -> None:
    v, client = cached_variable(), cluster.client()
    with Session(client, graph) as one, Session(client, graph) as other:
        one.run(v.initializer)
        for session in (one, other, one, other):
            assert session.run(v).tolist() == [0, 0]
    assert [brought for _, brought in reads(exchanged)] == [True, True, False, False]


# -- the copies -------------------------------------------------------------------------------------


def floats(value: float) -> Array:
    return np.full(2, value, np.float32)


def test_a_reply_that_was_overtaken_does_not_replace_a_newer_copy() -> None:
    v, cache = cached_variable(), ValueCache()
    cache.refreshed(v, None, Result(5, True, floats(5)))
    late = cache.refreshed(v, None, Result(4, True, floats(4)))
    assert isinstance(late, Result)
    assert late.tensor is not None
    assert late.tensor.tolist() == [4, 4]
    found = cache.find(v)
    assert found is not None
    assert (found.version, found.value.tolist()) == (5, [5, 5])


def test_a_reply_without_a_tensor_stands_for_the_copy_it_was_asked_about() -> None:
    v, cache = cached_variable(), ValueCache()
    asked = VersionedValue(floats(4), 4)
    cache.refreshed(v, None, Result(5, True, floats(5)))
    reply = cache.refreshed(v, asked, Result(4, True))
    assert isinstance(reply, Result)
    assert reply.tensor is asked.value
    error = FailedPreconditionError("gone")
    assert cache.refreshed(v, asked, error) is error


def test_a_copy_cannot_be_changed() -> None:
    v, cache = cached_variable(), ValueCache()
    reply = cache.refreshed(v, None, Result(0, True, floats(0)))
    assert isinstance(reply, Result)
    assert reply.tensor is not None
    with pytest.raises(ValueError, match="read-only"):
        reply.tensor[0] = 1
