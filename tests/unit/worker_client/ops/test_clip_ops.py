"""Clipping: rows stay rows, and no bound is larger than what it bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "clip_by_norm": lambda rows: tf.clip_by_norm(rows, 1.0),
    "clip_by_norm of a tensor": lambda rows: tf.clip_by_norm(rows, tf.constant(1.0, tf.float64)),
    "clip_by_value": lambda rows: tf.clip_by_value(rows, -0.5, 0.5),
    "scalar_mul": lambda rows: tf.scalar_mul(0.5, rows),
    "stop_gradient": tf.stop_gradient,
}


@pytest.fixture(autouse=True)
def _graph() -> Iterator[None]:
    with tf.Graph().as_default():
        yield


@pytest.mark.parametrize("name", FUNCTIONS)
def test_rows_stay_rows(name: str) -> None:
    """So that a step changes the rows alone, and the optimizer is lazy where TensorFlow's is."""
    values = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, -12.0]], np.float32)
    rows: Any = tf.IndexedSlices(tf.constant(values), tf.constant([4, 1, 4]), tf.constant([5, 2]))
    changed, plain = FUNCTIONS[name](rows), FUNCTIONS[name](rows.values)
    assert isinstance(changed, tf.IndexedSlices)
    with tf.Session() as session:
        found, expected = session.run([changed, plain])
    np.testing.assert_allclose(found.values, expected)
    assert (found.indices.tolist(), found.dense_shape.tolist()) == ([4, 1, 4], [5, 2])


def test_a_negative_length_counts_as_none() -> None:
    with tf.Session() as session:
        assert session.run(tf.clip_by_norm(tf.constant([3.0, 4.0]), -1.0)).tolist() == [0.0, 0.0]
        assert session.run(tf.clip_by_norm(tf.constant([3.0, 4.0]), tf.constant(-1.0))).tolist() == [0.0, 0.0]


def test_a_bound_that_is_larger_than_what_it_bounds_is_refused() -> None:
    x = tf.constant([1.0, 2.0])
    with pytest.raises(ValueError, match=r"clip_value_min would make the shape \[1, 2\] of \[2\]; give a scalar"):
        tf.clip_by_value(x, [[0.0, 1.0]], 2.0)
    with pytest.raises(ValueError, match=r"clip_value_max would make the shape \[2, 2\] of \[2\]"):
        tf.clip_by_value(x, 0.0, tf.constant([[1.0], [2.0]]))
    with pytest.raises(ValueError, match=r"clip_norm would make the shape \[2, 2\] of \[2\]"):
        tf.clip_by_norm(x, tf.constant([[1.0], [2.0]]))


@pytest.mark.parametrize("scalar", [np.ones(2, np.float32), [1.0, 2.0]], ids=str)
def test_only_a_scalar_scales(scalar: Any) -> None:
    with pytest.raises(ValueError, match=r"not by a tensor of the shape \[2\]"):
        tf.scalar_mul(scalar, tf.ones([2]))
