"""Accumulators and queues of graphs on a cluster: shared by their names, waited for, and called off."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client as ss
import worker_client.compat.v1 as tf
from ps_protocol.codec.limits import UNARY_LIMIT_BYTES
from ps_protocol.errors import CancelledError, InvalidArgumentError, OutOfRangeError
from ps_protocol.service_types import DurabilityMode
from tests.chaos.testbed import PsInProcess, connected
from tests.conftest import Eventually
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster

TIMEOUT_S = 60.0


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    with SmallCluster(2) as cluster:
        yield cluster


class Worker:
    """A worker with its own graph of an accumulator on ps 1."""

    def __init__(self, cluster: SmallCluster, index: int, *, shape: Any = (2,), shared_name: str = "w/grad_accum"):
        with tf.Graph().as_default() as graph:
            with tf.device("/job:ps/task:1"):
                self.accumulator = tf.ConditionalAccumulator(tf.float32, shape, shared_name=shared_name)
            self.grad = tf.placeholder(tf.float32)
            self.push = self.accumulator.apply_grad(self.grad)
            self.count = self.accumulator.num_accumulated()
            self.take = self.accumulator.take_grad(2)
            self.session = tf.Session(cluster.client(index), graph=graph)

    def pushes(self, grad: Any) -> None:
        self.session.run(self.push, {self.grad: grad})


def waiting(
    cluster: SmallCluster, pool: ThreadPoolExecutor, eventually: Eventually, task: int, call: Callable[[], Any]
) -> Future[Any]:
    """A call that waits at a ps task by now."""
    before = cluster.tasks[task].num_waiting
    future = pool.submit(call)
    eventually(lambda: cluster.tasks[task].num_waiting > before)
    return future


def test_workers_push_and_the_chief_takes(
    cluster: SmallCluster, pool: ThreadPoolExecutor, eventually: Eventually
) -> None:
    chief, worker = Worker(cluster, 0), Worker(cluster, 1)
    chief.pushes([1.0, 2.0])
    assert worker.session.run(worker.count) == 1
    mean = waiting(cluster, pool, eventually, 1, lambda: chief.session.run(chief.take))
    worker.pushes([3.0, 4.0])
    assert mean.result(TIMEOUT_S).tolist() == [2.0, 3.0]
    assert worker.session.run(worker.count) == 0


@pytest.mark.parametrize("transport", ["grpc", "tcp", "unix", "shm"])
@pytest.mark.parametrize("size", [2, UNARY_LIMIT_BYTES // 4 + 1, 3 * UNARY_LIMIT_BYTES // 4])
def test_a_gradient_of_a_size_that_nobody_knew_comes_whole(tmp_path: Path, transport: str, size: int) -> None:
    grad = np.arange(size, dtype=np.float32)
    task = PsInProcess(0, DurabilityMode.NONE, tmp_path, num_ps=1)
    with contextlib.closing(task), connected([task.address], transport) as client, tf.Graph().as_default() as graph:
        accumulator = tf.ConditionalAccumulator(tf.float32, shared_name="grads")
        rows = tf.SparseConditionalAccumulator(tf.float32, shared_name="rows")
        given = tf.placeholder(tf.float32)
        push = [accumulator.apply_grad(given), rows.apply_grad(tf.range(size), given)]
        take = [accumulator.take_grad(2), rows.take_grad(2).values]
        with tf.Session(client, graph=graph) as session:
            for _ in range(2):
                session.run(push, {given: grad})
            for taken in session.run(take):
                np.testing.assert_array_equal(taken, grad)


def test_other_settings_are_refused_and_both_workers_named(cluster: SmallCluster) -> None:
    first, second = Worker(cluster, 0), Worker(cluster, 1, shape=(3,))
    first.pushes([1.0, 2.0])
    message = r"worker:0 has made it with shape=\[2\], but worker:1 gives shape=\[3\]"
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        second.session.run(second.count)
    assert caught.value.op is second.accumulator.accumulator_ref.op
    assert first.session.run(first.count) == 1


def test_without_a_shared_name_each_worker_has_its_own(cluster: SmallCluster) -> None:
    first, second = Worker(cluster, 0, shared_name=""), Worker(cluster, 1, shared_name="")
    first.pushes([1.0, 2.0])
    assert [first.session.run(first.count), second.session.run(second.count)] == [1, 0]


def test_a_run_ends_when_its_session_is_closed(
    cluster: SmallCluster, pool: ThreadPoolExecutor, eventually: Eventually
) -> None:
    worker = Worker(cluster, 1)
    taking = waiting(cluster, pool, eventually, 1, lambda: worker.session.run(worker.take))
    worker.session.close()
    with pytest.raises(CancelledError, match="waited for 2 gradients in accumulator conditional_accumulator"):
        taking.result(TIMEOUT_S)


def test_a_queue_of_a_graph_is_the_eager_one(cluster: SmallCluster) -> None:
    with cluster.client(0).as_default():
        eager = ss.FIFOQueue(3, [np.int32, "string"], shapes=[[], []], shared_name="tasks")
        eager.enqueue((1, "one"))
    with tf.Graph().as_default() as graph:
        queue = tf.FIFOQueue(3, [tf.int32, tf.string], shapes=[[], []], shared_name="tasks")
        item, push, close = queue.dequeue(), queue.enqueue([2, "two"]), queue.close()
    with tf.Session(cluster.client(1), graph=graph) as session:
        number, text = session.run(item)
        assert (int(number), text) == (1, b"one")
        session.run(push)
        session.run(close)
    number, text = eager.dequeue()
    assert (int(number), text.item()) == (2, b"two")
    with pytest.raises(OutOfRangeError):
        eager.dequeue()


def test_what_waits_for_each_other_in_one_run_is_done() -> None:
    with tf.Graph().as_default():
        first, second = tf.FIFOQueue(1, tf.int32, shapes=[[]]), tf.FIFOQueue(1, tf.int32, shapes=[[]])
        taken = [first.dequeue(), second.dequeue()]
        pushed = [second.enqueue(2), first.enqueue(1)]
        with tf.Session() as session:
            values = session.run([taken, pushed])[0]
    assert [int(each) for each in values] == [1, 2]


def test_what_does_not_wait_is_done_before_a_wait_that_gives_up() -> None:
    with tf.Graph().as_default():
        counter = tf.Variable(0)
        taken, added = tf.FIFOQueue(1, tf.int32, shapes=[[]]).dequeue(), tf.assign_add(counter, 1)
        with tf.Session() as session:
            session.run(counter.initializer)
            with pytest.raises(tf.errors.DeadlineExceededError, match=r"has waited 0\.0 s for 1 items of queue"):
                session.run([taken, added], options=tf.RunOptions(timeout_in_ms=20))
            assert session.run(counter) == 1


def test_rows_of_a_gradient_train_a_table(cluster: SmallCluster) -> None:
    with tf.Graph().as_default() as graph:
        table = tf.get_variable("table", [4, 1], initializer=tf.zeros_initializer())
        accumulator = tf.SparseConditionalAccumulator(tf.float32, [None, 1], shared_name="table/grad_accum")
        push = [accumulator.apply_grad([0, 2], [[1.0], [5.0]]), accumulator.apply_grad([2], [[7.0]])]
        taken = accumulator.take_indexed_slices_grad(2)
        train = tf.train.GradientDescentOptimizer(1.0).apply_gradients([(taken, table)])
    with tf.Session(cluster.client(0), graph=graph) as session:
        session.run(table.initializer)
        session.run(push)
        session.run(train)
        assert session.run(table).ravel().tolist() == [-1.0, 0.0, -6.0, 0.0]
