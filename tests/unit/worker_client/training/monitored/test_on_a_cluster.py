"""Monitored sessions and supervisors of several workers on the ps tasks of one cluster, all in this process."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import worker_client.compat.v1 as tf
from tests.conftest import Eventually
from tests.unit.worker_client.clusters import TIMEOUT_S, InProcessCluster
from tests.unit.worker_client.training.monitored.conftest import Model


class Lost(tf.train.SessionRunHook):
    """Says once before a run that a ps is lost."""

    def __init__(self, run: int):
        self.num_runs, self.num_sessions, self._run = 0, 0, run

    def after_create_session(self, session: Any, coord: Any) -> None:
        self.num_sessions += 1

    def before_run(self, run_context: Any) -> None:
        self.num_runs += 1
        if self.num_runs == self._run:
            raise tf.errors.UnavailableError(None, None, "lost")


def test_what_ps_tasks_have_kept_goes_on_in_a_new_session(cluster: InProcessCluster, model: Model) -> None:
    hook = Lost(3)
    hooks = [hook, tf.train.StopAtStepHook(num_steps=4)]
    local = tf.get_local_variable("local", initializer=1.0)
    with tf.train.MonitoredTrainingSession(cluster.client(), hooks=hooks) as session:
        while not session.should_stop():
            session.run([model.train, local])
        assert hook.num_sessions == 2
        assert hook.num_runs == 5
    with tf.Session(cluster.client(1)) as session:
        assert session.run([model.step, model.weight]) == [4, 4.0]


def test_the_cluster_knows_how_many_steps_each_task_has_done(cluster: InProcessCluster, model: Model) -> None:
    client = cluster.client()
    hooks = [Lost(3), tf.train.StopAtStepHook(num_steps=4)]
    with tf.train.MonitoredTrainingSession(client, hooks=hooks) as session:
        while not session.should_stop():
            session.run(model.train)
    client.close()
    steps = {each.task: each.step for each in cluster.tasks[0].list_members(timeout_s=TIMEOUT_S)}
    assert steps["worker:0"] == 4


def test_time_that_ran_out_waiting_for_a_ps_is_a_loss_and_other_time_is_not(
    cluster: InProcessCluster, model: Model
) -> None:
    away = tf.errors.DeadlineExceededError("ps:0 has been away for 60 s")
    away.last_failure = tf.errors.DeadlineExceededError("gave up")
    away.last_failure.last_failure = tf.errors.UnavailableError("refused")

    class Raises(Lost):
        def before_run(self, run_context: Any) -> None:
            self.num_runs += 1
            if self.num_runs == self._run:
                raise away
            if self.num_runs == self._run + 2:
                raise tf.errors.DeadlineExceededError("too slow")

    hook = Raises(1)
    session = tf.train.MonitoredTrainingSession(cluster.client(), hooks=[hook])
    session.run(model.train)
    assert hook.num_sessions == 2
    with pytest.raises(tf.errors.DeadlineExceededError, match="too slow"):
        session.run(model.train)
    assert hook.num_sessions == 2
    session.close()


@pytest.mark.parametrize("way", ["monitored", "supervised"])
def test_workers_wait_until_the_chief_has_initialised(
    cluster: InProcessCluster, model: Model, way: str, messages: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    graph, worker, seen = tf.get_default_graph(), cluster.client(1), []
    supervisor = tf.train.Supervisor(is_chief=False, recovery_wait_secs=1) if way == "supervised" else None

    def work() -> None:
        with graph.as_default():
            if supervisor is None:
                with tf.train.MonitoredTrainingSession(worker, is_chief=False, max_wait_secs=60) as session:
                    seen.append(session.run(model.weight))
            else:
                with supervisor.managed_session(worker) as session:
                    seen.append(session.run(model.weight))

    thread = threading.Thread(target=work)
    thread.start()
    eventually(lambda: "Waiting for model to be ready" in messages.text, message="the worker waits")
    assert seen == []
    with tf.Session(cluster.client(0)) as session:
        session.run([model.step.initializer, model.weight.initializer])
    thread.join(60)
    assert seen == [0.0]
