"""Sessions that initialise themselves, call hooks, and recover: ``MonitoredSession`` and its like."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from ps_protocol.errors import OutOfRangeError
from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.keys import GraphKeys
from worker_client.training.monitored import wrapped_sessions
from worker_client.training.monitored.checkpoint_hook import CheckpointSaverHook
from worker_client.training.monitored.coordinator import Coordinator
from worker_client.training.monitored.hook import SessionRunHook
from worker_client.training.monitored.queue_runners import started
from worker_client.training.monitored.scaffold import Scaffold
from worker_client.training.monitored.session_creators import (
    ChiefSessionCreator,
    SessionCreator,
    WorkerSessionCreator,
)
from worker_client.training.monitored.step_hooks import StepCounterHook
from worker_client.training.monitored.summary_hook import SummarySaverHook
from worker_client.training.monitored.wrapped_sessions import (
    CoordinatedSession,
    HookedSession,
    RecoverableSession,
    WrappedSession,
)

_GRACE_S: Final = 120.0
_MAX_WAIT_S: Final = 7200.0
_SUMMARY_STEPS: Final = 100
_CHECKPOINT_S: Final = 600.0


class _Default:
    """Stands for an argument that is not given."""

    def __repr__(self) -> str:
        return "default"


USE_DEFAULT: Final = _Default()
_Every: TypeAlias = float | _Default | None


class _CoordinatedCreator:
    """Makes the layers above a session.

    Attributes:
        coord: The coordinator of the newest session.
        session: The newest session itself.
    """

    def __init__(self, creator: SessionCreator, hooks: Sequence[SessionRunHook], stop_grace_period_secs: float):
        self._creator = creator
        self._hooks = hooks
        self._stop_grace_period_secs = stop_grace_period_secs
        self._numbers = itertools.count(1)
        self.coord: Coordinator | None = None
        self.session: Any = None

    def create_session(self) -> WrappedSession:
        self.session = self._creator.create_session()
        self.coord = Coordinator(clean_stop_exception_types=[])
        started(get_default_graph().get_collection(GraphKeys.QUEUE_RUNNERS), self.session, self.coord)
        for hook in self._hooks:
            hook.after_create_session(self.session, self.coord)
        hooked = HookedSession(self.session, self._hooks, self._numbers)
        return CoordinatedSession(hooked, self.coord, self._stop_grace_period_secs)


class _MonitoredSession:
    """What both kinds have in common. The hooks are begun, the graph is finished, and the session is ready."""

    StepContext = wrapped_sessions.StepContext
    starts_queue_runners: Final = True
    """``start_queue_runners`` has nothing to do with it."""

    def __init__(
        self,
        session_creator: SessionCreator | None,
        hooks: Iterable[SessionRunHook] | None,
        *,
        should_recover: bool,
        stop_grace_period_secs: float,
    ):
        self._graph_in_use = get_default_graph()
        self._was_finalized = self._graph_in_use.finalized
        self._hooks = list(hooks or ())
        for hook in self._hooks:
            hook.begin()
        self._creator = _CoordinatedCreator(
            session_creator or ChiefSessionCreator(), self._hooks, stop_grace_period_secs
        )
        self._session: WrappedSession | None = (
            RecoverableSession(self._creator) if should_recover else self._creator.create_session()
        )

    @property
    def graph(self) -> Any:
        """The graph that is run, None once it is closed."""
        return None if self._creator.session is None else self._creator.session.graph

    def run(
        self,
        fetches: Any,
        feed_dict: Mapping[Any, Any] | None = None,
        options: Any = None,
        run_metadata: Any = None,
    ) -> Any:
        """Runs as ``Session.run``, with what hooks add.

        Raises:
            RuntimeError: The session is closed, ``should_stop()`` is true, or two feed the same tensor.
            ShardscopeError: As ``Session.run``.
        """
        return self._open().run(fetches, feed_dict=feed_dict, options=options, run_metadata=run_metadata)

    def run_step_fn(self, step_fn: Callable[[Any], Any]) -> Any:
        """Calls a function with a ``StepContext``, through which it runs with hooks and without; returns its result.

        Raises:
            ValueError: It has other arguments than ``step_context``.
            StopIteration: It has asked for the end of the loop.
        """
        arguments = tuple(inspect.signature(step_fn).parameters)
        if arguments not in (("step_context",), ("self", "step_context")):
            raise ValueError(
                f"`step_fn` may either have one `step_context` argument, or `self` and `step_context` arguments if "
                f"it's an instance method. Got {arguments} instead."
            )
        return self._open().run_step_fn(step_fn, self._creator.session)

    def should_stop(self) -> bool:
        """Whether the loop should end: a hook has asked for it, a thread has failed, or the session is closed."""
        return self._session is None or self._session.should_stop()

    def close(self) -> None:
        """Calls the hooks' ``end``, waits for threads, and closes the session.

        Raises:
            RuntimeError: It is closed.
            BaseException: What a thread has failed with.
        """
        self._close(is_failed=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        is_over = kind in (OutOfRangeError, StopIteration)  # the input has ended
        self._close(is_failed=kind is not None and not is_over)
        return kind is None or is_over

    def _open(self) -> WrappedSession:
        if self._session is None:
            raise RuntimeError("Session is already closed.")
        return self._session

    def _close(self, *, is_failed: bool) -> None:
        try:
            if not is_failed:
                for hook in self._hooks:
                    hook.end(self._creator.session)
        finally:
            try:
                self._open().close()
            finally:
                self._session = self._creator.session = self._creator.coord = None
                if not self._was_finalized:
                    self._graph_in_use.reopen()


class MonitoredSession(_MonitoredSession):
    """A session that is initialised, calls hooks, and is made anew when a ps task is lost.

    In a ``with`` statement it ends without an error when an ``OutOfRangeError`` or StopIteration ends the block.

    Args:
        session_creator: Makes the session; a ``ChiefSessionCreator`` if not given.
        hooks: Called around each run, in this order.
        stop_grace_period_secs: Time that threads have to end, in seconds.
    """

    def __init__(
        self,
        session_creator: SessionCreator | None = None,
        hooks: Iterable[SessionRunHook] | None = None,
        stop_grace_period_secs: float = _GRACE_S,
    ):
        super().__init__(session_creator, hooks, should_recover=True, stop_grace_period_secs=stop_grace_period_secs)


class SingularMonitoredSession(_MonitoredSession):
    """A session that is initialised and calls hooks, but is not made anew; its session can be had without hooks.

    Args:
        hooks: Called around each run, in this order.
        scaffold: As ``ChiefSessionCreator``'s, like the next four.
        master: See there.
        config: See there.
        checkpoint_dir: See there.
        stop_grace_period_secs: Time that threads have to end, in seconds.
        checkpoint_filename_with_path: As ``ChiefSessionCreator``'s.
    """

    def __init__(
        self,
        hooks: Iterable[SessionRunHook] | None = None,
        scaffold: Scaffold | None = None,
        master: Any = "",
        config: Any = None,
        checkpoint_dir: str | None = None,
        stop_grace_period_secs: float = _GRACE_S,
        checkpoint_filename_with_path: str | None = None,
    ):
        creator = ChiefSessionCreator(scaffold, master, config, checkpoint_dir, checkpoint_filename_with_path)
        super().__init__(creator, hooks, should_recover=False, stop_grace_period_secs=stop_grace_period_secs)

    def raw_session(self) -> Any:
        """The session below, without hooks; None once it is closed."""
        return self._creator.session


def MonitoredTrainingSession(  # noqa: N802 - TensorFlow's name
    master: Any = "",
    is_chief: bool = True,
    checkpoint_dir: str | None = None,
    scaffold: Scaffold | None = None,
    hooks: Iterable[SessionRunHook] | None = None,
    chief_only_hooks: Iterable[SessionRunHook] | None = None,
    save_checkpoint_secs: _Every = USE_DEFAULT,
    save_summaries_steps: _Every = USE_DEFAULT,
    save_summaries_secs: _Every = USE_DEFAULT,
    config: Any = None,
    stop_grace_period_secs: float = _GRACE_S,
    log_step_count_steps: int | None = 100,
    max_wait_secs: float = _MAX_WAIT_S,
    save_checkpoint_steps: _Every = USE_DEFAULT,
    summary_dir: str | None = None,
    save_graph_def: bool = True,
) -> MonitoredSession:
    """Returns a session for a training loop.

    The chief restores the variables from the newest checkpoint, or initialises them if there is none, and saves
    checkpoints; the other workers wait until the variables have values.

    Args:
        master: As ``Session``'s target.
        is_chief: Whether this process is the chief.
        checkpoint_dir: Where checkpoints are; none are saved or restored if not given.
        scaffold: The operations to start with; a default one if not given. It finishes the default graph.
        hooks: Called around each run.
        chief_only_hooks: Of the chief, called before those.
        save_checkpoint_secs: After how many seconds the chief saves a checkpoint; 600 if neither this nor
            ``save_checkpoint_steps`` is given. Where both are None or 0, none is saved.
        save_summaries_steps: After how many global steps the chief writes summaries; 100 if neither this nor the next
            is given.
        save_summaries_secs: After how many seconds.
        config: As ``Session``'s.
        stop_grace_period_secs: Time that threads have to end, in seconds.
        log_step_count_steps: After how many global steps the chief logs and writes how fast it goes.
        max_wait_secs: How long the others wait for the chief, in seconds.
        save_checkpoint_steps: After how many global steps the chief saves a checkpoint.
        summary_dir: Where the chief writes its summaries; in ``checkpoint_dir`` if not given.
        save_graph_def: Ignored: no graph is written but for TensorBoard.

    Raises:
        ValueError: Checkpoints are to be saved both after steps and after seconds.
        NotFoundError: A variable is not in the checkpoint; errors as of ``Saver.restore``.
        DeadlineExceededError: The chief has not initialised everything in time.
    """
    del save_graph_def
    scaffold = scaffold or Scaffold()
    if not is_chief:
        waiting = WorkerSessionCreator(scaffold, master, config, max_wait_secs)
        return MonitoredSession(waiting, hooks, stop_grace_period_secs)
    all_hooks = list(chief_only_hooks or ())
    summary_dir = summary_dir or checkpoint_dir
    if summary_dir:
        if log_step_count_steps and log_step_count_steps > 0:
            all_hooks.append(StepCounterHook(output_dir=summary_dir, every_n_steps=log_step_count_steps))
        steps, seconds = _interval(save_summaries_steps, save_summaries_secs, steps=_SUMMARY_STEPS)
        if steps or seconds:
            all_hooks.append(
                SummarySaverHook(scaffold=scaffold, save_steps=steps, save_secs=seconds, output_dir=summary_dir)
            )
    if checkpoint_dir:
        steps, seconds = _interval(save_checkpoint_steps, save_checkpoint_secs, seconds=_CHECKPOINT_S)
        if steps or seconds:
            all_hooks.append(
                CheckpointSaverHook(checkpoint_dir, save_steps=steps, save_secs=seconds, scaffold=scaffold)
            )
    all_hooks += hooks or ()
    creator = ChiefSessionCreator(scaffold, master, config, checkpoint_dir)
    return MonitoredSession(creator, all_hooks, stop_grace_period_secs)


def _interval(
    given_steps: _Every, given_seconds: _Every, *, steps: int | None = None, seconds: float | None = None
) -> tuple[int | None, float | None]:
    """Returns after how many steps and seconds something is due, each None for not at all.

    Args:
        given_steps: What the caller says; where only one is said, the other is None.
        given_seconds: See there.
        steps: Where neither is said.
        seconds: See there.
    """
    if not isinstance(given_steps, _Default) or not isinstance(given_seconds, _Default):
        steps = None if isinstance(given_steps, _Default) else given_steps  # type: ignore[assignment]
        seconds = None if isinstance(given_seconds, _Default) else given_seconds
    return (int(steps) if steps and steps > 0 else None), (seconds if seconds and seconds > 0 else None)
