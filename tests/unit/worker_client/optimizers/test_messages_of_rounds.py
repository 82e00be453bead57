"""What workers that train together send to each ps task, and what becomes of it when a message or a worker is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.errors import InvalidArgumentError, UnavailableError
from ps_protocol.operations import Batch, BatchReply, PsOperation, Read, Result
from ps_protocol.shared_objects import Act, Look
from ps_protocol.training.round_operations import STAMP_KIND, Commit, Stage, stamp_name
from ps_server.core import parameter_server
from ps_server.core.parameter_server import ParameterServer
from ps_server.store.round_calls import RoundCalls
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from tests.unit.worker_client.optimizers.together import OPTIMIZERS, Worker, alone, gradients
from worker_client.connection.direct import MAX_DIRECT_BYTES
from worker_client.objects import round_reads, training_group

TIMEOUT_S = 60.0


class Listening(ParameterServer):
    """Notes the batches that come."""

    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        self.heard: list[Batch] = []

    def exchange(self, batch: Batch, **more: Any) -> BatchReply:
        self.heard.append(batch)
        return super().exchange(batch, **more)


class Forgetful(Listening):
    """Loses the answer to each hand-in once."""

    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        self.lost: set[tuple[UUID, int]] = set()

    def exchange(self, batch: Batch, **more: Any) -> BatchReply:
        reply = super().exchange(batch, **more)
        number = (batch.client, batch.sequence)
        if has(batch, Stage) and has(batch, Act) and number not in self.lost:
            self.lost.add(number)
            raise UnavailableError("the answer was lost")
        return reply


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No wait ends for want of time."""
    monkeypatch.setattr(training_group, "_WAIT_BEHIND_S", TIMEOUT_S)
    monkeypatch.setattr(training_group, "_WAIT_FOR_OTHERS_S", TIMEOUT_S)


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    with SmallCluster(2, task_type=Listening) as cluster:
        yield cluster


def has(batch: Batch, *kinds: type[Any]) -> bool:
    return any(isinstance(each, kinds) for each in batch.operations)


def heard(cluster: SmallCluster) -> list[list[Batch]]:
    """What has come since the last call."""
    found = []
    for task in cluster.tasks:
        assert isinstance(task, Listening)
        found.append(list(task.heard))
        task.heard.clear()
    return found


def commits(batches: Sequence[Batch]) -> list[Commit]:
    return [each for batch in batches for each in batch.operations if isinstance(each, Commit)]


def step_all(pool: ThreadPoolExecutor, workers: Sequence[Worker], number: int) -> list[Any]:
    begun = [pool.submit(each.step, gradients(index, number)) for index, each in enumerate(workers)]
    return [each.result(TIMEOUT_S) for each in begun]


def check_model(workers: Sequence[Worker], num_steps: int) -> None:
    for worker in workers:
        expected = alone(OPTIMIZERS["sgd"], len(workers), num_steps)
        for found, pulled, value in zip(worker.values(), worker.mirror.values, expected, strict=True):
            np.testing.assert_allclose(found, value, rtol=1e-6, atol=1e-6)
            np.testing.assert_array_equal(pulled, found)


@pytest.mark.parametrize(
    ("num_ps", "most_bytes", "expected"),
    [(1, 0, [1]), (2, MAX_DIRECT_BYTES, [1, 2]), (2, 0, [2, 2])],
    ids=["one ps", "small", "large"],
)
def test_what_is_staged_at_ps_0_goes_with_the_hand_in_unless_it_would_hold_up_others(
    num_ps: int, most_bytes: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_group, "MAX_DIRECT_BYTES", most_bytes)
    with SmallCluster(num_ps, task_type=Listening) as cluster:
        worker = Worker(cluster.client(), OPTIMIZERS["sgd"](sync="bsp"))
        worker.step(gradients(0, 0))
        heard(cluster)
        assert worker.step(gradients(0, 1)).verdict == "applied"
        assert [len(each) for each in heard(cluster)] == expected


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("sync", ["bsp(total=3)", "async"])
def test_a_round_is_one_message_of_each_worker_at_ps_0_and_two_at_the_others(
    cluster: SmallCluster, pool: ThreadPoolExecutor, sync: str
) -> None:
    workers = [Worker(cluster.client(index), OPTIMIZERS["sgd"](sync=sync)) for index in range(3)]
    for number in range(2):
        step_all(pool, workers, number)
    for number in range(2, 5):
        heard(cluster)
        step_all(pool, workers, number)
        deciding, other = heard(cluster)
        assert [len(deciding), len(other)] == [3, 6]
        assert all(has(each, Stage) and has(each, Act) and has(each, Commit) for each in deciding)
        assert all(each.decided_by for each in commits(deciding))
        if sync.startswith("bsp"):
            assert len(commits(other)) == 1  # who has made the round commit brings it; the others only read
            assert [each.sequence for each in other if not has(each, Stage, Commit)] == [0, 0]
            check_model(workers, number + 1)


def test_who_changes_something_else_does_not_wait_in_the_batch_of_its_hand_in(cluster: SmallCluster) -> None:
    worker = Worker(cluster.client(), OPTIMIZERS["sgd"](sync="bsp"))
    with worker.client.as_default():
        other = ss.get_variable("other", [], initializer=ss.zeros_initializer())
    waits = []
    for number in range(4):
        if number == 2:
            for _ in range(len(cluster.tasks)):
                other.assign_add(1.0)
        heard(cluster)
        worker.step(gradients(0, number))
        looks = [each for batch in heard(cluster)[0] for each in batch.operations if isinstance(each, Look)]
        waits.append([each.wait_s > 0 for each in looks if each.kind != STAMP_KIND][-1])
    is_there = other.ps_task == 0
    assert waits[1:] == [True, not is_there, True]


def test_a_wait_in_a_hand_in_holds_up_no_other_change_for_good(cluster: SmallCluster, pool: ThreadPoolExecutor) -> None:
    first, second = (Worker(cluster.client(index), OPTIMIZERS["sgd"](sync="bsp(total=2)")) for index in range(2))
    step_all(pool, [first, second], 0)
    waiting = pool.submit(first.step, gradients(0, 1))
    with first.client.as_default():
        others = [ss.get_variable(f"other{index}", [], initializer=ss.zeros_initializer()) for index in range(2)]
    try:
        for each in others:
            each.assign_add(1.0)
            assert float(each.read_value()) == 1.0
        assert not waiting.done()
    finally:
        second.step(gradients(1, 1))
    assert waiting.result(TIMEOUT_S).verdict == "applied"
    check_model([first, second], 2)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("num_ps", [1, 2])
def test_what_is_large_is_not_read_behind_a_wait(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, num_ps: int
) -> None:
    monkeypatch.setattr(round_reads, "MOST_BEHIND_BYTES", 0)
    with SmallCluster(num_ps, task_type=Listening) as cluster:
        workers = [Worker(cluster.client(index), OPTIMIZERS["sgd"](sync="bsp(total=2)")) for index in range(2)]
        step_all(pool, workers, 0)
        for number in range(1, 4):
            heard(cluster)
            step_all(pool, workers, number)
            check_model(workers, number + 1)
            waits = [batch for batch in heard(cluster)[0] if has(batch, Look) and has(batch, Read)]
            read = {each.name for batch in waits for each in batch.operations if isinstance(each, Read)}
            assert read == {stamp_name(workers[0].optimizer.name, 0)}


@pytest.mark.usefixtures("patient")
def test_a_worker_whose_hand_in_has_no_answer_hands_in_once(pool: ThreadPoolExecutor) -> None:
    with SmallCluster(2, task_type=Forgetful) as cluster:
        workers = [Worker(cluster.client(index), OPTIMIZERS["sgd"](sync="bsp(total=2)")) for index in range(2)]
        for number in range(3):
            for each in step_all(pool, workers, number):
                assert each[:3] == ("applied", number + 1, number + 1)
        check_model(workers, 3)
        task = cluster.tasks[0]
        assert isinstance(task, Forgetful)
        assert task.status(timeout_s=TIMEOUT_S).duplicate_batches == len(task.lost) >= 4


def test_what_is_read_behind_a_round_is_not_remembered(cluster: SmallCluster) -> None:
    worker = Worker(cluster.client(), OPTIMIZERS["sgd"](sync="bsp"))
    worker.step(gradients(0, 0))
    before = [each.state.parts.ledger.tensor_bytes for each in cluster.tasks]
    worker.step(gradients(0, 1))
    after = [each.state.parts.ledger.tensor_bytes for each in cluster.tasks]
    assert after[1] == before[1]
    assert after[0] - before[0] < 1000  # the answer to the hand-in


def test_others_bring_a_round_of_a_worker_that_dies_before_it_has(
    cluster: SmallCluster, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = [Worker(cluster.client(index), OPTIMIZERS["sgd"](sync="bsp(total=3)")) for index in range(3)]
    step_all(pool, workers, 0)
    commit, died = RoundCalls.commit, threading.Event()

    def dies(calls: RoundCalls, operation: Commit) -> Result:
        if operation.name.endswith("/1") and not died.is_set():
            died.set()
            raise InvalidArgumentError("the worker has died")
        return commit(calls, operation)

    monkeypatch.setattr(RoundCalls, "commit", dies)
    begun = [pool.submit(each.step, gradients(index, 1)) for index, each in enumerate(workers)]
    failed = [each.exception(TIMEOUT_S) for each in begun]
    assert died.is_set()
    assert sorted([each is None for each in failed]) == [False, True, True]
    for worker, error in zip(workers, failed, strict=True):
        if error is None:
            for found, value in zip(worker.mirror.values, alone(OPTIMIZERS["sgd"], 3, 2), strict=True):
                np.testing.assert_allclose(found, value, rtol=1e-6, atol=1e-6)


def test_the_seat_of_a_newcomer_is_brought_until_others_know_it(
    cluster: SmallCluster, pool: ThreadPoolExecutor
) -> None:
    first = Worker(cluster.client(0), OPTIMIZERS["sgd"](sync="bsp"))
    first.step(gradients(0, 0))
    second = Worker(cluster.client(1), OPTIMIZERS["sgd"](sync="bsp"))
    second.optimizer.join(second.variables, pull=second.mirror)
    for number in range(1, 4):
        assert {each[:2] for each in step_all(pool, [first, second], number)} == {("applied", number + 1)}
    for found, value in zip(first.mirror.values, second.mirror.values, strict=True):
        np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize("old", [[0], [1], [0, 1]], ids=str)
@pytest.mark.parametrize("sync", ["bsp(total=2)", "ssp(2, total=2)", "async"])
def test_ps_tasks_of_an_earlier_version_have_the_same_rounds(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, old: list[int], sync: str
) -> None:
    """They know no question to a stamp, decide nothing in a batch, and do not wait for more than a question alone."""
    commit, look, end_of_changes = RoundCalls.commit, RoundCalls.look, parameter_server._end_of_changes

    def is_old(name: str) -> bool:
        return int(name.rpartition("/")[2]) in old

    def earlier_commit(calls: RoundCalls, operation: Commit) -> Result:
        if operation.decided_by and is_old(operation.name):
            return Result(1, True)
        return commit(calls, operation)

    def earlier_look(calls: RoundCalls, operation: Look) -> Result:
        if is_old(operation.name):
            raise InvalidArgumentError("this ps does not know a round_stamp")
        return look(calls, operation)

    def earlier_end(operations: Sequence[PsOperation]) -> int:
        return len(operations) if 0 in old else end_of_changes(operations)

    monkeypatch.setattr(RoundCalls, "commit", earlier_commit)
    monkeypatch.setattr(RoundCalls, "look", earlier_look)
    monkeypatch.setattr(parameter_server, "_end_of_changes", earlier_end)
    with SmallCluster(2, task_type=Listening) as cluster:
        workers = [Worker(cluster.client(index), OPTIMIZERS["sgd"](sync=sync)) for index in range(2)]
        for number in range(3):
            for each in step_all(pool, workers, number):
                assert each.verdict == "applied" or not sync.startswith("bsp")
        packed = [
            {each.packs_numbers for batch in of for each in batch.operations if isinstance(each, Stage)}
            for of in heard(cluster)
        ]
        assert packed == [{ps not in old} for ps in range(2)]
        if sync.startswith("bsp"):
            check_model(workers, 3)
