"""Variables whose shape is not checked, and values of another shape, as in TensorFlow 1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import worker_client.compat.v1 as tf


@pytest.fixture(autouse=True)
def session() -> Iterator[tf.Session]:
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def known(variable: Any) -> list[int | None] | None:
    shape: tf.TensorShape = variable.shape
    return None if shape.ndims is None else shape.as_list()


def test_nothing_is_known_of_the_shape_of_a_variable_that_is_not_checked() -> None:
    box = tf.placeholder(tf.float32)
    assert known(tf.Variable([1.0, 2.0], validate_shape=False)) is None
    assert known(tf.Variable(box, validate_shape=False)) is None
    assert known(tf.get_variable("a", initializer=box, validate_shape=False)) is None
    assert known(tf.get_variable("b", initializer=lambda: tf.zeros([2, 2]), validate_shape=False)) is None
    assert known(tf.get_variable("c", [2], validate_shape=False)) == [2]
    assert known(tf.Variable([1.0], shape=tf.TensorShape(None))) is None
    assert known(tf.Variable([1.0], shape=[None])) == [None]
    assert known(tf.Variable(box, shape=[2], validate_shape=False)) == [2]
    loose = tf.Variable([1.0], validate_shape=False)
    assert (known(loose.read_value()), known(loose + 1.0), known(loose.assign([1.0, 2.0]))) == (None, None, [2])
    with pytest.raises(ValueError, match="all sizes must be known"):
        tf.Variable(box)
    with pytest.raises(ValueError, match="expected is"):
        tf.Variable([1.0, 2.0], shape=[3], validate_shape=False)


def test_an_initial_value_may_have_another_shape_each_time(session: tf.Session) -> None:
    box = tf.placeholder(tf.float32)
    loose = tf.Variable(box, validate_shape=False)
    for value in ([[1.0, 2.0], [3.0, 4.0]], [9.0], 7.0):
        session.run(loose.initializer, {box: value})
        assert session.run(loose).tolist() == value


def test_a_value_of_another_shape_can_be_assigned_without_a_check(session: tf.Session) -> None:
    loose, fixed = tf.Variable([1.0, 2.0], validate_shape=False), tf.Variable([1.0])
    session.run(tf.global_variables_initializer())
    wide = tf.assign(loose, [[5.0, 6.0]], validate_shape=False)
    longer = tf.assign(fixed, tf.constant([7.0, 8.0]), validate_shape=False)
    assert (known(wide), known(longer)) == ([1, 2], [2])
    assert [session.run(each).tolist() for each in (wide, longer)] == [[[5, 6]], [7, 8]]
    assert [session.run(each).tolist() for each in (loose, fixed, fixed + 1.0)] == [[[5, 6]], [7, 8], [8, 9]]
    assert session.run(loose.assign_add([[1.0, 1.0]])).tolist() == [[6, 7]]
    session.run(tf.global_variables_initializer())
    assert [session.run(each).tolist() for each in (loose, fixed)] == [[1, 2], [1]]


def test_an_assignment_that_is_checked_needs_the_shape_that_is_there(session: tf.Session) -> None:
    loose, fixed = tf.Variable([1.0, 2.0], validate_shape=False), tf.Variable([1.0])
    session.run(tf.global_variables_initializer())
    session.run(tf.assign(fixed, [7.0, 8.0], validate_shape=False))
    for update in (loose.assign([1.0, 2.0, 3.0]), loose.assign_add([1.0]), fixed.assign([1.0])):
        with pytest.raises(tf.errors.InvalidArgumentError, match="shape"):
            session.run(update)
    assert [session.run(each).tolist() for each in (loose, fixed)] == [[1, 2], [7, 8]]
    with pytest.raises(ValueError, match="has the shape"):
        fixed.assign([1.0, 2.0])
    with pytest.raises(TypeError, match="int32"):
        tf.assign(fixed, tf.constant([1, 2]), validate_shape=False)
