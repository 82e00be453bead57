"""The futures of operations that are not waited for, and small combinations of them."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any, Final, TypeVar

from ps_protocol.errors import ShardscopeError
from ps_protocol.interrupts import LINGER_S, is_interrupt
from ps_protocol.not_copied import NotCopied
from worker_client.connection.forgotten_failures import FORGOTTEN

_LOG = logging.getLogger(__name__)

_T = TypeVar("_T")
_U = TypeVar("_U")

_RUNNING: Final = "RUNNING"
_FINISHED: Final = "FINISHED"
_CONDITION_S: Final = 1.0
"""Longest to wait for the lock of ``concurrent.futures.wait``, which an interrupted program may have left taken."""


class _Untold:
    """A failure that nobody has asked for; told when it is dropped so.

    Only a failed future has one: what has a ``__del__`` may swallow an interrupt.
    """

    __slots__ = ("_error", "_names", "is_told")

    def __init__(self, error: BaseException, names: Sequence[str]):
        self._error, self._names = error, names
        self.is_told = False

    def __del__(self) -> None:
        if not self.is_told:
            FORGOTTEN.add(self._error, self._names)


class OperationFuture(
    NotCopied, Future[_T], bound_to="a connection of this process", instead="wait for it here and pass on its result()"
):
    """The outcome of operations that are on their way or queued. It cannot be cancelled. Thread-safe.

    Waiting for it, asking it and settling it take no lock: an interrupted waiter leaves nothing behind that whoever
    settles it could wait for. It is settled once, and whoever settles it does not wait for those who wait.

    If they fail and it is dropped before anyone has asked for its outcome, the failure is logged.

    Attributes:
        names: Full names of the variables that they are about.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = names
        self._untold: _Untold | None = None
        # Without that of the base, which makes a condition: only the functions of `concurrent.futures` need one.
        self._state: str = _RUNNING
        self._result: Any = None
        self._exception: BaseException | None = None
        self._waiters: list[Any] = []  # of the functions of `concurrent.futures`, guarded by _condition
        self._once = threading.Lock()  # taken by whoever settles it, for good
        self._sleepers: deque[threading.Lock] = deque()  # each is freed when it is settled
        self._done_callbacks: deque[Callable[[Future[_T]], object]] = deque()

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override] # the base has a field
        """What ``concurrent.futures.wait`` and ``as_completed`` use; made for them."""
        condition: threading.Condition = self.__dict__.setdefault("_own_condition", threading.Condition())
        return condition

    # -- waiting ------------------------------------------------------------------------------

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until it is done, or for so many seconds; returns whether it is."""
        if self._state is _FINISHED:
            return True
        sleeper = threading.Lock()
        sleeper.acquire()
        self._sleepers.append(sleeper)
        if self._state is not _FINISHED:
            sleeper.acquire(timeout=-1 if timeout_s is None else min(max(0.0, timeout_s), threading.TIMEOUT_MAX))
            if self._state is not _FINISHED:
                self._forget(sleeper)
        return self._state is _FINISHED

    def _forget(self, sleeper: threading.Lock) -> None:
        try:
            self._sleepers.remove(sleeper)
        except ValueError:
            return  # it was just settled

    def result(self, timeout: float | None = None) -> _T:
        """Waits for the outcome and returns it, or raises its error.

        Raises:
            TimeoutError: There was none in time.
        """
        error = self.exception(timeout)
        if error is None:
            outcome: _T = self._result
            return outcome
        try:
            raise error
        finally:
            del self, error  # a traceback that refers to its own error is not freed before the next collection

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Waits for the outcome and returns its error, None if it has succeeded; TimeoutError as of ``result``."""
        if not self.wait(timeout):
            raise TimeoutError(f"the outcome was not there within {timeout} s")
        self.pass_on()
        return self._exception

    def pass_on(self) -> None:
        """Takes note that a failure is told by whoever has asked, or will be."""
        if self._untold is not None:
            self._untold.is_told = True

    def let_go(self) -> None:
        """Has a failure told to nobody: whoever has sent it can do without it."""
        self.add_done_callback(lambda _settled: self.pass_on())

    def done(self) -> bool:
        return self._state is _FINISHED

    def running(self) -> bool:
        return self._state is not _FINISHED

    def cancel(self) -> bool:
        """Returns False: what it stands for may be on its way."""
        return False

    def cancelled(self) -> bool:
        return False

    def set_running_or_notify_cancel(self) -> bool:
        return True

    # -- settling -----------------------------------------------------------------------------

    def set_result(self, result: _T) -> None:
        self._settle(result, None)

    def set_exception(self, exception: BaseException | None) -> None:
        self._settle(None, exception)

    def _settle(self, result: _T | None, error: BaseException | None) -> None:
        if not self._once.acquire(blocking=False):
            raise InvalidStateError(f"it is settled already: {self!r}")
        self._result, self._exception = result, error
        if error is not None:
            self._untold = _Untold(error, self.names)
        self._state = _FINISHED
        while (sleeper := _taken(self._sleepers)) is not None:
            sleeper.release()
        condition: threading.Condition | None = self.__dict__.get("_own_condition")
        if condition is not None:
            self._tell_waiters(condition)
        self._call_back()

    def _tell_waiters(self, condition: threading.Condition) -> None:
        has_lock = condition.acquire(timeout=_CONDITION_S)
        try:
            for waiter in self._waiters:
                if self._exception is None:
                    waiter.add_result(self)
                else:
                    waiter.add_exception(self)
        finally:
            if has_lock:
                condition.release()

    def add_done_callback(self, fn: Callable[[Future[_T]], object]) -> None:
        """Has a function called when it is done: on the thread that settles it, or at once if it is settled."""
        self._done_callbacks.append(fn)
        if self._state is _FINISHED:
            self._call_back()

    def _call_back(self) -> None:
        """Calls those that were not called yet; each is taken by one thread."""
        while (callback := _taken(self._done_callbacks)) is not None:
            try:
                callback(self)
            except Exception as error:
                if is_interrupt(error):
                    raise
                _LOG.exception("a callback of %r has failed", self)

    def become_copy(self, error: BaseException) -> None:
        """In a forked child: has failed, and so have those that depend on it; other callbacks are the parent's."""
        self.__dict__.pop("_own_condition", None)  # a thread that is not there may hold the parent's
        dependent = [each.outcome for each in self._done_callbacks if isinstance(each, _Dependency)]
        self._done_callbacks.clear()
        if self._state is not _FINISHED:
            self._once = threading.Lock()
            self.set_exception(error)
            self.pass_on()
        for each in dependent:
            each.become_copy(error)


def _taken(waiting: deque[_U]) -> _U | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


def linger(error: BaseException, future: OperationFuture[Any] | None) -> None:
    """If an interrupt has ended the wait for a future, waits on for a moment, since the caller's arrays are in use.

    Args:
        error: What has ended it.
        future: What was waited for; None if it was not made yet.
    """
    if future is not None and is_interrupt(error):
        future.wait(LINGER_S)


def failed(error: BaseException) -> OperationFuture[Any]:
    """Returns a future that has failed."""
    future: OperationFuture[Any] = OperationFuture()
    future.set_exception(error)
    return future


def mapped(
    future: Future[_T], function: Callable[[_T], _U], on_failure: Callable[[], object] | None = None
) -> OperationFuture[_U]:
    """Returns a future of ``function(result)``; an error of either is its error. It cannot be cancelled.

    Args:
        future: Of the result.
        function: What is done with it.
        on_failure: Called when ``future`` has failed, before the outcome is done.
    """
    outcome: OperationFuture[_U] = OperationFuture(_names_of(future))

    def finish(done: Future[_T]) -> None:
        try:
            if on_failure is not None and (done.cancelled() or done.exception() is not None):
                on_failure()
            result = function(done.result())
        except BaseException as error:
            if is_interrupt(error):
                raise
            outcome.set_exception(_kept(error))
        else:
            outcome.set_result(result)

    future.add_done_callback(_Dependency(outcome, finish))
    return outcome


def gathered(futures: Sequence[Future[_T]]) -> OperationFuture[list[_T]]:
    """Returns a future of all results, done when the last one is; the first future that failed gives its error.

    It cannot be cancelled.
    """
    outcome: OperationFuture[list[_T]] = OperationFuture([name for each in futures for name in _names_of(each)])
    if not futures:
        outcome.set_result([])
        return outcome
    lock = threading.Lock()  # guards: missing
    missing = len(futures)
    waiting = list(futures)

    def finish(_: Future[_T]) -> None:
        nonlocal missing
        with lock:
            missing -= 1
            if missing:
                return
        # A future keeps its callbacks: one that kept the futures would keep their results until garbage is collected.
        done = waiting.copy()
        waiting.clear()
        try:
            results = [each.result() for each in done]
        except BaseException as error:
            if is_interrupt(error):
                raise
            outcome.set_exception(_kept(error))
            for each in done:
                if isinstance(each, OperationFuture):
                    each.pass_on()
        else:
            outcome.set_result(results)

    for future in futures:
        future.add_done_callback(_Dependency(outcome, finish))
    return outcome


def _names_of(future: Future[Any]) -> Sequence[str]:
    return future.names if isinstance(future, OperationFuture) else ()


def _kept(error: BaseException) -> BaseException:
    """Returns an error as a future keeps it: the frames of a traceback would keep the future alive in their turn.

    An error of ours says all by itself; any other is a defect, and its traceback is needed.
    """
    return error.with_traceback(None) if isinstance(error, ShardscopeError) else error


class _Dependency:
    """A callback that gives another future its outcome."""

    __slots__ = ("_finish", "outcome")

    def __init__(self, outcome: OperationFuture[Any], finish: Callable[[Future[Any]], None]):
        self.outcome = outcome
        self._finish = finish

    def __call__(self, done: Future[Any]) -> None:
        self._finish(done)
