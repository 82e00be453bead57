"""Sessions on a connection that only looks on: reads are answered, and whatever would change a variable is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import worker_client.compat.v1 as tf
from ps_protocol.errors import PermissionDeniedError
from tests.unit.worker_client.clusters import InProcessCluster

Program = Callable[[Any, Any], Any]
"""What is run, of a whole variable and a partitioned one."""


def made() -> tuple[Any, Any]:
    whole = tf.get_variable("scope/v", [3], initializer=tf.zeros_initializer())
    parts = tf.get_variable("scope/w", [4], initializer=tf.ones_initializer(), partitioner=tf.fixed_size_partitioner(2))
    return whole, parts


@pytest.fixture
def cluster() -> Iterator[InProcessCluster]:
    """A cluster with two variables that a worker has given values."""
    with InProcessCluster() as cluster, tf.Graph().as_default():
        whole, parts = made()
        session = tf.Session(cluster.client())
        session.run([whole.initializer, *(part.initializer for part in parts)])
        session.run(whole.assign([1.0, 2.0, 3.0]))
        yield cluster


@pytest.fixture
def observed(cluster: InProcessCluster) -> Iterator[Callable[[Program], Any]]:
    """Runs something in a session of an observer, in a graph of its own."""
    with tf.Graph().as_default():
        variables, session = made(), tf.Session(cluster.client(observer=True))
        yield lambda program: session.run(program(*variables))


READS: list[tuple[Program, Any]] = [
    (lambda v, _: v, [1.0, 2.0, 3.0]),
    (lambda v, _: tf.reduce_sum(v), 6.0),
    (lambda v, _: v[1:], [2.0, 3.0]),
    (lambda v, _: tf.gather(v, [2]), [3.0]),
    (lambda v, _: tf.is_variable_initialized(v), True),
    (lambda v, _: tf.report_uninitialized_variables([v]), []),
    (lambda _, w: w, [1.0, 1.0, 1.0, 1.0]),
    (lambda _, w: tf.nn.embedding_lookup(w, [3, 0]), [1.0, 1.0]),
]
UPDATES: list[Program] = [
    lambda v, _: v.assign([9.0, 9.0, 9.0]),
    lambda v, _: v.assign_add([1.0, 1.0, 1.0]),
    lambda v, _: tf.scatter_add(v, [0], [1.0]),
    lambda v, _: v[0].assign(4.0),
    lambda v, _: tf.assign(v, [1.0], validate_shape=False),
    lambda v, _: v.initializer,
    lambda v, _: [v.value(), v.assign_sub([1.0, 1.0, 1.0])],
    lambda _, w: w.assign(tf.zeros([4])),
]


@pytest.mark.parametrize(("program", "expected"), READS)
def test_an_observer_reads(observed: Callable[[Program], Any], program: Program, expected: Any) -> None:
    assert observed(program).tolist() == expected


@pytest.mark.parametrize("program", UPDATES)
def test_an_observer_changes_nothing(observed: Callable[[Program], Any], program: Program) -> None:
    with pytest.raises(PermissionDeniedError, match=r'variable scope/\S+ was not changed: .* observer="update"'):
        observed(program)
    assert observed(lambda v, _: v).tolist() == [1.0, 2.0, 3.0]
    assert observed(lambda _, w: w).tolist() == [1.0, 1.0, 1.0, 1.0]


def test_an_observer_makes_no_variables(observed: Callable[[Program], Any]) -> None:
    with pytest.raises(PermissionDeniedError, match=r"variable new is not in the cluster.* makes none"):
        observed(lambda *_: tf.get_variable("new", [2]))


def test_an_observer_sees_a_value_of_another_shape(cluster: InProcessCluster) -> None:
    with tf.Graph().as_default():
        whole, _ = made()
        tf.Session(cluster.client()).run(tf.assign(whole, [[7.0, 8.0]], validate_shape=False))
        assert tf.Session(cluster.client(observer=True)).run(whole).tolist() == [[7.0, 8.0]]


def test_one_that_asks_for_it_updates(cluster: InProcessCluster) -> None:
    with tf.Graph().as_default():
        whole, _ = made()
        session = tf.Session(cluster.client(observer="update"))
        assert session.run(whole.assign_add([1.0, 1.0, 1.0])).tolist() == [2.0, 3.0, 4.0]
