"""The futures of operations that are not waited for, and small combinations of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from ps_protocol.errors import ShardscopeError
from ps_protocol.not_copied import NotCopied
from worker_client.connection.forgotten_failures import FORGOTTEN

_T = TypeVar("_T")
_U = TypeVar("_U")


class OperationFuture(
    NotCopied, Future[_T], bound_to="a connection of this process", instead="wait for it here and pass on its result()"
):
    """The outcome of operations that are on their way or queued. It cannot be cancelled. Thread-safe.

    If they fail and it is dropped before anyone has asked for its outcome, the failure is logged.

    Attributes:
        names: Full names of the variables that they are about.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        super().__init__()
        self.names = names
        self._is_asked = False
        self.set_running_or_notify_cancel()

    def result(self, timeout: float | None = None) -> _T:
        try:
            return super().result(timeout)
        finally:
            self._is_asked = self._is_asked or self.done()
            del self  # which an error would keep, by the frames of its traceback

    def exception(self, timeout: float | None = None) -> BaseException | None:
        error = super().exception(timeout)
        self._is_asked = True
        return error

    def pass_on(self) -> None:
        """Leaves what has become of the operations to another future."""
        self._is_asked = True

    def __del__(self) -> None:
        if self._exception is not None and not self._is_asked:
            FORGOTTEN.add(self._exception, self.names)

    def become_copy(self, error: BaseException) -> None:
        """In a forked child: has failed, and so have those that depend on it; other callbacks are the parent's."""
        self.pass_on()
        self._condition = threading.Condition()  # a thread that is not there may hold the parent's
        callbacks: list[Any] = self._done_callbacks  # type: ignore[attr-defined] # which Future has
        dependent = [each.outcome for each in callbacks if isinstance(each, _Dependency)]
        callbacks.clear()
        if not self.done():
            self.set_exception(error)
        for each in dependent:
            each.become_copy(error)


def failed(error: BaseException) -> Future[Any]:
    """Returns a future that has failed."""
    future: Future[Any] = OperationFuture()
    future.set_exception(error)
    return future


def mapped(
    future: Future[_T], function: Callable[[_T], _U], on_failure: Callable[[], object] | None = None
) -> Future[_U]:
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
            outcome.set_result(function(done.result()))
        except BaseException as error:  # noqa: BLE001 - the outcome carries it
            outcome.set_exception(_kept(error))

    future.add_done_callback(_Dependency(outcome, finish))
    return outcome


def gathered(futures: Sequence[Future[_T]]) -> Future[list[_T]]:
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
            outcome.set_result([each.result() for each in done])
        except BaseException as error:  # noqa: BLE001 - the outcome carries it
            outcome.set_exception(_kept(error))
            for each in done:
                if isinstance(each, OperationFuture):
                    each.pass_on()

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
