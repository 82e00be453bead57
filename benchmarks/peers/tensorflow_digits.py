"""Trains the digits on TensorFlow's own servers: one task of a cluster, CLUSTER JOB INDEX RULE SECONDS."""

import json
import os
import sys
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.insert(0, str(Path(__file__).parents[2]))

import tensorflow.compat.v1 as tf

from benchmarks.peers import digits_graph
from benchmarks.peers.training_images import load_images, num_pixels


def main() -> None:
    """Serves, or trains and prints the steps and the accuracy."""
    cluster, job, index, rule, seconds = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:6]
    tf.disable_v2_behavior()
    config = tf.ConfigProto(inter_op_parallelism_threads=2, intra_op_parallelism_threads=1)
    spec = tf.train.ClusterSpec(cluster)
    server = tf.train.Server(spec, job_name=job, task_index=index, config=config)
    if job == "ps":
        server.join()
    made = digits_graph.build(tf, spec, index, rule, num_pixels())
    with tf.device("/job:ps/task:0"):
        present = tf.get_variable("present", [], initializer=tf.zeros_initializer())
    arrive = tf.assign_add(present, 1.0)
    made["init"] = tf.group(made["init"], present.initializer)
    filters = ["/job:ps", f"/job:worker/task:{index}"]
    session = tf.Session(server.target, config=tf.ConfigProto(device_filters=filters))
    step, accuracy = digits_graph.trained(session, made, load_images(), index, is_chief=index == 0)
    for _ in range(digits_graph.WARM_UP):
        step()
    session.run(arrive)
    while session.run(present) < len(cluster["worker"]):
        time.sleep(0.01)
    steps, end_s = 0, time.perf_counter() + float(seconds)
    while time.perf_counter() < end_s:
        step()
        steps += 1
    print(steps, accuracy(), flush=True)
    os._exit(0)


main()
