"""Trains the digits by TensorFlow's SyncReplicasOptimizer: one task, CLUSTER JOB INDEX STEP_SECONDS SECONDS."""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import tensorflow.compat.v1 as tf

from benchmarks.peers.digits_graph import BATCH, HIDDEN, RATE, WARM_UP
from benchmarks.peers.training_images import load_images, num_pixels

LAST_S = 2.0


def build(spec: Any, index: int, num_workers: int) -> dict[str, Any]:
    """The graph of ``digits_graph.build``, in which all workers make each step together."""
    device = tf.train.replica_device_setter(cluster=spec, worker_device=f"/job:worker/task:{index}")
    with tf.device(device):
        x, y = tf.placeholder(tf.float32, [None, num_pixels()]), tf.placeholder(tf.int64, [None])
        w1, b1 = tf.get_variable("w1", [num_pixels(), HIDDEN]), tf.get_variable("b1", [HIDDEN])
        w2, b2 = tf.get_variable("w2", [HIDDEN, 10]), tf.get_variable("b2", [10])
        scores = tf.matmul(tf.nn.relu(tf.matmul(x, w1) + b1), w2) + b2
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=scores))
        step = tf.train.get_or_create_global_step()
        optimizer = tf.train.SyncReplicasOptimizer(
            tf.train.GradientDescentOptimizer(RATE), replicas_to_aggregate=num_workers, total_num_replicas=num_workers
        )
        train = optimizer.minimize(loss, global_step=step)
        accuracy = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(scores, 1), y), tf.float32))
        return {
            "x": x,
            "y": y,
            "train": train,
            "accuracy": accuracy,
            "hook": optimizer.make_session_run_hook(index == 0, num_tokens=0),
        }


def main() -> None:
    """Serves; or trains, prints its steps and the accuracy, and ends at once: others may wait for it for ever."""
    cluster, job, index = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    step_s, seconds = map(float, sys.argv[4:6])
    tf.disable_v2_behavior()
    config = tf.ConfigProto(inter_op_parallelism_threads=2, intra_op_parallelism_threads=1)
    spec = tf.train.ClusterSpec(cluster)
    server = tf.train.Server(spec, job_name=job, task_index=index, config=config)
    if job == "ps":
        server.join()
    made = build(spec, index, len(cluster["worker"]))
    images, digits, held_out_images, held_out_digits = load_images()
    random = np.random.default_rng(index)
    session = tf.train.MonitoredTrainingSession(
        server.target, is_chief=index == 0, hooks=[made["hook"]], log_step_count_steps=None
    )
    steps = 0

    def end() -> None:
        counted, plain = steps, session._tf_sess()  # without the hooks
        accuracy = plain.run(made["accuracy"], {made["x"]: held_out_images, made["y"]: held_out_digits})
        print(counted, float(accuracy), flush=True)
        time.sleep(LAST_S)  # others still have to ask for the accuracy
        os._exit(0)

    number = 0
    while True:
        time.sleep(step_s)
        rows = random.integers(0, len(images), BATCH)
        session.run(made["train"], {made["x"]: images[rows], made["y"]: digits[rows]})
        number += 1
        if number == WARM_UP:
            threading.Timer(seconds, end).start()
        steps = max(0, number - WARM_UP)


main()
