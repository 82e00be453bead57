"""The layers of a monitored session: hooks around each run, threads that end with it, a new session after a loss."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from ps_protocol.errors import AbortedError, DeadlineExceededError, ShardscopeError, UnavailableError
from ps_protocol.interrupts import is_interrupt, raise_interrupt
from worker_client.sessions.session import Session
from worker_client.sessions.session_config import RunMetadata, RunOptions
from worker_client.training.monitored.coordinator import Coordinator
from worker_client.training.monitored.hook import (
    SessionRunArgs,
    SessionRunContext,
    SessionRunHook,
    SessionRunValues,
)
from worker_client.training.monitored.log import LOG

_MAX_RECOVERY_S: Final = 7200.0
_PAUSE_S: Final = 0.2


def is_loss(error: BaseException | None) -> bool:
    """Whether an error says that a task is away for now, for longer than the connection waits by itself."""
    while isinstance(error, DeadlineExceededError):  # of waiting for a task
        error = error.last_failure
    return isinstance(error, AbortedError | UnavailableError) and error.retryable and not is_interrupt(error)


class StepContext:
    """What the function of ``run_step_fn`` is given.

    Args:
        session: The session below, without hooks.
        run_with_hooks_fn: Runs with hooks.
    """

    def __init__(self, session: Any, run_with_hooks_fn: Callable[..., Any]):
        self._session = session
        self._run_with_hooks = run_with_hooks_fn

    @property
    def session(self) -> Any:
        """The session below, without hooks."""
        return self._session

    def run_with_hooks(self, *args: Any, **kwargs: Any) -> Any:
        """Does what ``run`` of the monitored session does."""
        return self._run_with_hooks(*args, **kwargs)

    def request_stop(self) -> None:
        """Ends the loop, by raising StopIteration."""
        raise StopIteration("step_fn has requested the iterations to stop.")


class WrappedSession:
    """A layer around a session, which may be None once it is closed.

    Args:
        session: The layer below, or the session itself.
    """

    def __init__(self, session: Any):
        self._session = session

    @property
    def graph(self) -> Any:
        return self._session.graph

    def should_stop(self) -> bool:
        """Whether the loop should end; true of a closed session."""
        if self.check_stop():
            return True
        if self._session is None:
            return True
        return isinstance(self._session, WrappedSession) and self._session.should_stop()

    def check_stop(self) -> bool:
        """Whether this layer says so."""
        return False

    def close(self) -> None:
        """Closes it; that a task is away is only logged."""
        if self._session is None:
            return
        try:
            self._session.close()
        except ShardscopeError as error:
            if not is_loss(error):
                raise
            LOG.error(
                "An error occurred when attempting to close the session. This may be due to a preemption in a "
                "connected worker or parameter server. Error: %s",
                error,
            )
        finally:
            self._session = None

    def run(self, *args: Any, **kwargs: Any) -> Any:
        return self._session.run(*args, **kwargs)

    def run_step_fn(self, step_fn: Callable[[StepContext], Any], raw_session: Any) -> Any:
        """Calls a function with a ``StepContext``."""
        return step_fn(StepContext(raw_session, self.run))


class CreatesSessions(Protocol):
    """Makes the layer below a recoverable session."""

    def create_session(self) -> WrappedSession:
        """Returns a session that is ready to train."""
        ...


class RecoverableSession(WrappedSession):
    """Makes another session when a task is lost, and runs again what has failed.

    A connection waits for ps tasks that are away by itself, and goes on where it was. So this is for those that were
    away for longer than their grace, and for functions and hooks that raise such errors.

    Args:
        creator: Makes the sessions.
    """

    def __init__(self, creator: CreatesSessions):
        self._creator = creator
        super().__init__(None)
        self._session = self._created()

    def check_stop(self) -> bool:
        if self._session is None:
            return True
        try:
            return bool(self._session.check_stop())
        except Exception as error:  # noqa: BLE001 - close() raises it
            raise_interrupt(error)
            if not is_loss(error):
                return True
            self._lose(error, "An error was raised while considering whether the session is complete.")
            self._session = self._created()
            return False

    def run(self, *args: Any, **kwargs: Any) -> Any:
        return self._recovering(lambda: self._session.run(*args, **kwargs))

    def run_step_fn(self, step_fn: Callable[[StepContext], Any], raw_session: Any) -> Any:
        return self._recovering(lambda: self._session.run_step_fn(step_fn, raw_session))

    def _recovering(self, attempt: Callable[[], Any]) -> Any:
        while True:
            if self._session is None:
                self._session = self._created()
            try:
                return attempt()
            except ShardscopeError as error:
                if not is_loss(error):
                    raise
                self._lose(error, "An error was raised.")

    def _lose(self, error: Exception, what: str) -> None:
        LOG.info(
            "%s This may be due to a preemption in a connected worker or parameter server. The current session will be "
            "closed and a new session will be created. Error: %s",
            what,
            error,
        )
        if isinstance(self._session, CoordinatedSession):
            self._session.stop_for(error)
        self.close()

    def _created(self) -> WrappedSession:
        """Makes a session, again while tasks are away, for a bounded time; then raises the last error."""
        start_s = time.monotonic()
        while True:
            try:
                return self._creator.create_session()
            except ShardscopeError as error:
                if not is_loss(error) or time.monotonic() - start_s > _MAX_RECOVERY_S:
                    raise
                LOG.info(
                    "An error was raised while a session was being created. This may be due to a preemption of a "
                    "connected worker or parameter server. A new session will be created. Error: %s",
                    error,
                )
                time.sleep(_PAUSE_S)


class CoordinatedSession(WrappedSession):
    """Stops when its coordinator does, and waits for the threads of that at the end.

    Args:
        session: The layer below.
        coord: The coordinator.
        stop_grace_period_secs: Time that threads have to end, in seconds.
    """

    def __init__(self, session: WrappedSession, coord: Coordinator, stop_grace_period_secs: float = 120):
        super().__init__(session)
        self._coord = coord
        self._stop_grace_period_secs = stop_grace_period_secs

    def check_stop(self) -> bool:
        self._coord.raise_requested_exception()
        return self._coord.should_stop()

    def stop_for(self, error: BaseException) -> None:
        """Tells the threads why they are to stop."""
        self._coord.request_stop(error)

    def close(self) -> None:
        self._coord.request_stop()
        try:
            self._coord.join(stop_grace_period_secs=self._stop_grace_period_secs, ignore_live_threads=True)
        finally:
            super().close()

    def run(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().run(*args, **kwargs)
        except Exception as error:
            try:
                self._coord.raise_requested_exception()
            except Exception as requested:
                if is_loss(requested) and not is_loss(error):
                    raise  # what has failed here follows from that
            raise


class HookedSession(WrappedSession):
    """Calls hooks around each run, with what they want fetched and fed.

    Args:
        session: The session itself.
        hooks: In the order in which they are called.
        numbers: Of the runs, from 1, which the cluster shows as the steps of this task.
    """

    def __init__(self, session: Any, hooks: Sequence[SessionRunHook], numbers: Iterator[int]):
        super().__init__(session)
        self._hooks = hooks
        self._numbers = numbers
        self._stop_requested = False

    def check_stop(self) -> bool:
        return self._stop_requested

    def run(
        self,
        fetches: Any,
        feed_dict: Mapping[Any, Any] | None = None,
        options: Any = None,
        run_metadata: Any = None,
    ) -> Any:
        """Runs.

        Raises:
            RuntimeError: The loop should have ended, or two feed the same tensor.
            ShardscopeError: As ``Session.run``.
        """
        if self.should_stop():
            raise RuntimeError("Run called even after should_stop requested.")
        context = SessionRunContext(SessionRunArgs(fetches, feed_dict), self._session)
        options, run_metadata = options or RunOptions(), run_metadata or RunMetadata()
        wanted: list[Any] = [fetches]
        positions: dict[int, int] = {}
        hook_feeds: dict[Any, Any] = {}
        for number, hook in enumerate(self._hooks):
            request = hook.before_run(context)
            if request is None:
                continue
            if request.fetches is not None:
                positions[number] = len(wanted)
                wanted.append(request.fetches)
            if request.feed_dict:
                _check_disjoint(hook_feeds, request.feed_dict, "Same tensor is fed by two hooks.")
                hook_feeds.update(request.feed_dict)
            if request.options:
                _merge_options(options, request.options)
        if feed_dict:
            _check_disjoint(feed_dict, hook_feeds, "Same tensor is fed by a SessionRunHook and user.")
        results = super().run(
            wanted, feed_dict={**hook_feeds, **(feed_dict or {})}, options=options, run_metadata=run_metadata
        )
        if isinstance(self._session, Session):
            self._session.report_step(next(self._numbers))
        for number, hook in enumerate(self._hooks):
            own = results[positions[number]] if number in positions else None
            hook.after_run(context, SessionRunValues(own, options, run_metadata))
        self._stop_requested = self._stop_requested or context.stop_requested
        return results[0]


def _check_disjoint(one: Iterable[Any], other: Iterable[Any], message: str) -> None:
    both = set(one) & set(other)
    if both:
        raise RuntimeError(f"{message} Conflict(s): {list(both)}")


def _merge_options(options: Any, more: Any) -> None:
    for name in ("trace_level", "timeout_in_ms", "inter_op_thread_pool", "output_partition_graphs"):
        setattr(options, name, max(getattr(options, name), getattr(more, name)))
