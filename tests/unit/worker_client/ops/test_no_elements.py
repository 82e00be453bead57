"""Tensors without elements, as batches of no rows and vectors of no classes, give what TensorFlow 2.21 gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf

LEAST, MOST = float("-inf"), float("inf")

CASES: dict[str, tuple[Callable[[Any], Any], list[int], Any]] = {
    "reduce_max": (lambda x: tf.reduce_max(x, 0), [0, 3], [LEAST] * 3),
    "reduce_max of all": (tf.reduce_max, [2, 0], LEAST),
    "reduce_min": (tf.reduce_min, [0], MOST),
    "reduce_max of integers": (lambda x: tf.reduce_max(tf.cast(x, tf.int32)), [0], -(2**31)),
    "reduce_min of integers": (lambda x: tf.reduce_min(tf.cast(x, tf.uint8)), [0], 255),
    "reduce_logsumexp": (lambda x: tf.reduce_logsumexp(x, -1), [2, 0], [LEAST] * 2),
    "softmax": (tf.nn.softmax, [2, 0], [[], []]),
    "log_softmax": (tf.nn.log_softmax, [0], []),
    "softmax along another dimension": (lambda x: tf.nn.softmax(x, 0), [0, 3], np.zeros([0, 3])),
    "cross entropy": (lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(labels=x, logits=x), [2, 0], [0.0, 0.0]),
    "unsorted_segment_sum": (lambda x: tf.unsorted_segment_sum(x, [0, 1], 2), [2, 0], [[], []]),
    "unsorted_segment_max": (lambda x: tf.unsorted_segment_max(x, [0, 1], 2), [2, 0], [[], []]),
    "segment_sum": (lambda x: tf.segment_sum(x, np.zeros([0], np.int32)), [0, 0], np.zeros([0, 0])),
}
RESHAPES = [([2, 0], [-1, 0], [2, 0]), ([0, 2], [0, -1], [0, 2]), ([0, 0], [-1, 0], [1, 0]), ([0], [2, -1], [2, 0])]


@pytest.fixture(autouse=True)
def _graph() -> Iterator[None]:
    with tf.Graph().as_default():
        yield


@pytest.mark.parametrize("name", CASES)
def test_there_is_a_result_and_a_gradient(name: str) -> None:
    function, shape, expected = CASES[name]
    variable = tf.Variable(np.zeros(shape, np.float32))
    result = function(variable)
    (gradient,) = tf.gradients(result, variable)
    with tf.Session() as session:
        session.run(variable.initializer)
        np.testing.assert_array_equal(session.run(result), expected)
        assert gradient is None or session.run(gradient).shape == tuple(shape)


def test_nothing_is_among_the_best_of_no_classes() -> None:
    found = tf.nn.in_top_k(np.zeros([2, 0], np.float32), [0, 0], 1)
    with tf.Session() as session:
        assert session.run(found).tolist() == [False, False]


@pytest.mark.parametrize(("given", "wanted", "expected"), RESHAPES, ids=str)
def test_a_size_that_is_left_open_is_that_of_the_sizes_that_are_not_zero(
    given: list[int], wanted: list[int], expected: list[int]
) -> None:
    x = tf.placeholder(tf.float32, None)
    with tf.Session() as session:
        assert session.run(tf.reshape(x, wanted), {x: np.zeros(given)}).shape == tuple(expected)
