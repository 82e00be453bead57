"""Ends a set of threads together: when one asks for it, or fails."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, TypeAlias

from ps_protocol.errors import OutOfRangeError
from ps_protocol.forks import new_lock
from worker_client.training.monitored.log import LOG

ExceptionInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_LOOK_S: Final = 0.05
"""How often ``join`` looks whether a stop was requested while the threads still work."""


class Coordinator:
    """Says when threads should stop, and passes on why. Thread-safe.

    Args:
        clean_stop_exception_types: Exceptions that stop the threads but are no failure; ``OutOfRangeError`` if not
            given.
    """

    def __init__(self, clean_stop_exception_types: Iterable[type[BaseException]] | None = None):
        self._clean = tuple((OutOfRangeError,) if clean_stop_exception_types is None else clean_stop_exception_types)
        self._stop = threading.Event()
        self._lock = new_lock()  # guards: _failure, _joined, _threads
        self._failure: BaseException | None = None
        self._joined = False
        self._threads: set[threading.Thread] = set()

    def request_stop(self, ex: BaseException | ExceptionInfo | None = None) -> None:
        """Asks all threads to stop.

        Args:
            ex: Why, if it is a failure: an exception, or what ``sys.exc_info()`` returns. ``join`` raises the first.

        Raises:
            BaseException: ``ex``, if the threads have been joined already.
        """
        error = ex[1] if isinstance(ex, tuple) else ex
        if isinstance(error, self._clean):
            error = None
        with self._lock:
            if self._joined and error is not None:
                raise error
            if self._stop.is_set():
                return
            if error is not None:
                what = f"{error}" if isinstance(ex, tuple) else f"{type(error)}, {error}"
                LOG.info("Error reported to Coordinator: %s", what, exc_info=error)
                self._failure = error
            self._stop.set()

    def clear_stop(self) -> None:
        """Forgets that a stop was requested, and why."""
        with self._lock:
            self._joined, self._failure = False, None
            self._stop.clear()

    def should_stop(self) -> bool:
        """Whether a stop was requested."""
        return self._stop.is_set()

    @contextlib.contextmanager
    def stop_on_exception(self) -> Iterator[None]:
        """Requests a stop if the block raises an exception, which goes no further."""
        try:
            yield
        except BaseException:  # noqa: BLE001 - join() raises it again
            self.request_stop(sys.exc_info())

    def wait_for_stop(self, timeout: float | None = None) -> bool:
        """Waits until a stop is requested; returns whether it was.

        Args:
            timeout: Bound on waiting, in seconds; none if not given.
        """
        return self._stop.wait(timeout)

    def register_thread(self, thread: threading.Thread) -> None:
        """Has ``join`` wait for a thread."""
        with self._lock:
            self._threads.add(thread)

    def join(
        self,
        threads: Iterable[threading.Thread] | None = None,
        stop_grace_period_secs: float = 120,
        ignore_live_threads: bool = False,
    ) -> None:
        """Waits until threads have ended: for as long as they work, and after a request to stop for a bounded time.

        Args:
            threads: Those to wait for, besides those that are registered.
            stop_grace_period_secs: Time that they have to end after a stop was requested, in seconds.
            ignore_live_threads: Whether those that live on are only logged.

        Raises:
            BaseException: What was given to ``request_stop``.
            RuntimeError: Threads live on; the message names them.
        """
        with self._lock:
            waited_for = list(self._threads.union(threads or ()))
        while not self.should_stop() and (working := _living(waited_for)):
            working[0].join(_LOOK_S)
        deadline_s = time.monotonic() + stop_grace_period_secs
        for thread in _living(waited_for):
            thread.join(max(0.0, deadline_s - time.monotonic()))
        left = " ".join(sorted(thread.name for thread in _living(waited_for)))
        with self._lock:
            self._joined, self._threads = True, set()
            failure = self._failure
        if failure is not None:
            raise failure
        if left and not ignore_live_threads:
            raise RuntimeError(
                f"Coordinator stopped with threads still running: {left}; they had {stop_grace_period_secs} s to "
                f"notice that should_stop() is true"
            )
        if left:
            LOG.info("Coordinator stopped with threads still running: %s", left)

    @property
    def failure(self) -> BaseException | None:
        """What was given to ``request_stop``, if anything was."""
        return self._failure

    @property
    def joined(self) -> bool:
        """Whether ``join`` has ended."""
        return self._joined

    def raise_requested_exception(self) -> None:
        """Raises what was given to ``request_stop``, if anything was."""
        if self._failure is not None:
            raise self._failure


def _living(threads: Sequence[threading.Thread]) -> list[threading.Thread]:
    """Those that have been started and have not ended, apart from the calling one, which cannot wait for itself."""
    return [thread for thread in threads if thread.is_alive() and thread is not threading.current_thread()]


class LooperThread(threading.Thread):
    """A thread that does something over and over until its coordinator says stop.

    Args:
        coord: The coordinator, which is told if the function fails, and waits for the thread.
        timer_interval_secs: Time between the beginnings of two calls, in seconds; None to call at once again.
        target: What it does; ``run_loop`` can be overridden instead.
        args: Arguments for it.
        kwargs: Keyword arguments for it.

    Raises:
        ValueError: ``coord`` is no coordinator, or there are arguments but no target.
    """

    def __init__(
        self,
        coord: Coordinator,
        timer_interval_secs: float | None,
        target: Callable[..., Any] | None = None,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ):
        if not isinstance(coord, Coordinator):
            raise ValueError(f"'coord' argument must be a Coordinator: {coord!r}")  # noqa: TRY004 - as TensorFlow does
        if not target and (args or kwargs):
            raise ValueError("'args' and 'kwargs' argument require that you also pass 'target'")
        super().__init__(daemon=True)
        self._coord = coord
        self._timer_interval_secs = timer_interval_secs
        self._function = target
        self._arguments = tuple(args or ())
        self._keywords = dict(kwargs or {})
        coord.register_thread(self)

    @staticmethod
    def loop(
        coord: Coordinator,
        timer_interval_secs: float | None,
        target: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> LooperThread:
        """Starts such a thread, and returns it."""
        looper = LooperThread(coord, timer_interval_secs, target, args, kwargs)
        looper.start()
        return looper

    def run(self) -> None:
        with self._coord.stop_on_exception():
            self.start_loop()
            if self._timer_interval_secs is None:
                while not self._coord.should_stop():
                    self.run_loop()
            else:
                next_s = time.monotonic()
                while not self._coord.wait_for_stop(max(0.0, next_s - time.monotonic())):
                    next_s += self._timer_interval_secs
                    self.run_loop()
            self.stop_loop()

    def start_loop(self) -> None:
        """Called once at the beginning."""

    def stop_loop(self) -> None:
        """Called once at the end, unless something has failed."""

    def run_loop(self) -> None:
        """Called over and over; calls the target if there is one."""
        if self._function:
            self._function(*self._arguments, **self._keywords)
