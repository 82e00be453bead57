"""The digit classifier as a graph of TensorFlow 1, for its own library and for ``worker_client.compat.v1`` alike.

It imports neither: whoever runs it gives it the module.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

HIDDEN, BATCH, RATE, ADAM_RATE = 64, 32, 0.1, 1e-3
WARM_UP = 20
INIT_TIMEOUT_S = 60.0


def build(tf: Any, cluster: Any, task_index: int, rule: str, num_pixels: int) -> dict[str, Any]:
    """Builds the graph of one worker; returns its parts by name."""
    worker = f"/job:worker/task:{task_index}"
    with tf.device(tf.train.replica_device_setter(cluster=cluster, worker_device=worker)):
        x = tf.placeholder(tf.float32, [None, num_pixels])
        y = tf.placeholder(tf.int64, [None])
        w1 = tf.get_variable("w1", [num_pixels, HIDDEN])
        b1 = tf.get_variable("b1", [HIDDEN], initializer=tf.zeros_initializer())
        w2 = tf.get_variable("w2", [HIDDEN, 10])
        b2 = tf.get_variable("b2", [10], initializer=tf.zeros_initializer())
        scores = tf.matmul(tf.nn.relu(tf.matmul(x, w1) + b1), w2) + b2
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=scores))
        step = tf.train.get_or_create_global_step()
        adam = rule == "adam"
        optimizer = tf.train.AdamOptimizer(ADAM_RATE) if adam else tf.train.GradientDescentOptimizer(RATE)
        return {
            "x": x,
            "y": y,
            "train": optimizer.minimize(loss, global_step=step),
            "accuracy": tf.reduce_mean(tf.cast(tf.equal(tf.argmax(scores, 1), y), tf.float32)),
            "init": tf.global_variables_initializer(),
            "missing": tf.report_uninitialized_variables(),
        }


def trained(
    session: Any, made: dict[str, Any], data: Any, task_index: int, *, is_chief: bool
) -> tuple[Callable[[], None], Callable[[], float]]:
    """Initialises, or waits until the chief has; returns a function that makes a step, and one for the accuracy."""
    images, digits, held_out_images, held_out_digits = data
    if is_chief:
        session.run(made["init"])
    deadline_s = time.monotonic() + INIT_TIMEOUT_S
    while len(session.run(made["missing"])):
        if time.monotonic() > deadline_s:
            raise TimeoutError("the chief has not initialised the variables")
        time.sleep(0.05)
    call = session.make_callable(made["train"], [made["x"], made["y"]])
    random = np.random.default_rng(task_index)

    def step() -> None:
        rows = random.integers(0, len(images), BATCH)
        call(images[rows], digits[rows])

    def accuracy() -> float:
        return float(session.run(made["accuracy"], {made["x"]: held_out_images, made["y"]: held_out_digits}))

    return step, accuracy
