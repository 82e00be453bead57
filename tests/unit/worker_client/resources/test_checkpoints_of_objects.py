"""Checkpoints of accumulators and queues: what is pending is saved and restored, on other numbers of ps tasks too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from worker_client.client import Client


class Program:
    """A worker of a variable, an accumulator and a queue of its gradients, each on the last ps task that there is.

    Args:
        client: The connection.
        num_ps: How many ps tasks there are.
    """

    def __init__(self, client: Client, num_ps: int):
        with tf.Graph().as_default() as graph, tf.device(f"/job:ps/task:{num_ps - 1}"):
            self.variable = tf.get_variable("w", [2], initializer=tf.ones_initializer())
            accumulator = tf.ConditionalAccumulator(tf.float32, [2], shared_name="w/grads")
            rows = tf.SparseConditionalAccumulator(tf.float32, [9, 1], shared_name="rows/grads")
            queue = tf.FIFOQueue(5, [tf.int64, tf.string], shapes=[[], []], shared_name="items")
            self.push = [
                accumulator.apply_grad(tf.constant([1.0, 3.0]), 4),
                rows.apply_grad([7, 0], [[1.0], [5.0]], local_step=4),
            ]
            self.set_step = [accumulator.set_global_step(4), rows.set_global_step(4)]
            self.stale = accumulator.apply_grad(tf.constant([9.0, 9.0]), 3)
            self.counts = [accumulator.num_accumulated(), rows.num_accumulated(), queue.size()]
            self.take = [accumulator.take_grad(2), *rows.take_grad(2)]
            self.enqueue = queue.enqueue_many(([5, 6], ["five", "six\0"]))
            self.dequeue = queue.dequeue_many(2)
            self.session = tf.Session(client, graph=graph)

    def run(self, fetches: Any) -> Any:
        return self.session.run(fetches)


@pytest.mark.parametrize("num_ps", [1, 2, 3])
def test_what_is_pending_is_restored_on_any_number_of_ps_tasks(tmp_path: Path, num_ps: int) -> None:
    with SmallCluster(2) as cluster:
        client = cluster.client(0)
        first = Program(client, 2)
        first.run(first.variable.initializer)
        first.run([first.set_step, first.enqueue])
        first.run(first.push)
        client.save(tmp_path / "saved", name="all")
    with SmallCluster(num_ps) as cluster:
        client = cluster.client(0)
        client.restore(tmp_path / "saved")
        other = Program(client, num_ps)
        assert other.run(other.counts) == [1, 1, 2]
        other.run(other.stale)
        other.run(other.push)
        assert other.run(other.counts) == [2, 2, 2]
        mean, rows, values, shape = other.run(other.take)
        assert (mean.tolist(), rows.tolist(), values.ravel().tolist()) == ([1.0, 3.0], [7, 0], [1.0, 5.0])
        assert shape.tolist() == [9, 1]
        numbers, texts = other.run(other.dequeue)
        assert (numbers.tolist(), texts.tolist()) == ([5, 6], [b"five", b"six\0"])


def test_a_restore_takes_back_what_came_after_the_save(tmp_path: Path) -> None:
    with SmallCluster(2) as cluster:
        client = cluster.client(0)
        program = Program(client, 2)
        program.run([program.variable.initializer, program.set_step])
        program.run(program.push)
        assert program.run(program.counts) == [1, 1, 0]
        client.save(tmp_path / "saved", name="all")
        program.run([program.push, program.enqueue])
        program.run(program.take)
        client.restore(tmp_path / "saved")
        assert program.run(program.counts) == [1, 1, 0]
        program.run(program.push)  # of step 4, which is the accumulator's again
        assert np.array_equal(program.run(program.take)[0], [1.0, 3.0])
