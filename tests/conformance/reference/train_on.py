"""Restores a checkpoint of a small model, trains on from it, saves it, and notes the values: by TensorFlow, or here.

    python train_on.py RESTORED SAVED NOTES.json     (needs tensorflow)

The model has a variable in three parts, which this program cuts otherwise than whoever saved RESTORED, and Adam.
"""

import json
import os
import sys
from typing import Any

import numpy as np


def train_on(tf: Any, restored: str | None, saved: str, parts: int) -> dict[str, Any]:
    """Trains three steps from a checkpoint, or from initial values if it is None; returns the values by their names."""
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.train.get_or_create_global_step()
        rows = tf.placeholder(tf.int64, [None], name="rows")
        with tf.variable_scope("model"):
            partitioner = tf.fixed_size_partitioner(parts) if parts > 1 else None
            table = tf.get_variable("table", [9, 2], initializer=tf.constant_initializer(0.25), partitioner=partitioner)
            weights = tf.get_variable("weights", [2, 1], initializer=tf.constant_initializer([[0.5], [-0.5]]))
        predicted = tf.matmul(tf.nn.embedding_lookup(table, rows, partition_strategy="div"), weights)
        loss = tf.reduce_sum(tf.square(predicted - tf.cast(tf.reshape(rows, [-1, 1]), tf.float32)))
        train = tf.train.AdamOptimizer(0.1).minimize(loss, global_step=step)
        saver = tf.train.Saver()
        if restored is None:
            session.run(tf.global_variables_initializer())
        else:
            saver.restore(session, restored)
        for _ in range(3):
            session.run(train, {rows: np.arange(9)})
        path = saver.save(session, saved, global_step=step)
        return {name: tf.train.load_variable(path, name).tolist() for name, _ in tf.train.list_variables(path)}


if __name__ == "__main__":
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow.compat.v1 as tf

    tf.disable_v2_behavior()
    restored, saved, notes = sys.argv[1:]
    with open(notes, "w", encoding="utf-8") as file:
        json.dump(train_on(tf, restored, saved, parts=2), file)
