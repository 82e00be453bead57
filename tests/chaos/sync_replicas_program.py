"""One task of a program of TensorFlow 1's that trains synchronously: a regression, each worker with a batch of its own.

    python -m tests.chaos.sync_replicas_program HOW PS_ADDRESSES WORKER_ADDRESSES TASK AGGREGATE STEPS

HOW is "hook", as tutorials have it; "early", with the hook, but a worker that is not the chief ends after three steps;
"bare": without hook, and without any queue runner; "take" or "update", with the hook, but the chief kills itself in the
third step, when it has taken of one of two accumulators, or updated what is on one of two ps tasks. It says when it is
ready, waits for a line, and says each step.
"""

import faulthandler
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

import worker_client.compat.v1 as tf
from ps_protocol.operations import mutates
from worker_client.connection.fanout import Fanout, Routed
from worker_client.objects.shared_object import ObjectConnection

RATE = 0.1
EARLY = 3
DYING = 3
"""The step in which the chief kills itself."""


def batch(task: int) -> tuple[Any, Any]:
    """The features and labels of a worker."""
    features = np.sin(np.arange(8.0) + 3 * task).reshape(4, 2).astype(np.float32)
    return features, features @ np.array([2.0, -1.0], np.float32) + np.float32(task)


def say(word: object) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def die_in_the_midst_of_takes() -> None:
    take = ObjectConnection.take
    taken: list[str] = []

    def counting(self: ObjectConnection, event: Any, *, expected_bytes: int) -> Any:
        if len(taken) == 2 * DYING - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        found = take(self, event, expected_bytes=expected_bytes)
        if found is not None:
            taken.append(self.name)
        return found

    ObjectConnection.take = counting  # type: ignore[method-assign]


def die_in_the_midst_of_updates() -> None:
    exchange = Fanout.exchange_all
    made: list[Any] = []

    def counting(self: Fanout, routed: Sequence[Routed], *rest: Any) -> Any:
        guards = [each for each in routed if each.operation.name.startswith("receipts/") and mutates((each.operation,))]
        if len(guards) > 1:
            made.append(guards)
            if len(made) == DYING:
                exchange(self, [each for each in routed if each.ps_task == guards[0].ps_task])
                os.kill(os.getpid(), signal.SIGKILL)
        return exchange(self, routed, *rest)

    Fanout.exchange_all = counting  # type: ignore[method-assign,assignment]


def main(how: str, ps: str, workers: str, task: int, aggregate: int, steps: int) -> None:
    cluster = tf.train.ClusterSpec({"ps": ps.split(","), "worker": workers.split(",")})
    server = tf.train.Server(cluster, job_name="worker", task_index=task)
    if task == 0 and how == "take":
        die_in_the_midst_of_takes()
    if task == 0 and how == "update":
        die_in_the_midst_of_updates()
    features, labels = batch(task)
    with tf.device(tf.train.replica_device_setter(cluster=cluster, worker_device=f"/job:worker/task:{task}")):
        step = tf.train.get_or_create_global_step()
        w = tf.get_variable("w", [2], initializer=tf.zeros_initializer())
        bias = tf.get_variable("bias", [1], initializer=tf.zeros_initializer())
        loss = tf.reduce_mean(tf.square(tf.reduce_sum(features * w, 1) + bias - labels))
        optimizer = tf.train.SyncReplicasOptimizer(
            tf.train.MomentumOptimizer(RATE, 0.5), aggregate, total_num_replicas=len(workers.split(","))
        )
        train = optimizer.minimize(loss, global_step=step)
    hooks: list[tf.train.SessionRunHook] = [tf.train.StopAtStepHook(last_step=steps)]
    if how != "bare":
        hooks.append(optimizer.make_session_run_hook(task == 0, num_tokens=0))
    with tf.train.MonitoredTrainingSession(
        server.target, is_chief=task == 0, hooks=hooks, stop_grace_period_secs=20
    ) as session:
        say("ready")
        sys.stdin.readline()
        done = 0
        while not session.should_stop() and not (how == "early" and task and done == EARLY):
            say(int(session.run(train)))
            done += 1
    say("end")


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)  # says where it is
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))  # type: ignore[arg-type]
