"""Layers as objects: what they refuse, what they keep, and that they work without a deferred graph as well.

What they compute and how things are named is compared with TensorFlow in ``tests/conformance/test_networks.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from tests.unit.worker_client.naming_fakes import eager_graph


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as graph:
        yield graph


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: tf.layers.Dense(3, units_too=1), TypeError, "Dense has no argument 'units_too'"),
        (lambda: tf.layers.Dense(0), ValueError, "units should be 1 or more"),
        (lambda: tf.layers.Conv2D(0, 3), ValueError, "filters should be 1 or more"),
        (lambda: tf.layers.Conv2D(2, 3, strides=(1, 0)), ValueError, "strides should be 2 integers above 0"),
        (lambda: tf.layers.Conv2D(2, 3, data_format="NHWC"), ValueError, "channels_last, channels_first"),
        (lambda: tf.layers.BatchNormalization(renorm=True), NotImplementedError, "leave them out"),
        (lambda: tf.layers.BatchNormalization(fused=True)(tf.ones([2, 3])), ValueError, "fused needs images"),
        (lambda: tf.layers.Dense(3).scope_name, ValueError, "has no scope yet"),
        (lambda: tf.layers.Dense(3).count_params(), ValueError, "has no variables yet"),
        (lambda: tf.layers.Layer().compute_output_shape([1]), NotImplementedError, "does not say"),
    ],
)
def test_what_layers_refuse(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_layers_know_the_shapes_of_their_outputs() -> None:
    assert tf.layers.Dense(3).compute_output_shape([None, 5]).as_list() == [None, 3]
    assert tf.layers.Flatten().compute_output_shape([None, 5, 2]).as_list() == [None, 10]
    assert tf.layers.Dropout().compute_output_shape([4, 5]).as_list() == [4, 5]


def test_names_of_layers_are_counted_for_each_graph() -> None:
    assert [tf.layers.Dense(1).name for _ in range(2)] == ["dense", "dense_1"]
    with tf.Graph().as_default():
        assert tf.layers.Dense(1).name == "dense"
        assert tf.layers.Conv2DTranspose(1, 1).name == "conv2d_transpose"


def test_losses_and_updates_of_a_layer_are_its_own() -> None:
    x = tf.ones([2, 4, 4, 3])
    first = tf.layers.Conv2D(2, 3, kernel_regularizer=tf.nn.l2_loss)
    second = tf.layers.BatchNormalization()
    y = second(first(x), training=True)
    second(y, training=False)
    assert [each.name for each in first.losses] == ["conv2d/kernel/Regularizer/L2Loss:0"]
    assert [each.name for each in second.updates] == [
        "batch_normalization/AssignMovingAvg",
        "batch_normalization/AssignMovingAvg_1",
    ]
    assert second.losses == first.updates == []
    assert tf.get_collection(tf.GraphKeys.UPDATE_OPS) == second.updates


def test_layers_act_at_once_where_the_graph_is_not_deferred() -> None:
    with eager_graph().as_default():
        images = np.ones([2, 6, 5, 3], np.float32)
        convolved = tf.layers.conv2d(images, 4, 3, kernel_initializer=tf.ones_initializer())
        np.testing.assert_allclose(convolved, np.full([2, 4, 3, 4], 27.0))
        assert tf.layers.dense(np.ones([2, 5], np.float32), 3).shape == (2, 3)
        assert tf.layers.max_pooling2d(images, 2, 2).shape == (2, 3, 2, 3)
        assert tf.layers.flatten(images).shape == (2, 90)


def test_a_sampled_loss_takes_partitioned_weights() -> None:
    with tf.variable_scope("s", partitioner=tf.fixed_size_partitioner(3)):
        weights = tf.get_variable("w", [9, 2], initializer=tf.ones_initializer())
    biases = tf.get_variable("b", [9], initializer=tf.zeros_initializer())
    drawn = (np.array([1, 8]), np.full([2, 1], 0.5, np.float32), np.full([2], 0.25, np.float32))
    losses = [
        tf.nn.nce_loss(each, biases, [[0], [4]], tf.constant([[1.0, 2.0], [0.5, 0.0]]), 2, 9, sampled_values=drawn)
        for each in (weights, tf.ones([9, 2]))
    ]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        of_parts, of_whole = session.run(losses)
    np.testing.assert_allclose(of_parts, of_whole, rtol=1e-6)
