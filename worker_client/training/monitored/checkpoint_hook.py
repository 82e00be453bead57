"""A hook that saves checkpoints, and those who listen to it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.keys import GraphKeys
from worker_client.summaries.file_writer import FileWriterCache
from worker_client.summaries.protos import session_log
from worker_client.training.monitored.hook import (
    SessionRunArgs,
    SessionRunContext,
    SessionRunHook,
    SessionRunValues,
)
from worker_client.training.monitored.log import LOG
from worker_client.training.monitored.scaffold import Scaffold
from worker_client.training.monitored.step_hooks import required_global_step
from worker_client.training.monitored.timers import SecondOrStepTimer
from worker_client.training.savers.saver import Saver


class CheckpointSaverListener:
    """Is told by a ``CheckpointSaverHook`` of what it does. Derive from it; each method may be left as it is."""

    def begin(self) -> None:
        """Called before the session is made; may add operations to the graph."""

    def before_save(self, session: Any, global_step_value: int) -> None:
        """Called before each checkpoint."""

    def after_save(self, session: Any, global_step_value: int) -> bool | None:
        """Called after each checkpoint; true asks for the end of the loop."""

    def end(self, session: Any, global_step_value: int) -> None:
        """Called when the session ends, after the last checkpoint."""


class CheckpointSaverHook(SessionRunHook):
    """Saves a checkpoint when the session is made, after so many global steps or seconds, and at the end.

    For the chief alone.

    Args:
        checkpoint_dir: Where.
        save_secs: After how many seconds.
        save_steps: Or after how many steps.
        saver: Saves; that of the scaffold, or else of the collection ``GraphKeys.SAVERS``, if not given.
        checkpoint_basename: What the files are called, in front of the step.
        scaffold: Whose saver saves.
        listeners: Are told before and after.
        save_graph_def: Ignored: no graph is written but for TensorBoard.
        clock: Seconds.

    Raises:
        ValueError: Both a saver and a scaffold are given, or not exactly one of ``save_secs`` and ``save_steps``.
    """

    def __init__(
        self,
        checkpoint_dir: str | os.PathLike[str],
        save_secs: float | None = None,
        save_steps: int | None = None,
        saver: Saver | None = None,
        checkpoint_basename: str = "model.ckpt",
        scaffold: Scaffold | None = None,
        listeners: Iterable[CheckpointSaverListener] | None = None,
        save_graph_def: bool = True,
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        del save_graph_def
        LOG.info("Create CheckpointSaverHook.")
        if saver is not None and scaffold is not None:
            raise ValueError("You cannot provide both saver and scaffold.")
        self._saver = saver
        self._scaffold = scaffold
        self._checkpoint_dir = os.fspath(checkpoint_dir)
        self._save_path = os.path.join(self._checkpoint_dir, checkpoint_basename)  # noqa: PTH118 - "./a" stays what it is
        self._timer = SecondOrStepTimer(save_secs, save_steps, clock=clock)
        self._listeners = list(listeners or ())

    def begin(self) -> None:
        self._writer = FileWriterCache.get(self._checkpoint_dir)
        self._global_step = required_global_step(self)
        for listener in self._listeners:
            listener.begin()

    def after_create_session(self, session: Any, coord: Any) -> None:
        del coord
        step = session.run(self._global_step)
        self._writer.add_graph(get_default_graph())
        self._save(session, step)
        self._timer.update_last_triggered_step(step)

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs:
        del run_context
        return SessionRunArgs(self._global_step)

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        del run_values  # the step before this run; other workers may have gone on
        if not self._timer.may_trigger():
            return
        step = run_context.session.run(self._global_step)
        if self._timer.should_trigger_for_step(step):
            self._timer.update_last_triggered_step(step)
            if self._save(run_context.session, step):
                run_context.request_stop()

    def end(self, session: Any) -> None:
        step = session.run(self._global_step)
        if step != self._timer.last_triggered_step():
            self._save(session, step)
        for listener in self._listeners:
            listener.end(session, step)

    def _save(self, session: Any, step: int) -> bool:
        """Saves a checkpoint; returns whether a listener asks for the end."""
        LOG.info("Calling checkpoint listeners before saving checkpoint %d...", step)
        for listener in self._listeners:
            listener.before_save(session, step)
        LOG.info("Saving checkpoints for %d into %s.", step, self._save_path)
        self._used_saver().save(session, self._save_path, global_step=step)
        self._writer.add_session_log(session_log("CHECKPOINT", self._save_path), step)
        LOG.info("Calling checkpoint listeners after saving checkpoint %d...", step)
        answers = [listener.after_save(session, step) for listener in self._listeners]
        for listener, answer in zip(self._listeners, answers, strict=True):
            if answer:
                LOG.info("A CheckpointSaverListener requested that training be stopped. listener: %s", listener)
        return any(answers)

    def _used_saver(self) -> Any:
        if self._saver is None and self._scaffold is not None:
            self._saver = self._scaffold.saver
        if self._saver is None:
            savers = get_default_graph().get_collection(GraphKeys.SAVERS)
            if len(savers) != 1:
                what = "More than one item" if savers else "No items"
                raise RuntimeError(
                    f"{what} in collection {GraphKeys.SAVERS}. Please give the hook a saver or a scaffold, or have one "
                    f"saver in the collection."
                )
            self._saver = savers[0]
        return self._saver
