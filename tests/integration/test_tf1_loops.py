"""Monitored training sessions on real ps processes that die: they go on, are made anew, or say what was lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import worker_client.compat.v1 as tf
from ps_cluster.local.local_cluster import LocalCluster
from ps_protocol.errors import StateLostError
from tests.conftest import Eventually
from worker_client import connect

pytestmark = pytest.mark.integration


class Model:
    """Two counters, one on each ps task, of which one is the global step."""

    def __init__(self) -> None:
        with tf.device("/job:ps/task:0"):
            self.step = tf.train.get_or_create_global_step()
        with tf.device("/job:ps/task:1"):
            self.counter = tf.get_variable("counter", [], initializer=tf.zeros_initializer())
        self.train = tf.group(tf.assign_add(self.step, 1), tf.assign_add(self.counter, 1.0))


class At(tf.train.SessionRunHook):
    """Does something once before a run, and counts the sessions."""

    def __init__(self, run: int, action: Callable[[], Any]):
        self._run, self._action = run, action
        self.num_runs = self.num_sessions = 0

    def after_create_session(self, session: Any, coord: Any) -> None:
        self.num_sessions += 1

    def before_run(self, run_context: Any) -> None:
        self.num_runs += 1
        if self.num_runs == self._run:
            self._action()


def trained(client: Any, model: Model, hook: At) -> tuple[int, float]:
    hooks = [hook, tf.train.StopAtStepHook(last_step=10)]
    with tf.train.MonitoredTrainingSession(client, hooks=hooks) as session:
        while not session.should_stop():
            session.run(model.train)
    with tf.Session(client) as session:
        values: tuple[int, float] = session.run((model.step, model.counter))
    return values


def test_a_loop_goes_on_in_its_session_when_ps_tasks_are_restarted_with_their_state() -> None:
    with (
        LocalCluster(num_ps=2, durability="journal") as cluster,
        connect(cluster.cluster_spec) as client,
        tf.Graph().as_default(),
    ):
        model = Model()

        def restart_all() -> None:
            for index in range(2):
                cluster.kill_ps(index)
                cluster.restart_ps(index)

        hook = At(5, restart_all)
        assert trained(client, model, hook) == (10, 10.0)
        assert hook.num_sessions == 1


def test_a_loop_goes_on_in_a_new_session_when_a_ps_was_away_for_longer_than_its_grace(
    caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    caplog.set_level("INFO", "tensorflow")
    with (
        LocalCluster(num_ps=2, durability="journal") as cluster,
        connect(cluster.cluster_spec, operation_timeout_s=3.0, ps_grace_s=3.0) as client,
        tf.Graph().as_default(),
    ):
        model = Model()

        def restart_when_the_session_is_lost() -> None:
            eventually(lambda: "a new session will be created" in caplog.text, message="the session is lost")
            cluster.restart_ps(1)

        restarter = threading.Thread(target=restart_when_the_session_is_lost)

        def kill() -> None:
            cluster.kill_ps(1)
            restarter.start()

        hook = At(5, kill)
        try:
            step, counter = trained(client, model, hook)
        finally:
            restarter.join(60)
        assert hook.num_sessions > 1
        # Nothing was initialised again. A run whose reply was lost is repeated, and may have counted before.
        assert step == 10
        assert counter >= 9.0


def test_a_loop_ends_when_a_ps_has_lost_its_state() -> None:
    with (
        LocalCluster(num_ps=2) as cluster,
        connect(cluster.cluster_spec) as client,
        tf.Graph().as_default(),
    ):
        model = Model()

        def lose() -> None:
            cluster.kill_ps(1)
            cluster.restart_ps(1)

        hook = At(3, lose)
        with pytest.raises(StateLostError):
            trained(client, model, hook)
        assert (hook.num_sessions, hook.num_runs) == (1, 3)
