"""What workers of ``ssp`` send: those ahead read before they hand in, and the last one waits for no bringing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.errors import StateLostError
from ps_protocol.operations import Batch, BatchReply, Read, Reply, Result
from ps_protocol.training.round_operations import Commit, Stage, stamp_name
from ps_server.core.parameter_server import ParameterServer
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from tests.unit.worker_client.optimizers.test_messages_of_rounds import (
    TIMEOUT_S,
    Listening,
    commits,
    has,
    heard,
    step_all,
)
from tests.unit.worker_client.optimizers.together import OPTIMIZERS, Worker, alone, gradients
from worker_client.connection.futures import OperationFuture, failed
from worker_client.connection.handle import PsHandle


class Filling(ParameterServer):
    """Has what is read put where it belongs, as sockets do."""

    def exchange(self, batch: Batch, **more: Any) -> BatchReply:
        reply = super().exchange(batch, **more)
        return BatchReply(tuple([_filled(*each) for each in zip(batch.operations, reply.replies, strict=True)]))


def _filled(operation: Any, reply: Reply) -> Reply:
    if not isinstance(operation, Read) or operation.out is None or not isinstance(reply, Result):
        return reply
    if reply.tensor is not None:
        np.copyto(operation.out, reply.tensor)
    return replace(reply, tensor=operation.out)


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    with SmallCluster(2, task_type=Listening) as cluster:
        yield cluster


@pytest.fixture
def workers(cluster: SmallCluster, pool: ThreadPoolExecutor) -> list[Worker]:
    """Two after their first step, of which the first one may be two rounds ahead."""
    made = [Worker(cluster.client(index), OPTIMIZERS["sgd"](sync="ssp(2, total=2)")) for index in range(2)]
    step_all(pool, made, 0)
    return made


def check_all(workers: list[Worker], num_steps: int) -> None:
    """Whoever reads sees the sum of all rounds, on both ps tasks."""
    for worker in workers:
        worker.mirror.pull()
        for pulled, value in zip(worker.mirror.values, alone(OPTIMIZERS["sgd"], 2, num_steps), strict=True):
            np.testing.assert_allclose(pulled, value, rtol=1e-6, atol=1e-6)


def flush(worker: Worker) -> None:
    """Waits until what it has sent without waiting is there."""
    for ps in range(2):
        worker.client.fanout.run(ps, Read(stamp_name(worker.optimizer.name, ps)), expected_reply_bytes=0)


def test_a_worker_ahead_makes_one_message_at_each_ps(cluster: SmallCluster, workers: list[Worker]) -> None:
    first, second = workers
    for number in (1, 2):
        heard(cluster)
        assert first.step(gradients(0, number)).verdict == "pending"
        deciding, other = heard(cluster)
        assert [len(deciding), len(other)] == [1, 1]
        assert has(other[0], Stage)
        assert has(other[0], Read)
        assert not commits(other)
    for number in (1, 2):
        assert second.step(gradients(1, number)).verdict == "applied"
    check_all(workers, 3)


def test_the_last_one_brings_a_round_behind_its_step(cluster: SmallCluster, workers: list[Worker]) -> None:
    first, second = workers
    for number in (1, 2):
        first.step(gradients(0, number))
    heard(cluster)
    applied = second.step(gradients(1, 1))  # which the first one waits for, being two rounds ahead
    flush(second)
    deciding, other = heard(cluster)
    assert applied.verdict == "applied"
    assert len([batch for batch in deciding if has(batch, Stage)]) == 1
    staged, brought = [batch for batch in other if has(batch, Stage, Commit)]
    assert not commits([staged])
    assert [type(each) for each in brought.operations] == [Commit]
    second.step(gradients(1, 2))
    flush(second)
    assert [len(commits([batch])) for batch in heard(cluster)[1] if has(batch, Stage)] == [0]  # once is enough
    check_all(workers, 3)


def test_who_is_not_behind_sees_the_round_that_it_decides(cluster: SmallCluster, workers: list[Worker]) -> None:
    first, second = workers
    first.step(gradients(0, 1))
    assert second.step(gradients(1, 1)).verdict == "applied"
    assert first.step(gradients(0, 2)).verdict == "pending"  # the second one is not the only one behind now
    heard(cluster)
    assert second.step(gradients(1, 2)).verdict == "applied"
    for pulled, value in zip(second.mirror.values, alone(OPTIMIZERS["sgd"], 2, 3), strict=True):
        np.testing.assert_allclose(pulled, value, rtol=1e-6, atol=1e-6)
    other = heard(cluster)[1]
    assert len(commits(other)) == 1
    assert len(other) == 2


def decide_alone(last: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the last one make its step, but what brings the round does not arrive."""
    lost: list[Commit] = []

    def lose(_handle: PsHandle, operations: Sequence[Commit], **_more: Any) -> OperationFuture[Any]:
        lost.extend(operations)
        return failed(StateLostError("the ps was started again"))

    with monkeypatch.context() as patch:
        patch.setattr(PsHandle, "submit", lose)
        assert last.step(gradients(1, 1)).verdict == "applied"
    assert [type(each) for each in lost] == [Commit]


def test_what_the_last_one_could_not_bring_others_bring(
    workers: list[Worker],
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = workers
    for number in (1, 2):
        first.step(gradients(0, number))
    decide_alone(second, monkeypatch)
    assert not caplog.records  # it does without
    assert first.step(gradients(0, 3)).verdict == "pending"  # it has brought the second round, which its next one needs
    waits = pool.submit(first.step, gradients(0, 4))
    for number in (2, 3, 4):
        assert second.step(gradients(1, number)).verdict == "applied"
    assert waits.result(TIMEOUT_S).verdict == "pending"
    check_all(workers, 5)


def test_who_finishes_leaves_what_is_decided_on_all_ps_tasks(
    cluster: SmallCluster, workers: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = workers
    for number in (1, 2):
        first.step(gradients(0, number))
    decide_alone(second, monkeypatch)
    second.optimizer.finish()  # with which the round commits that the first one is ahead with
    fanout, name = cluster.client(2).fanout, first.optimizer.name
    stamps = [fanout.run(ps, Read(stamp_name(name, ps)), expected_reply_bytes=0).tensor for ps in range(2)]
    np.testing.assert_array_equal(stamps, [[3, 3], [3, 3]])


def test_gradients_may_be_what_was_pulled(pool: ThreadPoolExecutor) -> None:
    with SmallCluster(2, task_type=Filling) as cluster:
        made = []
        for index in range(2):
            client = cluster.client(index)
            with client.as_default():
                factors = [ss.get_variable(name, [1], initializer=ss.ones_initializer()) for name in "xy"]
            assert [each.ps_task for each in factors] == [0, 1]
            optimizer = ss.train.GradientDescent(0.5, name="product", sync="ssp(2, total=2)")
            made.append((optimizer, factors, client.mirror(factors)))

        def step(index: int, *gradients: Any) -> str:
            optimizer, factors, mirror = made[index]
            return optimizer.apply_gradients(zip(gradients, factors, strict=True), pull=mirror)[0].verdict

        one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
        list(pool.map(lambda index: step(index, zero, zero), range(2)))
        assert step(0, zero, zero) == "pending"
        assert step(1, one, one) == "applied"
        x, y = made[0][2].values
        assert (x.item(), y.item()) == (1, 1)  # since then x and y have become 0.75
        step(0, y, x)  # of their product
        step(1, zero, zero)
        for each in made[1][1]:
            assert each.numpy().item() == 0.75 - 0.5 / 2
