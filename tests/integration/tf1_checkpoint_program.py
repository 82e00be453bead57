"""A program for TensorFlow 1 that saves checkpoints, and goes on from the newest: only its import is another.

    python -m tests.integration.tf1_checkpoint_program FOLDER LAST_STEP [KILLED_AT]

It kills itself when it has made the step KILLED_AT.
"""

from __future__ import annotations

import os
import signal
import sys

import numpy as np

import worker_client.compat.v1 as tf
from worker_client import connect


def main(folder: str, last_step: int, killed_at: int = -1) -> None:
    """The only worker."""
    with connect() as client, tf.Graph().as_default():
        step = tf.train.get_or_create_global_step()
        rows = tf.placeholder(tf.int64, [None], name="rows")
        with tf.variable_scope("model"):
            table = tf.get_variable("table", [50, 4], partitioner=tf.fixed_size_partitioner(4))
            weights = tf.get_variable("weights", [4, 1])
        predicted = tf.matmul(tf.nn.embedding_lookup(table, rows, partition_strategy="div"), weights)
        loss = tf.reduce_mean(tf.square(predicted - tf.cast(tf.reshape(rows % 7, [-1, 1]), tf.float32)))
        train = tf.train.AdamOptimizer(0.05).minimize(loss, global_step=step)
        hooks = [tf.train.StopAtStepHook(last_step=last_step)]
        with tf.train.MonitoredTrainingSession(
            client, checkpoint_dir=folder, save_checkpoint_steps=10, hooks=hooks
        ) as session:
            made = int(session.run_step_fn(lambda step_context: step_context.session.run(step)))
            sys.stdout.write(f"begins after step {made}\n")
            while not session.should_stop():
                session.run(train, {rows: np.random.RandomState(made).randint(50, size=16)})
                made += 1
                if made == killed_at:
                    sys.stdout.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.stdout.write(f"ends after step {made}\n")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
