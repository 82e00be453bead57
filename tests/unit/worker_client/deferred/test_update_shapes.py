"""Values whose shape is known only in a run must have the right one, and change nothing if they have not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf


@pytest.fixture(autouse=True)
def session() -> Iterator[Any]:
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


@pytest.mark.parametrize(
    ("start", "value"),
    [
        ([1.0, 2.0, 3.0], 10.0),
        ([1.0, 2.0, 3.0], [10.0]),
        ([1.0, 2.0, 3.0], [[1.0, 1.0, 1.0]]),
        ([1.0, 2.0, 3.0], []),
        ([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0]),
        ([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0, 1.0, 1.0]),
        ([1.0], 10.0),
        (1.0, [10.0]),
    ],
)
@pytest.mark.parametrize("method", ["assign", "assign_add", "assign_sub"])
def test_a_value_must_have_the_very_shape_of_the_variable(session: Any, method: str, start: Any, value: Any) -> None:
    bias, other = tf.Variable(start, name="bias"), tf.Variable(0.0)
    session.run([bias.initializer, other.initializer])
    delta = tf.placeholder(tf.float32)
    change = getattr(bias, method)(delta)
    with pytest.raises(tf.errors.InvalidArgumentError, match="variable bias has the shape") as caught:
        session.run([change, other.assign_add(1.0)], {delta: value})
    assert type(caught.value) is tf.errors.InvalidArgumentError, "a ValueError is for what is found while building"
    assert (session.run(bias).tolist(), session.run(other)) == (start, 0.0)
    fitting = np.ones_like(start)
    assert session.run(change, {delta: fitting}).shape == fitting.shape


@pytest.mark.parametrize("function", ["scatter_nd_update", "scatter_nd_add", "scatter_nd_sub"])
def test_an_update_of_elements_is_not_spread_because_it_turns_out_a_scalar(session: Any, function: str) -> None:
    table = tf.Variable([[1.0, 2.0], [3.0, 4.0]], name="table")
    session.run(table.initializer)
    update = tf.placeholder(tf.float32)
    change = getattr(tf, function)(table, [[0, 1], [1, 0]], update)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"table .*turn out to be a scalar"):
        session.run(change, {update: 7.0})
    assert session.run(table).tolist() == [[1, 2], [3, 4]]
    session.run(change, {update: [7.0, 8.0]})
    assert session.run(table).tolist() != [[1, 2], [3, 4]]


def test_rows_take_a_scalar_as_in_tensorflow_but_no_other_shape(session: Any) -> None:
    table = tf.Variable([[1.0, 2.0], [3.0, 4.0]], name="table")
    session.run(table.initializer)
    update = tf.placeholder(tf.float32)
    change = tf.scatter_add(table, [1], update)
    assert session.run(change, {update: 10.0}).tolist() == [[1, 2], [13, 14]]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"table.*needed is") as caught:
        session.run(change, {update: [10.0, 10.0]})
    assert type(caught.value) is tf.errors.InvalidArgumentError
    assert session.run(table).tolist() == [[1, 2], [13, 14]]


def test_a_partitioned_variable_takes_the_shape_of_the_whole(session: Any) -> None:
    whole = tf.get_variable("whole", [4], initializer=tf.ones_initializer(), partitioner=tf.fixed_size_partitioner(2))
    session.run(tf.global_variables_initializer())
    value = tf.placeholder(tf.float32)
    change = whole.assign_add(value)
    for misfit in (1.0, [1.0], [1.0, 1.0]):
        with pytest.raises(tf.errors.InvalidArgumentError, match="whole"):
            session.run(change, {value: misfit})
    assert session.run(whole).tolist() == [1, 1, 1, 1]
