"""Barriers as workers see them: who meets, who is told that it will not, and by whom."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.errors import (
    AbortedError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
    SettingError,
    StateLostError,
)
from ps_server.core.parameter_server import ParameterServer
from tests.conftest import Eventually
from tests.interrupted_places import CLIENT, interrupted_at
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from worker_client.client import Client

TIMEOUT_S = 60.0


def waiting(core: ParameterServer, number: int) -> Callable[[], bool]:
    return lambda: core.num_waiting == number


def meet(pool: ThreadPoolExecutor, *clients: Client, **arguments: Any) -> list[Future[None]]:
    return [pool.submit(each.barrier, "x", arguments.pop("timeout_s", TIMEOUT_S), **arguments) for each in clients]


def test_all_workers_meet_again_and_again(cluster: SmallCluster, pool: ThreadPoolExecutor) -> None:
    clients = [cluster.client(index) for index in range(4)]
    passed: list[int] = []

    def work(client: Client) -> None:
        for meeting in range(5):
            passed.append(meeting)
            client.barrier("x", TIMEOUT_S)

    for each in [pool.submit(work, client) for client in clients]:
        each.result(TIMEOUT_S)
    assert passed == sorted(passed)


def test_so_many_workers_meet(cluster: SmallCluster, pool: ThreadPoolExecutor) -> None:
    for each in meet(pool, cluster.client(3), cluster.client(1), count=2):
        each.result(TIMEOUT_S)


def test_the_module_function_is_the_default_connections(cluster: SmallCluster) -> None:
    with cluster.client(0).as_default():
        ss.barrier("x", TIMEOUT_S, count=1)


def test_who_has_not_come_in_time_is_named(
    cluster: SmallCluster, pool: ThreadPoolExecutor, eventually: Eventually
) -> None:
    clients = [cluster.client(index) for index in range(3)]
    first = pool.submit(clients[1].barrier, "x", TIMEOUT_S)
    eventually(waiting(cluster.tasks[0], 1))
    with pytest.raises(DeadlineExceededError) as caught:
        clients[0].barrier("x", 0.05)
    message = caught.value.message
    assert "barrier x: 2 of 4 workers had arrived after 0.1 s (worker:0, worker:1)" in message
    assert "missing: worker:2 is there (last seen " in message
    assert "worker:3 (has not joined)" in message
    assert not first.done()  # nobody waits for those who have given up, and nobody counts them
    rest = meet(pool, clients[0], clients[2])
    assert not first.done()
    rest += meet(pool, cluster.client(3))
    for each in (first, *rest):
        each.result(TIMEOUT_S)


def test_a_worker_that_dies_ends_the_wait_of_the_others(
    cluster: SmallCluster, pool: ThreadPoolExecutor, eventually: Eventually
) -> None:
    core = cluster.tasks[0]
    *clients, late = [cluster.client(index) for index in (0, 1, 2)]
    first = meet(pool, *clients)
    eventually(waiting(core, 2))
    core.join("worker:3", uuid4(), "elsewhere", 4711, lease_s=0.05, timeout_s=TIMEOUT_S)
    for each in first:
        with pytest.raises(AbortedError, match=r"barrier x: worker:3 is dead \(last seen 20\d\d-.*process 4711 on els"):
            each.result(TIMEOUT_S)
    with pytest.raises(AbortedError, match="no more than 3 of the 4 workers that it takes can come"):
        late.barrier("x", TIMEOUT_S)


def test_those_who_have_left_before_may_come_yet(cluster: SmallCluster, pool: ThreadPoolExecutor) -> None:
    for index in (1, 2, 3):
        cluster.client(index).close()  # as at the end of an earlier run on the same ps tasks
    first = cluster.client(0)
    with pytest.raises(DeadlineExceededError, match=r"1 of 4 workers .* missing: worker:1 has left \(last seen "):
        first.barrier("x", 1.2)
    for each in meet(pool, first, *[cluster.client(index) for index in (1, 2, 3)]):
        each.result(TIMEOUT_S)


def test_a_worker_that_leaves_ends_the_wait_of_the_others(
    cluster: SmallCluster, pool: ThreadPoolExecutor, eventually: Eventually
) -> None:
    leaving = cluster.client(2)
    first = meet(pool, cluster.client(0), cluster.client(1))
    eventually(waiting(cluster.tasks[0], 2))
    leaving.close()
    for each in first:
        with pytest.raises(AbortedError, match=r"worker:2 has left \(last seen "):
            each.result(TIMEOUT_S)


def test_without_the_dead_so_many_can_still_meet(cluster: SmallCluster, pool: ThreadPoolExecutor) -> None:
    clients = [cluster.client(index) for index in range(3)]
    cluster.tasks[0].join("worker:3", uuid4(), "elsewhere", 4711, lease_s=0.05, timeout_s=TIMEOUT_S)
    first = pool.submit(clients[0].barrier, "x", TIMEOUT_S, count=3)
    with pytest.raises(DeadlineExceededError):
        clients[1].barrier("x", 1.5, count=3)
    assert not first.done()
    for each in (first, *meet(pool, *clients[1:], count=3)):
        each.result(TIMEOUT_S)


def test_another_count_names_both_sides(
    cluster: SmallCluster, pool: ThreadPoolExecutor, eventually: Eventually
) -> None:
    first = meet(pool, cluster.client(0), count=2)
    eventually(waiting(cluster.tasks[0], 1))
    with pytest.raises(InvalidArgumentError, match="worker:1 waits for 3 workers, but worker:0 for 2"):
        cluster.client(1).barrier("x", TIMEOUT_S, count=3)
    first += meet(pool, cluster.client(2), count=2)
    for each in first:
        each.result(TIMEOUT_S)


def test_a_worker_comes_once(cluster: SmallCluster, pool: ThreadPoolExecutor, eventually: Eventually) -> None:
    client = cluster.client(0)
    first = pool.submit(_named, "one", client)
    eventually(waiting(cluster.tasks[0], 1))
    with pytest.raises(FailedPreconditionError, match="the thread two of worker:0 has come, but the thread one of it"):
        pool.submit(_named, "two", client).result(TIMEOUT_S)
    meet(pool, cluster.client(1), count=2)[0].result(TIMEOUT_S)
    first.result(TIMEOUT_S)


def _named(name: str, client: Client) -> None:
    threading.current_thread().name = name
    client.barrier("x", TIMEOUT_S, count=2)


def test_another_process_of_the_task_takes_the_place(
    cluster: SmallCluster, pool: ThreadPoolExecutor, eventually: Eventually
) -> None:
    first = meet(pool, cluster.client(0), count=2)
    eventually(waiting(cluster.tasks[0], 1))
    second = meet(pool, cluster.client(0), count=2)
    with pytest.raises(AbortedError, match=r"another process that is worker:0 .* has arrived in the place"):
        first[0].result(TIMEOUT_S)
    meet(pool, cluster.client(1), count=2)[0].result(TIMEOUT_S)
    second[0].result(TIMEOUT_S)


@pytest.mark.parametrize("count", [0, -1, 5, 2.5, "two"])
def test_a_count_that_cannot_be(cluster: SmallCluster, count: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="should be 1 or more; the cluster spec names 4 workers"):
        cluster.client(0).barrier("x", TIMEOUT_S, count=count)


def test_only_workers_meet(cluster: SmallCluster) -> None:
    with pytest.raises(PermissionDeniedError, match="an observer, which no barrier counts"):
        cluster.client(observer="update").barrier("x", TIMEOUT_S)
    with pytest.raises(SettingError):
        cluster.client(0).barrier("x", 0)


def test_something_else_of_the_name(cluster: SmallCluster) -> None:
    client = cluster.client(0)
    with client.as_default():
        ss.get_variable("barrier/x", [2])
    with pytest.raises(InvalidArgumentError, match=r"exists as float32\[2\], but is declared here as a barrier"):
        client.barrier("x", TIMEOUT_S)


def test_a_connection_that_is_closed_ends_its_wait(
    cluster: SmallCluster, pool: ThreadPoolExecutor, eventually: Eventually
) -> None:
    client = cluster.client(0)
    first = meet(pool, client)
    eventually(waiting(cluster.tasks[0], 1))
    client.close()
    with pytest.raises(FailedPreconditionError, match=r"closed|said goodbye"):
        first[0].result(TIMEOUT_S)


def test_no_batch_waits_for_a_wait(cluster: SmallCluster, pool: ThreadPoolExecutor, eventually: Eventually) -> None:
    client = cluster.client(0)
    with client.as_default():
        variable: Any = ss.get_variable("v", [2], initializer=ss.zeros_initializer())
    first = meet(pool, client, count=2)
    eventually(waiting(cluster.tasks[0], 1))
    variable.assign_add(np.ones(2, np.float32))
    variable.assign_add(np.ones(2, np.float32), wait=False).result(TIMEOUT_S)
    assert variable.read_value().tolist() == [2, 2]
    assert cluster.tasks[0].num_waiting == 1
    meet(pool, cluster.client(1), count=2)[0].result(TIMEOUT_S)
    first[0].result(TIMEOUT_S)


def test_a_restore_ends_the_waits(
    cluster: SmallCluster, pool: ThreadPoolExecutor, eventually: Eventually, tmp_path: Path
) -> None:
    clients = [cluster.client(index) for index in range(3)]
    with clients[2].as_default():
        ss.get_variable("v", [2])
    first = meet(pool, clients[0], clients[1], count=3)
    eventually(waiting(cluster.tasks[0], 2))
    clients[2].save(tmp_path, name="c")
    clients[2].restore(tmp_path / "c")
    for each in first:
        with pytest.raises(StateLostError, match="restored from the checkpoint"):
            each.result(TIMEOUT_S)
    # The state of then says that two have come, who wait no longer: they do not count.
    again = [pool.submit(clients[2].barrier, "x", TIMEOUT_S, count=2)]
    eventually(waiting(cluster.tasks[0], 1))
    assert not again[0].done()
    again += meet(pool, cluster.client(1), count=2)
    for each in again:
        each.result(TIMEOUT_S)


@pytest.mark.parametrize("after", [1, 3])
def test_a_checkpoint_has_barriers_on_any_number_of_tasks(after: int, tmp_path: Path) -> None:
    with SmallCluster(2) as cluster:
        client = cluster.client(0)
        with client.as_default():
            ss.get_variable("v", [2], initializer=ss.ones_initializer())
        client.barrier("x", TIMEOUT_S, count=1)
        client.save(tmp_path, name="c")
    with SmallCluster(after) as cluster:
        client = cluster.client(0)
        client.barrier("younger", TIMEOUT_S, count=1)
        client.restore(tmp_path / "c")
        where = {each.spec.name: each.ps_task for each in cluster.tasks[0].list_placements(timeout_s=TIMEOUT_S)}
        assert where["barrier/x"] == where["barrier/younger"] == 0
        client.barrier("x", TIMEOUT_S, count=1)
        client.barrier("younger", TIMEOUT_S, count=1)
    with ss.checkpoint.open(tmp_path / "c") as saved:
        assert list(saved) == ["v"]


def num_passed(client: Client, name: str = "x") -> int:
    """How many calls of a client for a barrier are over, as the client sees it."""
    barrier = client._barriers.get(name)
    return 0 if barrier is None else barrier._call - 1


def test_an_interrupt_anywhere_comes_out_and_the_next_call_meets_the_others(
    cluster: SmallCluster, pool: ThreadPoolExecutor
) -> None:
    client, other = cluster.client(0), cluster.client(1)
    meetings, number, was_interrupted = 0, 1, True
    while was_interrupted:
        there = pool.submit(other.barrier, "x", TIMEOUT_S, count=2)
        num_met = num_passed(client)
        was_interrupted = interrupted_at(number, lambda: client.barrier("x", TIMEOUT_S, count=2), CLIENT)
        if was_interrupted and num_passed(client) == num_met:  # not as it left, which is the same as right after
            client.barrier("x", TIMEOUT_S, count=2)
        there.result(TIMEOUT_S)
        meetings, number = meetings + 1, number + 1 + number // 9
    assert meetings > 20
    with pytest.raises(DeadlineExceededError):
        client.barrier("x", 0.05, count=2)  # there are no meetings left over
