"""A program that trains a small model, with an embedding, by three optimizers one after the other.

``losses`` works with every module that has TensorFlow 1's names. Record again (needs tensorflow):

    python training_program.py traces/training.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def _values(start: float, stop: float, *shape: int) -> Any:
    return np.linspace(start, stop, int(np.prod(shape))).reshape(shape).astype(np.float32)


def losses(tf: Any) -> list[float]:
    """Returns the loss after each of fifteen steps, five by each optimizer, and the number of steps."""
    with tf.Graph().as_default(), tf.Session() as session:
        counter = tf.train.get_or_create_global_step()
        x, y = tf.placeholder(tf.float32, [None, 6]), tf.placeholder(tf.float32, [None, 2])
        w = tf.get_variable("w", initializer=_values(-1, 1, 6, 4))
        b = tf.get_variable("b", [4], initializer=tf.zeros_initializer())
        v = tf.get_variable("v", initializer=_values(1, -1, 4, 2))
        table = tf.get_variable("table", initializer=_values(1, -1, 10, 2))
        hidden = tf.nn.elu(tf.matmul(x, w) + b)
        rows = tf.reduce_sum(tf.nn.embedding_lookup(table, [[1, 7], [7, 2], [0, 9]]), 1)
        errors = tf.squared_difference(tf.matmul(hidden, v) + rows, y)
        loss = tf.reduce_mean(errors) + 0.01 * tf.nn.l2_loss(w)
        optimizers = [
            tf.train.AdagradDAOptimizer(0.1, counter, l1_regularization_strength=0.001),
            tf.train.AdamOptimizer(0.05),
            tf.train.RMSPropOptimizer(0.01, momentum=0.5),
        ]
        steps = [each.minimize(loss, global_step=counter) for each in optimizers]
        session.run(tf.global_variables_initializer())
        feeds = {x: np.sin(np.arange(18)).reshape(3, 6), y: np.cos(np.arange(6)).reshape(3, 2)}
        found = []
        for step in steps:
            for _ in range(5):
                session.run(step, feeds)
                found.append(float(session.run(loss, feeds)))
        return [*found, float(session.run(counter))]


def main(target: Path) -> None:
    import tensorflow.compat.v1 as tf  # noqa: PLC0415

    tf.disable_v2_behavior()
    target.write_text(json.dumps(losses(tf)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
