"""A program for TensorFlow 1 that is started once for each task, by hand: only its import is another."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import worker_client.compat.v1 as tf

flags = tf.app.flags
flags.DEFINE_string("ps_hosts", "", "Comma-separated list of hostname:port pairs")
flags.DEFINE_string("worker_hosts", "", "Comma-separated list of hostname:port pairs")
flags.DEFINE_string("job_name", None, "One of 'ps', 'worker'")
flags.DEFINE_integer("task_index", 0, "Index of task within the job")
flags.DEFINE_integer("steps", 20, "Global steps")
flags.DEFINE_bool("supervised", False, "Whether a Supervisor makes the sessions")
flags.DEFINE_bool("fails", False, "Whether the program fails at its first step")
FLAGS = flags.FLAGS


def main(_: Any) -> None:
    """One task."""
    cluster = tf.train.ClusterSpec({"ps": FLAGS.ps_hosts.split(","), "worker": FLAGS.worker_hosts.split(",")})
    server = tf.train.Server(cluster, job_name=FLAGS.job_name, task_index=FLAGS.task_index)
    if FLAGS.job_name == "ps":
        server.join()
        tf.logging.error("the ps has ended")
        return
    is_chief = FLAGS.task_index == 0
    device = tf.train.replica_device_setter(worker_device=f"/job:worker/task:{FLAGS.task_index}", cluster=cluster)
    with tf.Graph().as_default(), tf.device(device):
        step = tf.train.get_or_create_global_step()
        weights = tf.get_variable("weights", [3], initializer=tf.zeros_initializer())
        biases = tf.get_variable("biases", [2], initializer=tf.ones_initializer())
        delta = tf.placeholder(tf.float32, [3], name="delta")
        train = tf.group(tf.assign_add(weights, delta), tf.assign_sub(biases, [1.0, 1.0]), tf.assign_add(step, 1))
        feed = {delta: np.ones(3, np.float32)}
        if FLAGS.supervised:
            supervised(is_chief, server.target, (train, feed), step)
        else:
            monitored(is_chief, server.target, (train, feed))
    server.join()


def monitored(is_chief: bool, target: str, step: tuple[Any, Any]) -> None:
    """Trains in a MonitoredTrainingSession."""
    hooks = [tf.train.StopAtStepHook(last_step=FLAGS.steps)]
    own = 0
    with tf.train.MonitoredTrainingSession(target, is_chief, hooks=hooks, max_wait_secs=120) as session:
        while not session.should_stop():
            if FLAGS.fails:
                raise ValueError("the program fails")
            session.run(step[0], step[1])
            own += 1
    with tf.Session(target) as session:
        report(session, own)


def supervised(is_chief: bool, target: str, step: tuple[Any, Any], global_step: Any) -> None:
    """Trains in a Supervisor's session."""
    supervisor = tf.train.Supervisor(is_chief=is_chief, recovery_wait_secs=1)
    own = 0
    with supervisor.managed_session(target) as session:
        while not supervisor.should_stop() and session.run(global_step) < FLAGS.steps:
            session.run(step[0], step[1])
            own += 1
        report(session, own)


def report(session: tf.Session, own: int) -> None:
    """Prints what this worker has done and what it sees."""
    weights, biases = session.run(["weights:0", "biases:0"])
    sys.stdout.write(f"own={own} weights={weights.tolist()} biases={biases.tolist()}\n")


if __name__ == "__main__":
    tf.app.run()
