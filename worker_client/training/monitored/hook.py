"""What a hook is: something that a monitored session calls around each of its runs, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class SessionRunArgs(NamedTuple):
    """What a hook adds to a run.

    Attributes:
        fetches: What is to be run as well, as for ``Session.run``.
        feed_dict: Values to be fed as well.
        options: ``RunOptions``.
    """

    fetches: Any
    feed_dict: Mapping[Any, Any] | None = None
    options: Any = None


class SessionRunValues(NamedTuple):
    """What came of a run.

    Attributes:
        results: Values for the hook's fetches, in their structure; None if it had none.
        options: ``RunOptions`` of the run.
        run_metadata: ``RunMetadata`` of the run.
    """

    results: Any
    options: Any
    run_metadata: Any


class SessionRunContext:
    """One run, as a hook sees it.

    Args:
        original_args: What the program asked for, as ``SessionRunArgs``.
        session: The session below, without hooks.
    """

    def __init__(self, original_args: SessionRunArgs, session: Any):
        self._original_args = original_args
        self._session = session
        self._stop_requested = False

    @property
    def original_args(self) -> SessionRunArgs:
        """What the program asked for."""
        return self._original_args

    @property
    def session(self) -> Any:
        """The session below, without hooks."""
        return self._session

    @property
    def stop_requested(self) -> bool:
        """Whether a hook has asked for the end of the loop."""
        return self._stop_requested

    def request_stop(self) -> None:
        """Makes ``should_stop()`` of the monitored session true."""
        self._stop_requested = True


class SessionRunHook:
    """Base of hooks; each of its methods does nothing."""

    def begin(self) -> None:
        """Called once, while the graph can still be added to."""

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Called with each session that is made, initialised and ready; the graph is finished.

        Args:
            session: The new session.
            coord: A ``Coordinator`` of all threads.
        """

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs | None:
        """Called before each run; returns what is to be run and fed as well, None for nothing."""
        del run_context
        return None

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        """Called after each run that has not failed."""

    def end(self, session: Any) -> None:
        """Called once at the end, unless an exception has ended the loop.

        Args:
            session: Can still be used.
        """
