"""Hooks that look at tensors: to log them, to stop when one is NaN, to evaluate some at the end; and one that feeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ps_protocol.errors import OutOfRangeError
from worker_client.graph.default_graph import get_default_graph
from worker_client.training.monitored.hook import (
    SessionRunArgs,
    SessionRunContext,
    SessionRunHook,
    SessionRunValues,
)
from worker_client.training.monitored.log import LOG
from worker_client.training.monitored.timers import HookTimer, NeverTimer, SecondOrStepTimer


class LoggingTensorHook(SessionRunHook):
    """Logs values of tensors, as information.

    Args:
        tensors: Tensors or names of them, or a dictionary of such by tag.
        every_n_iter: After how many runs of this process.
        every_n_secs: Or after how many seconds.
        at_end: Whether at the end as well; or then alone, if neither of the others is given.
        formatter: Makes the text from the values by tag.
        clock: Seconds.

    Raises:
        ValueError: Neither or both of ``every_n_iter`` and ``every_n_secs`` are given, or a number is not positive.
    """

    def __init__(
        self,
        tensors: Mapping[Any, Any] | Iterable[Any],
        every_n_iter: int | None = None,
        every_n_secs: float | None = None,
        at_end: bool = False,
        formatter: Callable[[dict[Any, Any]], str] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        only_at_end = at_end and every_n_iter is None and every_n_secs is None
        if not only_at_end and (every_n_iter is None) == (every_n_secs is None):
            raise ValueError("either at_end and/or exactly one of every_n_iter and every_n_secs must be provided.")
        if every_n_iter is not None and every_n_iter <= 0:
            raise ValueError(f"invalid every_n_iter={every_n_iter}.")
        if isinstance(tensors, Mapping):
            self._tags, self._tensors = sorted(tensors), dict(tensors)
        else:
            self._tags = list(tensors)
            self._tensors = {each: each for each in self._tags}
        self._timer: HookTimer = (
            NeverTimer() if only_at_end else SecondOrStepTimer(every_n_secs, every_n_iter, clock=clock)
        )
        self._at_end = at_end
        self._formatter = formatter

    def begin(self) -> None:
        self._timer.reset()
        self._num_runs = 0
        self._fetched = {tag: tensor_meant(tensor) for tag, tensor in self._tensors.items()}

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs | None:
        del run_context
        self._is_due = self._timer.should_trigger_for_step(self._num_runs)
        return SessionRunArgs(self._fetched) if self._is_due else None

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        del run_context
        if self._is_due:
            self._log(run_values.results)
        self._num_runs += 1

    def end(self, session: Any) -> None:
        if self._at_end:
            self._log(session.run(self._fetched))

    def _log(self, values: dict[Any, Any]) -> None:
        elapsed_s, _ = self._timer.update_last_triggered_step(self._num_runs)
        if self._formatter:
            LOG.info("%s", self._formatter(values))
            return
        with np.printoptions(suppress=True):
            shown = ", ".join(f"{tag} = {values[tag]}" for tag in self._tags)
        if elapsed_s is None:
            LOG.info("%s", shown)
        else:
            LOG.info("%s (%.3f sec)", shown, elapsed_s)


class NanLossDuringTrainingError(RuntimeError):
    """The loss has become NaN."""

    def __str__(self) -> str:
        return "NaN loss during training."


class NanTensorHook(SessionRunHook):
    """Ends the loop when the loss is NaN.

    Args:
        loss_tensor: A scalar.
        fail_on_nan_loss: Whether ``run`` then raises ``NanLossDuringTrainingError``.
    """

    def __init__(self, loss_tensor: Any, fail_on_nan_loss: bool = True):
        self._loss = loss_tensor
        self._fails = fail_on_nan_loss

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs:
        del run_context
        return SessionRunArgs(self._loss)

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        if not np.isnan(run_values.results):
            return
        message = "Model diverged with loss = NaN."
        if self._fails:
            LOG.error(message)
            raise NanLossDuringTrainingError
        LOG.warning(message)
        run_context.request_stop()


class FinalOpsHook(SessionRunHook):
    """Evaluates tensors at the end.

    Args:
        final_ops: What is evaluated, as for ``Session.run``; None for nothing.
        final_ops_feed_dict: Values that are fed.
    """

    def __init__(self, final_ops: Any, final_ops_feed_dict: Mapping[Any, Any] | None = None):
        self._final_ops = final_ops
        self._feed_dict = final_ops_feed_dict
        self._values: Any = None

    @property
    def final_ops_values(self) -> Any:
        """The values, in the structure of ``final_ops``; None before the end."""
        return self._values

    def end(self, session: Any) -> None:
        if self._final_ops is None:
            return
        try:
            self._values = session.run(self._final_ops, feed_dict=self._feed_dict)
        except (OutOfRangeError, StopIteration):
            LOG.warning(
                "An OutOfRangeError or StopIteration exception is raised by the code in FinalOpsHook: what it runs at "
                "the end takes one more batch of the input; have it only read variables"
            )
            raise


class FeedFnHook(SessionRunHook):
    """Feeds every run what a function returns.

    Args:
        feed_fn: Takes nothing, and returns what ``feed_dict`` takes.
    """

    def __init__(self, feed_fn: Callable[[], Mapping[Any, Any]]):
        self.feed_fn = feed_fn

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs:
        del run_context
        return SessionRunArgs(fetches=None, feed_dict=self.feed_fn())


def tensor_meant(element: Any) -> Any:
    """Returns the tensor of the default graph that is meant by itself, by its name, or by its operation's.

    Raises:
        ValueError: It belongs to another graph, or the operation has several outputs.
        KeyError: Nothing has that name.
    """
    graph = get_default_graph()
    if not isinstance(element, str):
        if getattr(element, "graph", None) is not graph:
            raise ValueError(f"Passed {element} should have graph attribute that is equal to current graph {graph}.")
        return element
    if ":" not in element and len(graph.get_operation_by_name(element).outputs) > 1:
        raise ValueError(f"Name {element} is ambiguous, as this Operation has multiple outputs (at least 2).")
    return graph.get_tensor_by_name(element if ":" in element else f"{element}:0")
