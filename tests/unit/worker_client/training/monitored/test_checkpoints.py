"""Loops that save: who restores and who waits, what a lost session goes on from, when a hook looks at the step.

The rest is in ``tests/conformance``: its programs in ``checkpoint_loops``.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import worker_client.compat.v1 as tf
from tests.unit.worker_client.clusters import InProcessCluster
from tests.unit.worker_client.training.monitored.conftest import Model
from tests.unit.worker_client.training.monitored.test_on_a_cluster import Lost
from worker_client.training.monitored.session_manager import SessionManager
from worker_client.training.monitored.timers import SecondOrStepTimer


def saved_at(path: Path) -> list[int]:
    return sorted(int(each.name.split("-")[1].split(".")[0]) for each in path.glob("*.index"))


def counting() -> tuple[Any, Any]:
    """Makes a model in the default graph; returns the counter and what adds to it and to the global step."""
    counter = tf.get_variable("counter", [], initializer=tf.zeros_initializer())
    return counter, tf.group(counter.assign_add(1.0), tf.train.get_or_create_global_step().assign_add(1))


def test_the_chief_restores_and_the_other_worker_waits_for_that(tmp_path: Path) -> None:
    def wait(client: Any, seen: list[float]) -> None:
        with tf.Graph().as_default():
            counter, _ = counting()
            with tf.train.MonitoredTrainingSession(client, is_chief=False, checkpoint_dir=str(tmp_path)) as session:
                seen.append(session.run(counter))

    for start in (0, 3):
        with InProcessCluster() as cluster, tf.Graph().as_default():  # whose ps tasks know nothing
            seen: list[float] = []
            worker = threading.Thread(target=wait, args=[cluster.client(1), seen])
            worker.start()
            try:
                _, train = counting()
                with tf.train.MonitoredTrainingSession(cluster.client(), checkpoint_dir=str(tmp_path)) as session:
                    worker.join(60)
                    for _ in range(3):
                        session.run(train)
            finally:
                worker.join(60)
            assert seen == [float(start)]
    assert saved_at(tmp_path) == [0, 3, 6]


def test_a_lost_session_goes_on_with_what_ps_tasks_have_kept(
    cluster: InProcessCluster, model: Model, tmp_path: Path
) -> None:
    hook = Lost(4)
    hooks = [hook, tf.train.StopAtStepHook(last_step=6)]
    with tf.train.MonitoredTrainingSession(
        cluster.client(), checkpoint_dir=str(tmp_path), save_checkpoint_steps=100, hooks=hooks
    ) as session:
        while not session.should_stop():
            session.run(model.train)
    assert hook.num_sessions == 2
    assert saved_at(tmp_path) == [0, 3, 6]  # at the start of each session, and at the end


def test_a_checkpoint_is_waited_for_no_longer_than_asked(model: Model, tmp_path: Path) -> None:
    saver = tf.train.Saver()
    manager = SessionManager(recovery_wait_secs=0)
    prepare = {"saver": saver, "checkpoint_dir": str(tmp_path / "later"), "wait_for_checkpoint": True}
    with pytest.raises(RuntimeError, match="no init_op"):
        manager.prepare_session("", max_wait_secs=0, **prepare)  # type: ignore[arg-type]
    with tf.Session() as session:
        session.run([model.step.initializer, model.weight.assign(8.0)])
        waiting = threading.Thread(target=lambda: saver.save(session, tmp_path / "later" / "m", 1))
        waiting.start()
        try:
            with manager.prepare_session("", max_wait_secs=60, **prepare) as restored:  # type: ignore[arg-type]
                assert restored.run(model.weight) == 8.0
        finally:
            waiting.join(60)


def test_seconds_are_counted_by_the_clock_and_the_step_is_read_only_when_they_are_over(
    model: Model, tmp_path: Path
) -> None:
    now_s = 100.0
    hook = tf.train.CheckpointSaverHook(str(tmp_path), save_secs=10, saver=tf.train.Saver(), clock=lambda: now_s)
    steps_read: list[int] = []

    class Context:
        session: Any

        def request_stop(self) -> None:
            raise AssertionError

    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        hook.begin()
        hook.after_create_session(session, None)

        class Counted(tf.Session):
            def run(self, *args: Any, **keywords: Any) -> Any:
                if args[0] is model.step:
                    steps_read.append(1)
                return session.run(*args, **keywords)

        context = Context()
        context.session = Counted()
        for number in range(1, 6):
            session.run(model.train)
            now_s = 100.0 + 4 * number
            hook.after_run(context, None)  # type: ignore[arg-type]
        hook.end(session)
    assert saved_at(tmp_path) == [0, 3, 5]
    assert len(steps_read) == 1
    tf.summary.FileWriterCache.clear()


def test_a_timer_says_when_the_step_matters() -> None:
    now_s = 0.0
    by_steps, by_seconds = SecondOrStepTimer(every_steps=2), SecondOrStepTimer(every_secs=5, clock=lambda: now_s)
    for timer in (by_steps, by_seconds):
        assert timer.may_trigger()
        timer.update_last_triggered_step(1)
    assert by_steps.may_trigger()
    assert not by_seconds.may_trigger()
    now_s = 5.0
    assert by_seconds.may_trigger()


def test_a_supervisor_that_is_not_the_chief_waits_for_the_chief_that_restores(
    cluster: InProcessCluster, model: Model, tmp_path: Path
) -> None:
    saver = tf.train.Saver()
    with tf.Session() as session:
        session.run([model.weight.assign(5.0), model.step.assign(7)])
        saver.save(session, tmp_path / "model.ckpt", 7)
    tf.add_to_collection(tf.GraphKeys.SAVERS, saver)
    chief = tf.train.Supervisor(logdir=str(tmp_path), save_model_secs=0, save_summaries_secs=0)
    other = tf.train.Supervisor(is_chief=False, logdir=str(tmp_path), recovery_wait_secs=0)
    assert chief.saver is other.saver is saver
    seen: list[Any] = []
    client = cluster.client(1)

    def wait() -> None:
        with other.managed_session(client) as session:
            seen.append(session.run(model.weight))

    waiting = threading.Thread(target=wait)
    waiting.start()
    try:
        with chief.managed_session(cluster.client()) as session:
            assert session.run(model.step) == 7
            waiting.join(60)
    finally:
        waiting.join(60)
    assert seen == [5.0]
