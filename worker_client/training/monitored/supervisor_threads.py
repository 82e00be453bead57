"""The threads that a supervisor's chief runs beside the training loop."""

from __future__ import annotations

import time
from typing import Any, Final, Protocol

from worker_client.sessions.session import Session
from worker_client.summaries.protos import session_log, summary_of_value
from worker_client.training.global_step import global_step
from worker_client.training.monitored.coordinator import Coordinator, LooperThread
from worker_client.training.monitored.log import LOG

_MOST_REPORTS: Final = 10


class Supervised(Protocol):
    """What the threads use of a supervisor."""

    @property
    def coord(self) -> Coordinator: ...

    @property
    def save_summaries_secs(self) -> float | None: ...

    @property
    def summary_op(self) -> Any: ...

    @property
    def global_step(self) -> Any: ...

    @property
    def summary_writer(self) -> Any: ...

    @property
    def saver(self) -> Any: ...

    @property
    def save_model_secs(self) -> float | None: ...

    @property
    def save_path(self) -> Any: ...


class SummaryThread(LooperThread):
    """Evaluates all summaries at intervals, and writes them.

    Args:
        supervisor: Whose they are.
        session: Evaluates them.
    """

    def __init__(self, supervisor: Supervised, session: Session):
        super().__init__(supervisor.coord, supervisor.save_summaries_secs)
        self._supervisor = supervisor
        self._session = session

    def run_loop(self) -> None:
        fetches = [self._supervisor.summary_op]
        if self._supervisor.global_step is not None:
            fetches.append(self._supervisor.global_step)
        summary, *steps = self._session.run(fetches)
        step = steps[0] if steps else None
        LOG.info("Recording summary at step %s.", step)
        self._supervisor.summary_writer.add_summary(summary, step)


class CheckpointThread(LooperThread):
    """Saves checkpoints at intervals.

    Args:
        supervisor: Whose they are.
        session: Where the variables are.
    """

    def __init__(self, supervisor: Supervised, session: Session):
        super().__init__(supervisor.coord, supervisor.save_model_secs)
        self._supervisor = supervisor
        self._session = session

    def run_loop(self) -> None:
        supervisor, path = self._supervisor, self._supervisor.save_path
        LOG.info("Saving checkpoint to path %s", path)
        supervisor.saver.save(self._session, path, global_step=supervisor.global_step)
        if supervisor.summary_writer and supervisor.global_step is not None:
            step = global_step(self._session, supervisor.global_step)
            supervisor.summary_writer.add_session_log(session_log("CHECKPOINT", path), step)


class StepCounterThread(LooperThread):
    """Writes at intervals how many global steps are made in a second.

    Args:
        supervisor: Whose they are.
        session: Reads the global step.
    """

    def __init__(self, supervisor: Supervised, session: Session):
        super().__init__(supervisor.coord, supervisor.save_summaries_secs)
        self._supervisor = supervisor
        self._session = session
        self._num_reports = 0

    def start_loop(self) -> None:
        self._last_s = time.monotonic()
        self._last_step = self._step()

    def run_loop(self) -> None:
        step, now_s = self._step(), time.monotonic()
        elapsed_s = now_s - self._last_s
        steps_per_s = (step - self._last_step) / elapsed_s if elapsed_s > 0 else float("inf")
        self._last_step, self._last_s = step, now_s
        tag = f"{self._supervisor.global_step.op.name}/sec"
        self._supervisor.summary_writer.add_summary(summary_of_value(tag, steps_per_s), step)
        if self._num_reports < _MOST_REPORTS:
            self._num_reports += 1
            LOG.info("%s: %g", tag, steps_per_s)

    def _step(self) -> int:
        return global_step(self._session, self._supervisor.global_step)
