"""Supervisors: sessions, the end of loops, what is written beside."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import worker_client.compat.v1 as tf
from tests.unit.worker_client.naming_fakes import eager_graph
from tests.unit.worker_client.training.monitored.conftest import Model


def test_a_session_is_ready_and_the_end_stops_everything(model: Model, graph: tf.Graph) -> None:
    supervisor = tf.train.Supervisor()
    assert graph.finalized
    assert (supervisor.is_chief, supervisor.global_step, supervisor.summary_op) == (True, model.step, None)
    with supervisor.managed_session() as session:
        while not supervisor.should_stop():
            session.run(model.train)
            if session.run(model.step) == 3:
                supervisor.request_stop()
    assert supervisor.should_stop()
    session = supervisor.PrepareSession()
    assert not supervisor.should_stop()
    supervisor.Stop()
    session.close()


def test_errors_of_the_block_are_raised_behind_it_but_the_end_of_the_input_is_none(model: Model) -> None:
    supervisor = tf.train.Supervisor()
    with pytest.raises(ValueError, match="mine"), supervisor.managed_session():
        raise ValueError("mine")
    with supervisor.managed_session():
        raise tf.errors.OutOfRangeError(None, None, "over")


def test_a_train_loop_begins_again_when_a_task_is_lost(model: Model) -> None:
    supervisor, runs = tf.train.Supervisor(), 0

    def step(session: Any, number: int, by: int) -> None:
        nonlocal runs
        runs += by
        session.run(model.train)
        if runs == 2:
            raise tf.errors.AbortedError(None, None, "lost")
        if runs == 4:
            supervisor.request_stop()

    tf.train.basic_train_loop(supervisor, step, args=[0], kwargs={"by": 1})
    assert runs == 4
    with pytest.raises(tf.errors.AbortedError, match="replaced"):
        tf.train.basic_train_loop(supervisor, raises_replaced)


def raises_replaced(session: Any) -> None:
    raise tf.errors.AbortedError("replaced", retryable=False)


def test_a_worker_waits_for_the_chief(model: Model) -> None:
    supervisor = tf.train.Supervisor(is_chief=False, recovery_wait_secs=1)
    with pytest.raises(tf.errors.DeadlineExceededError, match="not ready after waiting 0 secs"):
        supervisor.prepare_or_wait_for_session(max_wait_secs=0)
    with pytest.raises(RuntimeError, match="Only chief supervisor can start standard services"):
        supervisor.start_standard_services(tf.Session())


def test_loops_run_beside_until_the_end(model: Model) -> None:
    supervisor, called = tf.train.Supervisor(), threading.Event()
    with supervisor.managed_session():
        looper = supervisor.loop(0.001, called.set)
        assert called.wait(60)
    assert not looper.is_alive()


def test_summaries_are_written_beside_without_saving(model: Model, tmp_path: Path) -> None:
    tf.summary.scalar("weight", model.weight)
    supervisor = tf.train.Supervisor(logdir=str(tmp_path), saver=None, save_summaries_secs=0.001)
    with supervisor.managed_session() as session:
        session.run(model.train)
        supervisor.summary_computed(session, session.run(supervisor.summary_op))
    (file,) = tmp_path.iterdir()
    assert b"weight" in file.read_bytes()
    assert supervisor.saver is None


def test_a_summary_needs_a_writer(model: Model) -> None:
    supervisor = tf.train.Supervisor()
    with supervisor.managed_session() as session, pytest.raises(RuntimeError, match="requires a summary writer"):
        supervisor.summary_computed(session, b"")


def test_operations_may_be_given_or_come_from_collections(model: Model) -> None:
    init = tf.global_variables_initializer()
    tf.add_to_collection(tf.GraphKeys.INIT_OP, init)
    ready = tf.report_uninitialized_variables()
    supervisor = tf.train.Supervisor(
        ready_op=ready, local_init_op=None, init_fn=lambda session: session.run(model.train)
    )
    assert (supervisor.init_op, supervisor.ready_op) == (init, ready)
    with supervisor.managed_session() as session:
        assert session.run(model.weight) == 1.0


def test_a_graph_in_which_everything_happens_at_once_is_refused() -> None:
    with eager_graph().as_default(), pytest.raises(RuntimeError, match="need a deferred graph"):
        tf.train.Supervisor()
