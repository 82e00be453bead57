"""A hook that writes summaries to an event file."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from worker_client.summaries.file_writer import FileWriterCache
from worker_client.summaries.protos import session_log
from worker_client.training.monitored.hook import (
    SessionRunArgs,
    SessionRunContext,
    SessionRunHook,
    SessionRunValues,
)
from worker_client.training.monitored.scaffold import Scaffold
from worker_client.training.monitored.step_hooks import required_global_step
from worker_client.training.monitored.timers import SecondOrStepTimer


class SummarySaverHook(SessionRunHook):
    """Writes summaries after so many global steps or seconds.

    Args:
        save_steps: After how many steps.
        save_secs: Or after how many seconds.
        output_dir: Where the event file is; not needed with a ``summary_writer``.
        summary_writer: What they are written with.
        scaffold: Whose ``summary_op`` is evaluated.
        summary_op: Or what is evaluated: a summary, or a list of those.
        clock: Seconds.

    Raises:
        ValueError: Not exactly one of ``scaffold`` and ``summary_op``, or of the first two, is given.
    """

    def __init__(
        self,
        save_steps: int | None = None,
        save_secs: float | None = None,
        output_dir: str | None = None,
        summary_writer: Any = None,
        scaffold: Scaffold | None = None,
        summary_op: Any = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        if (scaffold is None) == (summary_op is None):
            raise ValueError("Exactly one of scaffold or summary_op must be provided.")
        self._summary_op = summary_op
        self._writer = summary_writer
        self._output_dir = output_dir
        self._scaffold = scaffold
        self._timer = SecondOrStepTimer(save_secs, save_steps, clock=clock)

    def begin(self) -> None:
        if self._writer is None and self._output_dir:
            self._writer = FileWriterCache.get(self._output_dir)
        self._next_step: int | None = None
        self._global_step = required_global_step(self)

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs:
        del run_context
        self._is_due = self._next_step is None or self._timer.should_trigger_for_step(self._next_step)
        requests = {"global_step": self._global_step}
        if self._is_due and self._summaries() is not None:
            requests["summary"] = self._summaries()
        return SessionRunArgs(requests)

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        if not self._writer:
            return
        step = run_values.results["global_step"] + 1
        if self._is_due:
            step = run_context.session.run(self._global_step)
            if self._next_step is None:
                self._writer.add_session_log(session_log("START"), step)
            self._timer.update_last_triggered_step(step)
            for summary in run_values.results.get("summary", ()):
                self._writer.add_summary(summary, step)
        self._next_step = step + 1

    def end(self, session: Any = None) -> None:
        del session
        if self._writer:
            self._writer.flush()

    def _summaries(self) -> list[Any] | None:
        found = self._summary_op if self._scaffold is None else self._scaffold.summary_op
        return found if found is None or isinstance(found, list) else [found]
