"""The hooks that TensorFlow has: when they are due, what they log, write and raise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import worker_client.compat.v1 as tf
from tests.unit.worker_client.training.monitored.conftest import Model


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Writer:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[tuple[Any, ...]] = []

    def add_summary(self, summary: Any, step: Any) -> None:
        message = tf.Summary.FromString(summary) if isinstance(summary, bytes) else summary
        self.written += [(value.tag, value.simple_value, step) for value in message.value]

    def add_session_log(self, log: Any, step: Any) -> None:
        self.written.append((tf.SessionLog.SessionStatus.Name(log.status), step))

    def flush(self) -> None:
        self.written.append(("flushed",))


def test_a_timer_is_due_after_steps_and_not_twice_at_one() -> None:
    timer = tf.train.SecondOrStepTimer(every_steps=3)
    assert timer.last_triggered_step() is None
    assert timer.should_trigger_for_step(5)
    assert timer.update_last_triggered_step(5) == (None, None)
    assert [timer.should_trigger_for_step(step) for step in (5, 7, 8)] == [False, False, True]
    assert timer.update_last_triggered_step(8)[1] == 3
    assert timer.last_triggered_step() == 8
    timer.reset()
    assert timer.should_trigger_for_step(8)


def test_a_timer_is_due_after_seconds() -> None:
    clock = Clock()
    timer = tf.train.SecondOrStepTimer(every_secs=2.0, clock=clock)
    timer.update_last_triggered_step(1)
    clock.now_s += 1.5
    assert not timer.should_trigger_for_step(2)
    clock.now_s += 0.5
    assert timer.should_trigger_for_step(2)
    assert not timer.should_trigger_for_step(1)
    assert timer.update_last_triggered_step(2) == (2.0, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (tf.train.SecondOrStepTimer, "Either every_secs or every_steps should be provided"),
        (lambda: tf.train.SecondOrStepTimer(1, 2), "Can not provide both every_secs and every_steps"),
        (tf.train.StopAtStepHook, "One of num_steps or last_step must be specified"),
        (lambda: tf.train.StopAtStepHook(1, 2), "Only one of num_steps or last_step can be specified"),
        (lambda: tf.train.LoggingTensorHook([]), "exactly one of every_n_iter and every_n_secs must be provided"),
        (lambda: tf.train.LoggingTensorHook([], every_n_iter=0), "invalid every_n_iter=0"),
        (lambda: tf.train.StepCounterHook(1, 2), "exactly one of every_n_steps and every_n_secs should be provided"),
        (lambda: tf.train.SummarySaverHook(1), "Exactly one of scaffold or summary_op must be provided"),
    ],
    ids=range(8),
)
def test_arguments_that_contradict_each_other(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "hook",
    [
        tf.train.StopAtStepHook(1),
        tf.train.StepCounterHook(),
        tf.train.SummarySaverHook(1, summary_op="s"),
        tf.train.GlobalStepWaiterHook(1),
    ],
    ids=lambda hook: type(hook).__name__,
)
def test_a_hook_that_needs_the_global_step_says_so(hook: Any) -> None:
    with pytest.raises(RuntimeError, match=f"Global step should be created to use {type(hook).__name__}"):
        tf.train.MonitoredSession(hooks=[hook])


def test_a_number_of_steps_counts_from_the_first_session(model: Model) -> None:
    scaffold = tf.train.Scaffold(init_fn=lambda _, session: session.run(model.train))
    hook = tf.train.StopAtStepHook(num_steps=2)
    with tf.train.MonitoredSession(tf.train.ChiefSessionCreator(scaffold), [hook]) as session:
        runs = 0
        while not session.should_stop():
            session.run(model.train)
            runs += 1
    assert runs == 2


def test_values_are_logged_in_tensorflows_form(model: Model, messages: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    hook = tf.train.LoggingTensorHook(
        {"w": model.weight, "a": "global_step:0"}, every_n_iter=2, at_end=True, clock=clock
    )
    with tf.train.MonitoredSession(hooks=[hook]) as session:
        for _ in range(4):
            session.run(model.train)
            clock.now_s += 1.0
    logged = [each for each in messages.messages if " = " in each]
    assert logged == ["a = 0, w = 0.0", "a = 2, w = 2.0 (2.000 sec)", "a = 4, w = 4.0 (2.000 sec)"]


def test_values_are_logged_by_names_at_the_end_or_in_the_programs_form(
    model: Model, messages: pytest.LogCaptureFixture
) -> None:
    hooks = [
        tf.train.LoggingTensorHook(["weight"], at_end=True),
        tf.train.LoggingTensorHook(["weight:0"], every_n_secs=1000, formatter=lambda values: f"<{values}>"),
    ]
    with tf.train.MonitoredSession(hooks=hooks) as session:
        session.run(model.train)
        session.run(model.train)
    assert [each for each in messages.messages if "weight" in each and "/sec" not in each] == [
        "<{'weight:0': np.float32(0.0)}>",
        "weight = 2.0",
    ]


def test_a_tensor_that_is_not_there_is_named(model: Model) -> None:
    with pytest.raises(KeyError, match="absent"):
        tf.train.MonitoredSession(hooks=[tf.train.LoggingTensorHook(["absent"], at_end=True)])
    with tf.Graph().as_default():
        other = tf.constant(1.0)
    with pytest.raises(ValueError, match="should have graph attribute that is equal to current graph"):
        tf.train.MonitoredSession(hooks=[tf.train.LoggingTensorHook([other], at_end=True)])
    tf.split(tf.zeros([2]), 2, name="two")
    with pytest.raises(ValueError, match="Name two is ambiguous"):
        tf.train.MonitoredSession(hooks=[tf.train.LoggingTensorHook(["two"], at_end=True)])


def test_steps_in_a_second_are_logged_and_written(model: Model, messages: pytest.LogCaptureFixture) -> None:
    clock, writer = Clock(), Writer()
    hook = tf.train.StepCounterHook(every_n_steps=2, summary_writer=writer, clock=clock)
    with tf.train.MonitoredSession(hooks=[hook]) as session:
        for _ in range(5):
            clock.now_s += 0.5
            session.run(model.train)
    assert writer.written == [("global_step/sec", 2.0, 3), ("global_step/sec", 2.0, 5)]
    assert [each for each in messages.messages if "/sec" in each] == ["global_step/sec: 2"] * 2


def test_a_step_that_stands_still_is_warned_of_five_times(model: Model, messages: pytest.LogCaptureFixture) -> None:
    with tf.train.MonitoredSession(hooks=[tf.train.StepCounterHook()]) as session:
        for _ in range(9):
            session.run(model.weight)
    assert messages.text.count("It seems that global step (tf.train.get_global_step) has not been increased") == 5


def test_a_loss_that_is_nan_fails_or_stops(model: Model, messages: pytest.LogCaptureFixture) -> None:
    nan = {model.fed: float("nan")}
    session = tf.train.MonitoredSession(hooks=[tf.train.NanTensorHook(model.fed)])
    session.run(model.train, {model.fed: 1.0})
    with pytest.raises(tf.train.NanLossDuringTrainingError, match=re.escape("NaN loss during training.")):
        session.run(model.train, nan)
    session.close()
    with tf.train.MonitoredSession(hooks=[tf.train.NanTensorHook(model.fed, fail_on_nan_loss=False)]) as session:
        session.run(model.train, nan)
        assert session.should_stop()
    assert [each.levelname for each in messages.records if "Model diverged with loss = NaN." in each.message] == [
        "ERROR",
        "WARNING",
    ]


def test_final_values_are_there_at_the_end(model: Model) -> None:
    hook = tf.train.FinalOpsHook({"sum": model.weight + model.fed}, {model.fed: 10.0})
    with tf.train.MonitoredSession(hooks=[hook]) as session:
        session.run(model.train)
        assert hook.final_ops_values is None
    assert hook.final_ops_values == {"sum": 11.0}


def test_summaries_are_written_after_steps(model: Model) -> None:
    writer = Writer()
    summary = tf.summary.scalar("w", model.weight)
    hook = tf.train.SummarySaverHook(save_steps=2, summary_writer=writer, summary_op=summary)
    with tf.train.MonitoredSession(hooks=[hook]) as session:
        for _ in range(5):
            session.run(model.train)
    assert writer.written == [
        ("START", 1),
        ("w", 0.0, 1),
        ("w", 2.0, 3),
        ("w", 4.0, 5),
        ("flushed",),
    ]


def test_summaries_of_a_scaffold_and_of_a_list_are_written(model: Model, tmp_path: Path) -> None:
    tf.summary.scalar("one", 1.0)
    two = tf.summary.scalar("two", 2.0, collections=[])
    writer, scaffold = Writer(), tf.train.Scaffold()
    hooks = [
        tf.train.SummarySaverHook(save_steps=1, summary_writer=writer, scaffold=scaffold),
        tf.train.SummarySaverHook(save_steps=1, summary_writer=writer, summary_op=[two, two]),
        tf.train.SummarySaverHook(save_steps=1, output_dir=str(tmp_path), summary_op=two),
    ]
    with tf.train.MonitoredSession(tf.train.ChiefSessionCreator(scaffold), hooks) as session:
        session.run(model.train)
    tf.summary.FileWriterCache.clear()
    assert [each for each in writer.written if len(each) == 3] == [("one", 1.0, 1), ("two", 2.0, 1), ("two", 2.0, 1)]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_worker_starts_when_the_step_is_reached(model: Model, messages: pytest.LogCaptureFixture) -> None:
    class Others(tf.train.SessionRunHook):
        """Trains as another worker would, while this one waits."""

        def before_run(self, run_context: Any) -> None:
            run_context.session.run(model.train)
            run_context.session.run(model.train)

    hooks = [Others(), tf.train.GlobalStepWaiterHook(2)]
    with tf.train.MonitoredSession(hooks=hooks) as session:
        assert session.run(model.step) == 2
    assert "Waiting for global step 2 before starting training." in messages.messages
    session = tf.train.MonitoredSession(hooks=[tf.train.GlobalStepWaiterHook(2, max_wait_secs=0)])
    with pytest.raises(tf.errors.DeadlineExceededError, match=r"for the global step 2 .* but it is 0"):
        session.run(model.step)
    session.close()
