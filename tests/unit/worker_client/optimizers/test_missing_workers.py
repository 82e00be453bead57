"""Workers that train together, and one of them is missing: who waits for how long, and what all of them are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.errors import FailedPreconditionError
from ps_protocol.service_types import listed_incarnation
from tests.conftest import Eventually
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from tests.unit.worker_client.optimizers.together import OPTIMIZERS, Worker, alone, gradients, mean_of
from worker_client.client import Client
from worker_client.objects.training_group import TAKING_PART

TIMEOUT_S = 60.0


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    with SmallCluster(2) as cluster:
        yield cluster


def two_workers(cluster: SmallCluster, sync: str) -> tuple[Worker, Worker]:
    """Two in one group; the first one has made a round."""
    first, second = (Worker(cluster.client(index), ss.train.GradientDescent(0.25, sync=sync)) for index in range(2))
    assert first.step(gradients(0, 0))[:3] == ("applied", 1, 1)
    second.optimizer.join(second.variables, pull=second.mirror)
    return first, second


def kill(client: Client) -> None:
    """The cluster is told that a worker is dead."""
    client.fanout.handle(0).service.leave(
        f"{client.task}", listed_incarnation(client.incarnation), end="killed", timeout_s=TIMEOUT_S
    )


def revive(client: Client) -> None:
    client._heartbeat.join(client.fanout.handle(0).service, TIMEOUT_S)


def silent_in(worker: Worker) -> Callable[[], list[str]]:
    """Returns what says which workers the group of a worker takes for silent."""
    part = TAKING_PART.get(worker.client.fanout)
    assert part is not None
    (group,) = part.groups
    return lambda: [each.worker for each in group._look().awaited if each.is_silent]


def test_on_missing_wait_goes_on_when_the_worker_is_back(
    cluster: SmallCluster, pool: ThreadPoolExecutor, eventually: Eventually
) -> None:
    first, second = two_workers(cluster, "bsp(on_missing=wait)")
    kill(second.client)
    waiting = pool.submit(first.step, gradients(0, 1))
    eventually(lambda: silent_in(first)() == ["worker:1"], timeout_s=TIMEOUT_S)
    assert not waiting.done()
    revive(second.client)
    assert second.step(gradients(1, 1))[:3] == ("applied", 2, 2)
    assert waiting.result(TIMEOUT_S)[:3] == ("applied", 2, 2)
    with SmallCluster(2) as other:
        worker = Worker(other.client(), ss.train.GradientDescent(0.25))
        worker.step(gradients(0, 0))
        worker.step(mean_of([gradients(0, 1), gradients(1, 1)]))
        for found, expected in zip(first.values(), worker.values(), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("sync", "why"),
    [
        ("bsp(on_missing=wait, missing_timeout_s=0.2)", r"on_missing=wait ended after 0\.2 s"),
        ("ssp(0, on_missing=fail)", "on_missing=fail"),
    ],
)
def test_all_are_told_for_whom_training_has_stopped(
    cluster: SmallCluster, pool: ThreadPoolExecutor, sync: str, why: str
) -> None:
    first, second = two_workers(cluster, sync)
    kill(second.client)
    message = rf"training stopped after round 1: worker:1 \(last seen .* s before\) is missing, and {why}"
    with pytest.raises(FailedPreconditionError, match=message):
        first.step(gradients(0, 1))
    with pytest.raises(FailedPreconditionError, match=message):
        second.step(gradients(1, 1))
    # What the first one had handed in is not applied, and who joins again goes on from there.
    assert first.step(gradients(0, 1))[:3] == ("applied", 2, 2)
    for found, expected in zip(first.values(), alone(OPTIMIZERS["sgd"], 1, 2), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_on_missing_shrink_goes_on_without_it_and_counts_it_when_it_is_back(
    cluster: SmallCluster, pool: ThreadPoolExecutor
) -> None:
    first, second = two_workers(cluster, "bsp")
    kill(second.client)
    assert first.step(gradients(0, 1))[:3] == ("applied", 2, 2)
    assert first.step(gradients(0, 2))[:3] == ("applied", 3, 3)
    revive(second.client)
    late = second.step(gradients(1, 1))  # its gradient is of the model 1
    assert (late.verdict, late.round, late.version, late.staleness) == ("late", 2, 3, 2)
    together = pool.submit(first.step, gradients(0, 3))
    assert [second.step(gradients(1, 3))[:3], together.result(TIMEOUT_S)[:3]] == [("applied", 4, 4)] * 2


@pytest.mark.parametrize(
    "sync", ["bsp", "ssp(2)", "bsp(on_missing=fail)", "bsp(on_missing=wait, missing_timeout_s=0.001)"]
)
def test_the_dead_do_not_keep_others_from_training_otherwise(
    cluster: SmallCluster, pool: ThreadPoolExecutor, sync: str
) -> None:
    """Nobody waits for them, so nobody has told the group of them."""
    first, second = two_workers(cluster, sync)
    third = Worker(cluster.client(2), ss.train.GradientDescent(0.25, sync="sync(1)"))
    with pytest.raises(FailedPreconditionError, match=r"worker:2 asks for sync\(1\), the group has "):
        third.step(gradients(2, 0))
    for each in (first, second):
        kill(each.client)
    assert third.optimizer.join(third.variables) == 1
    assert third.step(gradients(2, 0))[:3] == ("applied", 2, 2)


def test_a_first_round_that_lacks_workers_ends_with_who_has_come(cluster: SmallCluster) -> None:
    worker = Worker(cluster.client(0), ss.train.Adam(0.25, sync="sync(2, total=3, missing_timeout_s=0.2)"))
    before = worker.values()
    message = r"needs 2 workers for its first round, and only 1 came within 0\.2 s: worker:0"
    with pytest.raises(FailedPreconditionError, match=message):
        worker.step(gradients(0, 0))
    for found, expected in zip(worker.values(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_two_optimizers_of_one_program_have_rounds_of_their_own(
    cluster: SmallCluster, pool: ThreadPoolExecutor
) -> None:
    workers = [Worker(cluster.client(index), ss.train.Adam(0.25, sync="bsp(total=2)")) for index in range(2)]
    others = [ss.train.GradientDescent(0.5, sync="ssp(1, total=2)", name="other") for _ in workers]
    biases = []
    for each in workers:
        with each.client.as_default():
            biases.append(ss.get_variable("other_bias", [3], initializer=ss.zeros_initializer()))

    def work(index: int, num_others: int) -> list[str]:
        verdicts: list[str] = []
        for number in range(4):
            verdicts.append(workers[index].step(gradients(index, number)).verdict)
            if number < num_others:
                others[index].apply_gradients([(np.ones(3, np.float32), biases[index])])
        others[index].finish()
        return verdicts

    begun = [pool.submit(work, index, num_others) for index, num_others in enumerate((4, 2))]
    assert [each.result(TIMEOUT_S) for each in begun] == [["applied"] * 4] * 2
    for found, expected in zip(workers[0].values(), alone(OPTIMIZERS["adam"], 2, 4), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    # The second one has finished two rounds before the first one, in this group alone.
    np.testing.assert_array_equal(biases[0].numpy(), np.full(3, -2.0, np.float32))
