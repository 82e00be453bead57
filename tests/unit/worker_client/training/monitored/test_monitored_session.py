"""Monitored sessions: the order in which hooks are called, what ends a loop, what is raised, what is made anew.

What is expected is what TensorFlow 2.21 does.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from tests.unit.worker_client.training.monitored.conftest import Model
from worker_client.connection.retry import Reports
from worker_client.training.monitored import session_manager


class Recorder(tf.train.SessionRunHook):
    """Notes what it is called with."""

    def __init__(self, calls: list[Any], name: str = "", fetches: Any = None):
        self._calls, self._name, self._fetches = calls, name, fetches

    def _note(self, what: str, *more: Any) -> None:
        self._calls.append((f"{self._name}{what}", *more))

    def begin(self) -> None:
        self._note("begin", tf.get_default_graph().finalized)

    def after_create_session(self, session: Any, coord: Any) -> None:
        self._note("created", tf.get_default_graph().finalized, type(session), type(coord))

    def before_run(self, run_context: Any) -> Any:
        self._note("before", run_context.original_args.fetches)
        return None if self._fetches is None else tf.train.SessionRunArgs(self._fetches)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self._note("after", run_values.results, type(run_values.options), type(run_values.run_metadata))

    def end(self, session: Any) -> None:
        self._note("end", session.run("weight:0"))


def test_hooks_are_called_in_tensorflows_order(model: Model, graph: tf.Graph) -> None:
    calls: list[Any] = []
    own = Recorder(calls, "own ", {"step": model.step})
    with tf.train.MonitoredTrainingSession(hooks=[own], chief_only_hooks=[Recorder(calls, "chief ")]) as session:
        assert session.run([model.train, {"step": model.step}]) == [None, {"step": 0}]
        assert session.graph is graph
    fetches = [model.train, {"step": model.step}]
    assert calls == [
        ("chief begin", False),
        ("own begin", False),
        ("chief created", True, tf.Session, tf.train.Coordinator),
        ("own created", True, tf.Session, tf.train.Coordinator),
        ("chief before", fetches),
        ("own before", fetches),
        ("chief after", None, tf.RunOptions, tf.RunMetadata),
        ("own after", {"step": 0}, tf.RunOptions, tf.RunMetadata),
        ("chief end", 1.0),
        ("own end", 1.0),
    ]
    assert not graph.finalized
    assert session.should_stop()
    assert session.graph is None


def test_a_loop_ends_at_a_step(model: Model) -> None:
    with tf.train.MonitoredTrainingSession(hooks=[tf.train.StopAtStepHook(last_step=3)]) as session:
        while not session.should_stop():
            session.run(model.train)
        with pytest.raises(RuntimeError, match="Run called even after should_stop requested"):
            session.run(model.train)


def test_a_closed_session_says_so(model: Model) -> None:
    session = tf.train.MonitoredSession()
    session.close()
    with pytest.raises(RuntimeError, match="Session is already closed"):
        session.close()
    with pytest.raises(RuntimeError, match="Session is already closed"):
        session.run(model.train)


def test_an_error_in_the_block_is_raised_and_hooks_do_not_end(model: Model) -> None:
    calls: list[Any] = []
    with pytest.raises(ValueError, match="mine"), tf.train.MonitoredSession(hooks=[Recorder(calls)]):
        raise ValueError("mine")
    assert [each[0] for each in calls] == ["begin", "created"]


@pytest.mark.parametrize(
    "error", [StopIteration("over"), tf.errors.OutOfRangeError(None, None, "over")], ids=["stop", "out of range"]
)
def test_the_end_of_the_input_ends_the_block_well(model: Model, error: Exception) -> None:
    calls: list[Any] = []
    with tf.train.MonitoredSession(hooks=[Recorder(calls)]):
        raise error
    assert [each[0] for each in calls] == ["begin", "created", "end"]


def test_feeds_of_hooks_join_those_of_the_program_but_may_not_meet_them(model: Model) -> None:
    other = tf.placeholder(tf.float32, [])
    total = model.fed + other
    hook = tf.train.FeedFnHook(lambda: {model.fed: 3.0})
    with tf.train.MonitoredSession(hooks=[hook]) as session:
        assert session.run(total, {other: 1.0}) == 4.0
        with pytest.raises(RuntimeError, match=r"Same tensor is fed by a SessionRunHook and user. Conflict\(s\)"):
            session.run(model.fed, {model.fed: 1.0})
    session = tf.train.MonitoredSession(hooks=[hook, tf.train.FeedFnHook(lambda: {model.fed: 3.0})])
    with pytest.raises(RuntimeError, match=r"Same tensor is fed by two hooks. Conflict\(s\)"):
        session.run(model.fed)
    session.close()


def test_options_of_hooks_join_those_of_the_program(model: Model) -> None:
    class Traces(tf.train.SessionRunHook):
        def before_run(self, run_context: Any) -> Any:
            return tf.train.SessionRunArgs(None, options=tf.RunOptions(trace_level=3, timeout_in_ms=5))

        def after_run(self, run_context: Any, run_values: Any) -> None:
            self.options = run_values.options

    hook = Traces()
    with tf.train.MonitoredSession(hooks=[hook]) as session:
        session.run(model.train, options=tf.RunOptions(trace_level=1, timeout_in_ms=7))
    assert (hook.options.trace_level, hook.options.timeout_in_ms) == (3, 7)


def test_a_step_function_runs_with_hooks_and_without(model: Model) -> None:
    calls: list[Any] = []
    session = tf.train.MonitoredSession(hooks=[Recorder(calls)])
    seen = session.run_step_fn(
        lambda step_context: (step_context.session.run(model.train), step_context.run_with_hooks(model.weight))
    )
    assert seen == (None, 1.0)
    assert [each[0] for each in calls] == ["begin", "created", "before", "after"]

    def stop(step_context: Any) -> None:
        step_context.request_stop()

    with pytest.raises(StopIteration, match="has requested the iterations to stop"):
        session.run_step_fn(stop)
    with pytest.raises(ValueError, match="may either have one `step_context` argument"):
        session.run_step_fn(lambda other: None)
    session.close()


# -- what fails -------------------------------------------------------------------------------------


class Fails(tf.train.SessionRunHook):
    """Raises errors before some runs, and counts sessions."""

    def __init__(self, errors: dict[int, Exception]):
        self._errors, self.num_runs, self.num_sessions = errors, 0, 0

    def after_create_session(self, session: Any, coord: Any) -> None:
        self.num_sessions += 1

    def before_run(self, run_context: Any) -> None:
        self.num_runs += 1
        if self.num_runs in self._errors:
            raise self._errors.pop(self.num_runs)


@pytest.mark.parametrize("error", [tf.errors.AbortedError, tf.errors.UnavailableError])
def test_a_session_that_is_lost_is_made_anew_and_the_run_repeated(
    model: Model, error: Any, messages: pytest.LogCaptureFixture
) -> None:
    hook = Fails({2: error(None, None, "the ps is away")})
    with tf.train.MonitoredSession(hooks=[hook]) as session:
        session.run(model.train)
        assert not session.should_stop()
        session.run(model.train)
        assert (hook.num_sessions, hook.num_runs) == (2, 3)
        assert session.run(model.step) == 1  # it was a new store, as in TensorFlow without checkpoints
    assert hook.num_sessions == 2
    assert "This may be due to a preemption" in messages.text
    assert "the ps is away" in messages.text


def test_a_session_whose_making_is_interrupted_is_made_again(model: Model) -> None:
    class FailsOnce(tf.train.SessionRunHook):
        sessions = 0

        def after_create_session(self, session: Any, coord: Any) -> None:
            self.sessions += 1
            if self.sessions == 1:
                raise tf.errors.UnavailableError(None, None, "away")

    hook = FailsOnce()
    with tf.train.MonitoredSession(hooks=[hook]) as session:
        session.run(model.train)
    assert hook.sessions == 2


def test_what_would_fail_for_ever_is_not_repeated(model: Model) -> None:
    replaced = tf.errors.AbortedError("another process is this task", retryable=False)
    hook = Fails({1: replaced})
    session = tf.train.MonitoredSession(hooks=[hook])
    with pytest.raises(tf.errors.AbortedError, match="another process"):
        session.run(model.train)
    session.close()
    assert hook.num_sessions == 1


def test_a_singular_session_is_not_made_anew(model: Model) -> None:
    hook = Fails({1: tf.errors.AbortedError(None, None, "away")})
    session = tf.train.SingularMonitoredSession(hooks=[hook])
    with pytest.raises(tf.errors.AbortedError, match="away"):
        session.run(model.train)
    assert session.raw_session().run(model.step) == 0
    session.close()
    assert session.raw_session() is None


def test_an_error_of_a_thread_stops_the_loop_and_is_raised_at_the_end(model: Model) -> None:
    class Threads(tf.train.SessionRunHook):
        def after_create_session(self, session: Any, coord: Any) -> None:
            def fail() -> None:
                raise ValueError("in a thread")

            tf.train.LooperThread.loop(coord, None, fail).join(30)

    session = tf.train.MonitoredSession(hooks=[Threads()])
    assert session.should_stop()
    assert session.run(model.weight) == 0.0
    with pytest.raises(ValueError, match="in a thread"):
        session.close()
    assert session.should_stop()


# -- what a session starts with ----------------------------------------------------------------------


def test_a_scaffold_makes_what_is_missing_and_keeps_it_in_collections(model: Model, graph: tf.Graph) -> None:
    seen: list[Any] = []
    scaffold = tf.train.Scaffold(init_fn=lambda given, session: seen.append((given, session.run(model.weight))))
    assert scaffold.init_op is None
    tf.train.MonitoredSession(tf.train.ChiefSessionCreator(scaffold)).close()
    assert seen == [(scaffold, 0.0)]
    for key in ("INIT_OP", "READY_OP", "LOCAL_INIT_OP", "READY_FOR_LOCAL_INIT_OP"):
        assert graph.get_collection(getattr(tf.GraphKeys, key)) == [getattr(scaffold, key.lower())]
    copied = tf.train.Scaffold(ready_op=model.weight, copy_from_scaffold=scaffold)
    assert (copied.init_op, copied.ready_op) == (scaffold.init_op, model.weight)
    assert scaffold.summary_op is None
    assert scaffold.saver is tf.get_collection(tf.GraphKeys.SAVERS)[0]
    with pytest.raises(TypeError, match="copy_from_scaffold is not a Scaffold"):
        tf.train.Scaffold(copy_from_scaffold=3)  # type: ignore[arg-type]


def test_local_variables_are_initialised_in_each_session(model: Model) -> None:
    local = tf.get_local_variable("local", initializer=5.0)
    with tf.train.MonitoredSession() as session:
        assert session.run(local) == 5.0


def test_a_chief_whose_model_is_not_ready_says_what_is_lacking(model: Model) -> None:
    scaffold = tf.train.Scaffold(init_op=tf.no_op(name="nothing"))
    with pytest.raises(RuntimeError, match=r"did not make model ready for local_init.* not initialized: global"):
        tf.train.MonitoredSession(tf.train.ChiefSessionCreator(scaffold))


def test_a_worker_waits_for_the_chief_for_a_bounded_time(model: Model, messages: pytest.LogCaptureFixture) -> None:
    with pytest.raises(tf.errors.DeadlineExceededError, match=r"not ready after waiting 0 secs.* global_step, weight"):
        tf.train.MonitoredTrainingSession(is_chief=False, max_wait_secs=0)
    with pytest.raises(tf.errors.DeadlineExceededError):
        tf.train.WorkerSessionCreator(max_wait_secs=0.05).create_session()
    assert "Waiting for model to be ready.  Ready_for_local_init_op:  Variables not initialized" in messages.text


def test_who_asks_for_no_messages_is_told_that_a_worker_waits(
    model: Model, messages: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_manager, "Reports", lambda: Reports(first_s=0.0))
    messages.set_level(logging.WARNING, "tensorflow")
    with pytest.raises(tf.errors.DeadlineExceededError):
        tf.train.MonitoredTrainingSession(is_chief=False, max_wait_secs=0)
    told = "waiting for the chief, 0 s of up to 0 s: Variables not initialized: global_step, weight"
    assert [each for each in messages.messages if each.startswith(told)]


def test_a_session_manager_says_what_it_needs(model: Model) -> None:
    ready = tf.report_uninitialized_variables()
    manager = tf.train.SessionManager(ready_op=ready)
    with pytest.raises(RuntimeError, match="no init_op or init_fn or local_init_op was given"):
        manager.prepare_session("")
    with pytest.raises(RuntimeError, match=r"Init operations did not make model ready.  Init op: nothing"):
        manager.prepare_session("", tf.no_op(name="nothing"))
    with pytest.raises(ValueError, match="you must also pass a local_init_op"):
        tf.train.SessionManager(ready_for_local_init_op=ready)
    session = manager.prepare_session("", tf.global_variables_initializer())
    assert session.run(ready).size == 0
    session.close()
    session, is_restored = manager.recover_session("")
    assert not is_restored
    session.close()


def test_a_graph_without_variables_is_ready() -> None:
    answer = tf.constant(42)
    with tf.train.MonitoredTrainingSession(is_chief=False, max_wait_secs=0) as session:
        assert session.run(answer) == 42


def test_summaries_are_written_where_the_chief_is_told_to(model: Model, tmp_path: Path) -> None:
    tf.summary.scalar("weight", model.weight)
    with tf.train.MonitoredTrainingSession(summary_dir=str(tmp_path), save_summaries_steps=1) as session:
        for _ in range(3):
            session.run(model.train)
    tf.summary.FileWriterCache.clear()
    (file,) = tmp_path.iterdir()
    assert b"weight" in file.read_bytes()


def test_queue_runners_may_be_started_where_there_are_none(model: Model) -> None:
    with pytest.raises(ValueError, match="No default session is registered"):
        tf.train.start_queue_runners()
    with tf.Session() as session:
        assert tf.train.start_queue_runners(session) == []
    with tf.train.MonitoredSession() as monitored:
        assert tf.train.start_queue_runners(monitored) == []
    with pytest.raises(TypeError, match=r"must be a `tf.Session`"):
        tf.train.start_queue_runners(3)


def test_values_of_a_run_are_those_of_the_session(model: Model) -> None:
    with tf.train.MonitoredSession() as session:
        value = session.run({"weight": model.weight, "both": (model.weight, model.step)})
    assert value == {"weight": 0.0, "both": (0.0, 0)}
    assert type(value["weight"]) is np.float32
