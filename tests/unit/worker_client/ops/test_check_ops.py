"""Assertions stop a run before what depends on them, or the building of a graph where they fail already."""

from __future__ import annotations

from typing import Any

import pytest

import worker_client.compat.v1 as tf
from tests.unit.worker_client.naming_fakes import eager_graph


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default():
        yield


def test_an_update_behind_a_failed_assertion_is_not_made() -> None:
    step = tf.placeholder(tf.float32, [])
    v = tf.Variable(1.0, name="v")
    with tf.control_dependencies([tf.assert_positive(step, message="step")]):
        update = v.assign_add(step)
    with tf.Session() as session:
        session.run(v.initializer)
        assert session.run(update, {step: 2.0}) == 3.0
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[step\].*x > 0") as caught:
            session.run(update, {step: -2.0})
        assert caught.value.op.name == "assert_positive/assert_less/Assert/AssertGuard/Merge"
        assert session.run(v) == 3.0


def test_the_error_shows_what_was_asked_for() -> None:
    values = tf.placeholder(tf.float32, [None])
    check = tf.Assert(tf.reduce_all(values > 0.0), ["the values", values], summarize=2)
    with tf.Session() as session, pytest.raises(tf.errors.InvalidArgumentError) as caught:
        session.run(check, {values: [1.0, -1.0, 5.0]})
    assert caught.value.message == "assertion failed: [the values] [1.0 -1.0...]"


def test_what_is_known_is_checked_while_the_graph_is_built() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"mine.*x == y.*\[1 2\].*\[1 3\]"):
        tf.assert_equal(tf.constant([1, 2]), [1, 3], message="mine")
    with pytest.raises(ValueError, match="must have rank"):
        tf.assert_rank(tf.zeros([2]), 2)


def test_outside_of_a_deferred_graph_all_is_checked_at_once() -> None:
    with eager_graph().as_default():
        assert tf.assert_less([1.0], [2.0]) is None
        assert tf.assert_rank([1.0], 1) is None
        assert tf.Print(3.0, [4.0]) == 3.0
        with pytest.raises(tf.errors.InvalidArgumentError, match="x < y"):
            tf.assert_less([3.0], [2.0])
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"bad.*NaN"):
            tf.check_numerics(float("nan"), "bad")


def test_print_shows_what_is_computed(capfd: pytest.CaptureFixture[str]) -> None:
    x = tf.placeholder(tf.float32, [None])
    shown = tf.Print(x * 2.0, [x, tf.shape(x)], "x and its shape: ", first_n=2)
    with tf.Session() as session:
        for _ in range(3):
            assert session.run(shown, {x: [1.0, 2.0]}).tolist() == [2.0, 4.0]
    assert capfd.readouterr().err == "x and its shape: [1.0 2.0][2]\n" * 2


def test_print_of_texts_and_tensors(capfd: pytest.CaptureFixture[str]) -> None:
    x = tf.constant([1, 2, 3])
    with tf.control_dependencies([tf.print("x:", x, sep="=", end=".")]):
        behind = tf.identity(x)
    assert capfd.readouterr().err == ""
    with tf.Session() as session:
        session.run(behind)
    assert capfd.readouterr().err == "x:=[1 2 3]."
    with pytest.raises(TypeError, match="colour"):
        tf.print("x", colour="red")


def test_functions_of_python() -> None:
    calls = []

    def halves(values: Any) -> Any:
        calls.append(values.tolist())
        return values[::2], values[1::2]

    x = tf.placeholder(tf.float32, [None])
    first, second = tf.py_func(halves, [x], [tf.float32, tf.float32])
    whole = tf.numpy_function(lambda values: values.sum(), [x], tf.float64, name="wrong")
    with tf.Session() as session:
        assert [each.tolist() for each in session.run([first, second], {x: [1.0, 2.0, 3.0]})] == [[1.0, 3.0], [2.0]]
        assert calls == [[1.0, 2.0, 3.0]]
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"float32.*Tout says.*float64"):
            session.run(whole, {x: [1.0]})
