"""A small model to train, and the messages of the loops."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import worker_client.compat.v1 as tf


@dataclass
class Model:
    """Adds one to a variable and to the global step."""

    step: Any
    weight: Any
    train: Any
    fed: Any


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as graph:
        yield graph


@pytest.fixture
def model(graph: tf.Graph) -> Model:
    step = tf.train.get_or_create_global_step()
    weight = tf.get_variable("weight", [], initializer=tf.zeros_initializer())
    train = tf.group(tf.assign_add(weight, 1.0), tf.assign_add(step, 1))
    return Model(step, weight, train, tf.placeholder(tf.float32, [], name="fed"))


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, logger="tensorflow"):
        yield caplog
