"""Integers divided by zero are an error when a session runs it; floats are infinite or no number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf

DIVISIONS: dict[str, Callable[[Any, Any], Any]] = {
    "//": lambda x, y: x // y,
    "%": lambda x, y: x % y,
    "floordiv": tf.floordiv,
    "mod": tf.mod,
    "div": tf.div,
    "floor_div": tf.floor_div,
    "truncatediv": tf.truncatediv,
    "outer": np.floor_divide.outer,
}


@pytest.fixture(autouse=True)
def session() -> Iterator[Any]:
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("division", DIVISIONS.values(), ids=DIVISIONS)
def test_integers_by_zero(session: Any, division: Callable[[Any, Any], Any], dtype: str) -> None:
    divisor = tf.placeholder(dtype, [None])
    quotient = division(tf.constant(np.array([9, 8], dtype)), divisor)
    for zeros in ([0, 0], [2, 0]):
        with pytest.raises(tf.errors.InvalidArgumentError, match="divide by zero") as caught:
            session.run(quotient, {divisor: np.array(zeros, dtype)})
        assert quotient.op.name in str(caught.value)
    assert session.run(quotient, {divisor: np.array([3, 4], dtype)}).dtype == dtype


def test_an_update_with_what_cannot_be_divided_changes_nothing(session: Any) -> None:
    v = tf.Variable([9, 8], name="v")
    session.run(v.initializer)
    by = tf.placeholder(tf.int32, [])
    change = v.assign(v // by)
    with pytest.raises(tf.errors.InvalidArgumentError, match="divide by zero"):
        session.run(change, {by: 0})
    assert session.run(v).tolist() == [9, 8]
    assert session.run(change, {by: 2}).tolist() == [4, 4]


@pytest.mark.parametrize(
    "build",
    [
        lambda: 7 // tf.constant(0),
        lambda: tf.constant(7) % 0,
        lambda: tf.floordiv(7, 0),
        lambda: np.remainder(np.array([7], np.int64), tf.constant([0], tf.int64)),
    ],
)
def test_constants_are_found_out_in_the_run_as_well(session: Any, build: Callable[[], Any]) -> None:
    quotient = build()
    with pytest.raises(tf.errors.InvalidArgumentError, match="divide by zero"):
        session.run(quotient)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_by_zero(session: Any, dtype: str) -> None:
    zero, x = tf.placeholder(dtype, []), tf.constant(np.array([9, 0], dtype))
    found = session.run([x // zero, x % zero, x / zero, tf.mod(9.0, 0.0)], {zero: 0.0})
    np.testing.assert_array_equal(found[0], [np.inf, np.nan])
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[2], [np.inf, np.nan])
    assert np.isnan(found[3])


def test_a_true_quotient_of_integers_is_infinite(session: Any) -> None:
    assert session.run(tf.constant([9]) / tf.constant([0])).tolist() == [np.inf]


def test_what_cannot_be_had_in_the_dtype_of_the_first_is_not_divided() -> None:
    with pytest.raises(ValueError, match="float64"):
        tf.div(tf.constant([1.0]), tf.constant([1.0], tf.float64))
    with pytest.raises(ValueError, match="float32"):
        tf.div(2, tf.constant([1.0]))
    assert tf.div(tf.constant([7, -7]), 2).op.name == "div_2"
