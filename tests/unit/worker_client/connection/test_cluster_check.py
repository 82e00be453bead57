"""Which ps tasks a client takes for one cluster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from uuid import uuid4

import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import FailedPreconditionError
from ps_protocol.task_id import TaskId
from ps_server.core.parameter_server import ParameterServer
from tests.unit.worker_client.clusters import InProcessCluster
from worker_client.client import Client
from worker_client.connection.cluster_check import SETTLE_S
from worker_client.connection.retry import RetryPolicy
from worker_client.connection.settings import Settings
from worker_client.placement.strategies import RoundRobinStrategy
from worker_client.transport.in_process import endpoint_of

ONE = ClusterSpec({"ps": ["a0.example:1", "a1.example:1"]})
OTHER = ClusterSpec({"ps": ["b0.example:1", "b1.example:1"]})


class Time:
    """Passes when somebody waits; ``when_waiting`` is done at the first wait."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.when_waiting: Callable[[], None] = lambda: None

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.when_waiting()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def connections() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def ps_tasks(spec: ClusterSpec) -> list[ParameterServer]:
    """The ps tasks of a cluster, which have met."""
    tasks = [ParameterServer(cluster_spec=spec, task_index=index) for index in range(spec.num_tasks("ps"))]
    for each in tasks[1:]:
        each.learn_cluster(tasks[0].store_incarnation)
    return tasks


def connect(connections: ExitStack, tasks: Sequence[ParameterServer], time: Time, spec: ClusterSpec = ONE) -> Client:
    retry = RetryPolicy(clock=time.clock, sleep=time.sleep)
    client = Client(
        spec,
        TaskId("worker", 0),
        endpoints=[endpoint_of(each) for each in tasks],
        settings=Settings(retry=retry, lease_s=0.0),
        ps_strategy=RoundRobinStrategy(len(tasks)),
        initialize=True,
    )
    connections.callback(client.close)
    return client


def test_the_ps_tasks_of_one_cluster_are_taken_at_once(connections: ExitStack, time: Time) -> None:
    seen_elsewhere = ClusterSpec({"ps": ["gateway.example:1", "gateway.example:2"]})
    tasks = ps_tasks(ONE)
    connect(connections, tasks, time)
    connect(connections, tasks, time, seen_elsewhere)
    assert time.now_s == 0.0


def test_fewer_or_more_ps_tasks_than_the_cluster_has_are_refused(connections: ExitStack, time: Time) -> None:
    tasks = ps_tasks(ONE)
    fewer, more = (
        ClusterSpec({"ps": ["a0.example:1"]}),
        ClusterSpec({"ps": [f"a{index}.example:1" for index in range(3)]}),
    )
    with pytest.raises(FailedPreconditionError, match=r"ps:0 at .* 2 ps tasks, .* here has 1 \(a0\.example:1\)"):
        connect(connections, tasks[:1], time, fewer)
    with pytest.raises(FailedPreconditionError, match="2 ps tasks, but the cluster spec given here has 3"):
        connect(connections, [*tasks, *ps_tasks(OTHER)], time, more)


def test_ps_tasks_in_another_order_are_refused(connections: ExitStack, time: Time) -> None:
    with pytest.raises(FailedPreconditionError, match="is ps:1, not ps:0"):
        connect(connections, ps_tasks(ONE)[::-1], time)


def test_ps_tasks_of_two_clusters_are_refused_at_once(connections: ExitStack, time: Time) -> None:
    mixed = [ps_tasks(ONE)[0], ps_tasks(OTHER)[1]]
    spec = ClusterSpec({"ps": ["a0.example:1", "b1.example:1"]})
    with pytest.raises(
        FailedPreconditionError, match=r"different clusters: .* whose ps:0 is at b0\.example:1"
    ) as refused:
        connect(connections, mixed, time, spec)
    assert refused.value.task == "ps:1"
    assert time.now_s == 0.0


def test_one_that_has_not_met_its_own_ps_0_yet_is_refused_if_it_was_started_for_another(
    connections: ExitStack, time: Time
) -> None:
    mixed = [ps_tasks(ONE)[0], ParameterServer(cluster_spec=OTHER, task_index=1)]
    with pytest.raises(FailedPreconditionError, match=r"ps:0 is at b0\.example:1, and has not met it"):
        connect(connections, mixed, time)
    assert SETTLE_S <= time.now_s <= SETTLE_S + 1


def test_one_that_has_not_met_ps_0_yet_is_taken_if_it_was_started_for_it(connections: ExitStack, time: Time) -> None:
    tasks = [ps_tasks(ONE)[0], ParameterServer(cluster_spec=ONE, task_index=1)]
    connect(connections, tasks, time)
    assert time.now_s == 0.0


def test_a_ps_0_that_has_lost_its_state_is_taken_when_the_others_have_heard_of_it(
    connections: ExitStack, time: Time
) -> None:
    _, second = ps_tasks(ONE)
    started_again = ParameterServer(cluster_spec=ONE, task_index=0)
    time.when_waiting = lambda: second.learn_cluster(started_again.store_incarnation)
    connect(connections, [started_again, second], time)
    assert 0 < time.now_s < 1


def test_a_ps_0_that_the_others_do_not_hear_of_is_refused_in_the_end(connections: ExitStack, time: Time) -> None:
    _, second = ps_tasks(ONE)
    second.learn_cluster(uuid4())
    with pytest.raises(FailedPreconditionError, match="has met another process there"):
        connect(connections, [ParameterServer(cluster_spec=ONE, task_index=0), second], time)
    assert SETTLE_S <= time.now_s <= SETTLE_S + 1


def test_workers_that_disagree_about_the_cluster_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with InProcessCluster() as cluster, ExitStack() as connections, caplog.at_level(logging.WARNING):
        cluster.client()
        three = ClusterSpec(
            {"ps": ["ps0.example:1", "ps1.example:1"], "worker": [f"w{index}.example:1" for index in "012"]}
        )
        connect_as = Client(
            three,
            TaskId("worker", 1),
            endpoints=[endpoint_of(each) for each in cluster.tasks],
            settings=Settings(),
            ps_strategy=RoundRobinStrategy(2),
            initialize=True,
        )
        connections.callback(connect_as.close)
    assert "tasks disagree about the cluster: worker:0 " in caplog.text
    assert "with 2 tasks of the job 'worker', worker:1 in one with 3" in caplog.text
