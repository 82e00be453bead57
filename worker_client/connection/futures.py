"""Small combinations of ``concurrent.futures.Future``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

_T = TypeVar("_T")
_U = TypeVar("_U")


def begun() -> Future[_T]:
    """Returns a future that cannot be cancelled: its operation may be on its way."""
    future: Future[_T] = Future()
    future.set_running_or_notify_cancel()
    return future


def failed(error: BaseException) -> Future[Any]:
    """Returns a future that has failed."""
    future: Future[Any] = begun()
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
    outcome: Future[_U] = begun()

    def finish(done: Future[_T]) -> None:
        try:
            if on_failure is not None and (done.cancelled() or done.exception() is not None):
                on_failure()
            outcome.set_result(function(done.result()))
        except BaseException as error:  # noqa: BLE001 - the outcome carries it
            outcome.set_exception(error)

    future.add_done_callback(finish)
    return outcome


def gathered(futures: Sequence[Future[_T]]) -> Future[list[_T]]:
    """Returns a future of all results, done when the last one is; the first future that failed gives its error.

    It cannot be cancelled.
    """
    outcome: Future[list[_T]] = begun()
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
            outcome.set_exception(error)

    for future in futures:
        future.add_done_callback(finish)
    return outcome
