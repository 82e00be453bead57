"""Averages of graphs: what a move asks the ps for, averages of parts, and what has none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from ps_protocol.operations import Apply
from tests.unit.worker_client.clusters import InProcessCluster
from tests.unit.worker_client.sessions.test_evaluation import RecordingRuntime
from worker_client.sessions.evaluation import Evaluation


@pytest.fixture(autouse=True)
def _graph() -> Iterator[None]:
    with tf.Graph().as_default():
        yield


def test_averages_of_variables_move_on_their_ps() -> None:
    w, b = tf.get_variable("w", [3], initializer=tf.ones_initializer()), tf.get_variable("b", initializer=2.0)
    move = tf.train.ExponentialMovingAverage(0.75).apply([w, b])
    runtime = RecordingRuntime()
    try:
        initializer = tf.global_variables_initializer()
        assert initializer is not None
        Evaluation(runtime, {}).run([initializer], [])
        runtime.exchanges.clear()
        Evaluation(runtime, {}).run([move], [])
        (sent,) = runtime.exchanges
        assert [(each.name, each.slots) for each in sent if isinstance(each, Apply)] == [
            ("w/ExponentialMovingAverage", ("w",)),
            ("b/ExponentialMovingAverage", ("b",)),
        ]
    finally:
        runtime.close()


def test_averages_of_parts_are_cut_as_these() -> None:
    parts = tf.get_variable("p", [5, 2], initializer=tf.ones_initializer(), partitioner=tf.fixed_size_partitioner(2))
    averages = tf.train.ExponentialMovingAverage(tf.constant(0.5), name="avg")
    move, add = averages.apply(list(parts)), [each.assign_add(tf.ones_like(each)) for each in parts]
    found: list[Any] = [averages.average(each) for each in parts]
    assert [each.op.name for each in found] == ["p/part_0/avg", "p/part_1/avg"]
    assert [each.spec.slice.full_name for each in found] == ["p/avg"] * 2
    with InProcessCluster() as cluster, tf.Session(cluster.client()) as session:
        session.run(tf.global_variables_initializer())
        for _ in range(2):
            session.run(add)
            session.run(move)
        assert [session.run(each).tolist() for each in found] == [[[2.25] * 2] * 3, [[2.25] * 2] * 2]


def test_an_average_of_16_bit_floats_moves_by_their_share() -> None:
    w = tf.get_variable("w", [2], tf.bfloat16, initializer=tf.zeros_initializer())
    averages = tf.train.ExponentialMovingAverage(0.75)
    move = averages.apply([w])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(w.assign_add(tf.cast([4.0, 8.0], tf.bfloat16)))
        session.run(move)
        np.testing.assert_array_equal(session.run(averages.average(w)).astype(np.float32), [1.0, 2.0])


def test_what_has_no_average_is_refused_by_name() -> None:
    averages = tf.train.ExponentialMovingAverage(0.5)
    with pytest.raises(TypeError, match="counter:0 is int32; cast it"):
        averages.apply([tf.get_variable("counter", initializer=1)])
    parts = tf.get_variable("p", [4], partitioner=tf.fixed_size_partitioner(2))
    with pytest.raises(TypeError, match="of a partitioned one its parts"):
        averages.apply([parts])
    assert [each.name for each in tf.global_variables()] == ["counter:0", "p/part_0:0", "p/part_1:0"]
