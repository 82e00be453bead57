"""Hooks that go by the global step: to stop at one, to wait for one, to count how fast it goes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Final

from ps_protocol.errors import DeadlineExceededError
from worker_client.summaries.file_writer import FileWriterCache
from worker_client.summaries.protos import summary_of_value
from worker_client.training.global_step import get_global_step
from worker_client.training.monitored.hook import (
    SessionRunArgs,
    SessionRunContext,
    SessionRunHook,
    SessionRunValues,
)
from worker_client.training.monitored.log import LOG
from worker_client.training.monitored.timers import SecondOrStepTimer

_MOST_WARNINGS: Final = 5
_LONGEST_PAUSE_S: Final = 0.5
_REPORT_EVERY_S: Final = 30.0
_MAX_WAIT_S: Final = 7200.0


def required_global_step(hook: SessionRunHook) -> Any:
    """Returns the global step of the default graph; RuntimeError naming the hook that needs it if there is none."""
    step = get_global_step()
    if step is None:
        raise RuntimeError(
            f"Global step should be created to use {type(hook).__name__}: call tf.train.get_or_create_global_step() "
            f"first"
        )
    return step


class StopAtStepHook(SessionRunHook):
    """Ends the loop at a step.

    Args:
        num_steps: After how many steps from when the session is first made.
        last_step: At which global step.

    Raises:
        ValueError: Not exactly one of both is given.
    """

    def __init__(self, num_steps: int | None = None, last_step: int | None = None):
        if num_steps is None and last_step is None:
            raise ValueError("One of num_steps or last_step must be specified.")
        if num_steps is not None and last_step is not None:
            raise ValueError("Only one of num_steps or last_step can be specified.")
        self._num_steps = num_steps
        self._last_step = last_step

    def begin(self) -> None:
        self._global_step = required_global_step(self)

    def after_create_session(self, session: Any, coord: Any) -> None:
        del coord
        if self._last_step is None and self._num_steps is not None:
            self._last_step = session.run(self._global_step) + self._num_steps

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs:
        del run_context
        return SessionRunArgs(self._global_step)

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        # What was fetched is the step before this run, most likely; it is read again only near the end.
        last_step = math.inf if self._last_step is None else self._last_step
        if run_values.results + 1 >= last_step and run_context.session.run(self._global_step) >= last_step:
            run_context.request_stop()


class StepCounterHook(SessionRunHook):
    """Logs, and writes as a summary, how many global steps are made in a second.

    Args:
        every_n_steps: After how many steps.
        every_n_secs: Or after how many seconds; then ``every_n_steps`` must be None.
        output_dir: Where an event file is written; nowhere if neither this nor ``summary_writer`` is given.
        summary_writer: What it is written with.

    Raises:
        ValueError: Not exactly one of the first two is given.
    """

    def __init__(
        self,
        every_n_steps: int | None = 100,
        every_n_secs: float | None = None,
        output_dir: str | None = None,
        summary_writer: Any = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        if (every_n_steps is None) == (every_n_secs is None):
            raise ValueError("exactly one of every_n_steps and every_n_secs should be provided.")
        self._timer = SecondOrStepTimer(every_n_secs, every_n_steps, clock=clock)
        self._writer = summary_writer
        self._output_dir = output_dir
        self._previous: int | None = None
        self._num_warnings = 0

    def begin(self) -> None:
        self._global_step = required_global_step(self)
        if self._writer is None and self._output_dir:
            self._writer = FileWriterCache.get(self._output_dir)
        self._tag = f"{self._global_step.op.name}/sec"

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs:
        del run_context
        return SessionRunArgs(self._global_step)

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        before = run_values.results
        if self._timer.should_trigger_for_step(before + 1):
            step = run_context.session.run(self._global_step)
            if self._timer.should_trigger_for_step(step):
                elapsed_s, steps = self._timer.update_last_triggered_step(step)
                if elapsed_s is not None and steps is not None:
                    self._log_and_record(steps, elapsed_s, step)
        if before == self._previous and self._num_warnings < _MOST_WARNINGS:
            self._num_warnings += 1
            LOG.warning(
                "It seems that global step (tf.train.get_global_step) has not been increased. Current value (could be "
                "stable): %s vs previous value: %s. You could increase the global step by passing "
                "tf.train.get_global_step() to Optimizer.apply_gradients or Optimizer.minimize.",
                before,
                self._previous,
            )
        self._previous = before

    def _log_and_record(self, elapsed_steps: int, elapsed_time: float, global_step: int) -> None:
        steps_per_s = elapsed_steps / elapsed_time if elapsed_time > 0 else float("inf")
        if self._writer is not None:
            self._writer.add_summary(summary_of_value(self._tag, steps_per_s), global_step)
        LOG.info("%s: %g", self._tag, steps_per_s)


class GlobalStepWaiterHook(SessionRunHook):
    """Delays the first run until the global step has come so far, so that workers start one after the other.

    Args:
        wait_until_step: The global step to wait for.
        max_wait_secs: Bound on waiting, in seconds.
    """

    def __init__(self, wait_until_step: int, *, max_wait_secs: float = _MAX_WAIT_S):
        self._wait_until_step = wait_until_step
        self._max_wait_s = max_wait_secs

    def begin(self) -> None:
        self._may_run = self._wait_until_step <= 0
        self._global_step = required_global_step(self)

    def before_run(self, run_context: SessionRunContext) -> None:
        """Waits.

        Raises:
            DeadlineExceededError: The step was not reached in time.
        """
        if self._may_run:
            return
        LOG.info("Waiting for global step %d before starting training.", self._wait_until_step)
        start_s = reported_s = time.monotonic()
        pause_s = 0.01
        while (step := run_context.session.run(self._global_step)) < self._wait_until_step:
            now_s = time.monotonic()
            if now_s - start_s > self._max_wait_s:
                raise DeadlineExceededError(
                    f"waited {self._max_wait_s:.0f} s for the global step {self._wait_until_step} before starting to "
                    f"train, but it is {step}; make sure that another worker trains",
                    variable=self._global_step.op.name,
                )
            if now_s - reported_s > _REPORT_EVERY_S:
                reported_s = now_s
                LOG.info(
                    "Waiting for global step %d before starting training. Current step is %d.",
                    self._wait_until_step,
                    step,
                )
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        self._may_run = True
