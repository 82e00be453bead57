"""Compiles kernels in the background: nothing waits for the compiler, and NumPy does the work until they are there.

A kernel that cannot be compiled for want of memory, descriptors or threads is tried again; one that has another fault
is left to NumPy.
"""

from __future__ import annotations

import errno
import logging
import math
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Final, Generic, TypeVar

from ps_server.background.loops import OF_PROCESS, Failures

Key = TypeVar("Key", bound=Hashable)

_PASSING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EAGAIN})
_RETRY_S: Final = 10.0
"""After how long a kernel is tried again that could not be compiled for want of memory, descriptors or threads."""

_LOG = logging.getLogger(__name__)


class BackgroundCompiler(Generic[Key]):
    """Gets kernels in the background. Thread-safe.

    Args:
        compiled: Compiles the kernel of a key; may take its time, and may fail.
        label: What log messages call it.
        clock: Monotonic seconds.
        when_idle: Called in its thread, at the end of that: nothing is left to compile.
    """

    def __init__(
        self,
        compiled: Callable[[Key], Any],
        label: Callable[[Key], str],
        clock: Callable[[], float] = time.monotonic,
        *,
        when_idle: Callable[[], None] | None = None,
    ):
        self._when_idle = when_idle
        self._compile_one, self._label = compiled, label
        self._clock = clock
        # guards: _wanted, _again, _thread, and changes of _kernels. A look into a table is atomic and done without it.
        self._lock = threading.Lock()
        self._kernels: dict[Key, Any] = {}
        self._wanted: list[Key] = []  # each of the few kernels there are at most once
        self._again: dict[Key, float] = {}  # those that failed for want of something, and when to try again
        self._failures = Failures("compiling kernels", OF_PROCESS, first_retry_s=_RETRY_S, most_retry_s=60 * _RETRY_S)
        self._thread: threading.Thread | None = None

    def get(self, key: Key) -> Any:
        """Returns the kernel if it is ready; otherwise asks for it in the background and returns None."""
        try:
            kernel = self._kernels[key]
        except KeyError:
            self._want(key)
            return None
        if kernel is None and self._again and self._clock() >= self._again.get(key, math.inf):
            self._want(key)
        return kernel

    def wait(self, timeout_s: float) -> bool:
        """Waits until what was asked for is ready or has failed; returns whether that was in time."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return thread is None or not thread.is_alive()

    def _want(self, key: Key) -> None:
        with self._lock:
            if key in self._kernels and self._again.pop(key, None) is None:
                return
            self._kernels[key] = None
            if key not in self._wanted:
                self._wanted.append(key)
            if self._thread is None or not self._thread.is_alive():
                # Not a daemon: the interpreter must not end in the middle of the compiler's C++.
                thread = threading.Thread(target=self._work, name="kernels")
                try:
                    thread.start()
                except (RuntimeError, MemoryError) as error:  # the system has no thread left
                    self._again[key] = self._clock() + self._failures.note(error)
                    return
                self._thread = thread

    def _work(self) -> None:
        self._compile()
        if self._when_idle is not None:
            self._when_idle()

    def _compile(self) -> None:
        while True:
            with self._lock:
                if not self._wanted:
                    self._thread = None
                    return
                key = self._wanted.pop()
            label = self._label(key)
            started_s = time.monotonic()
            try:
                kernel = self._compile_one(key)
            except BaseException as error:  # noqa: BLE001 - NumPy can do the work
                if isinstance(error, MemoryError) or getattr(error, "errno", None) in _PASSING:
                    with self._lock:
                        self._again[key] = self._clock() + self._failures.note(error)
                    continue
                _LOG.warning("no compiled %s, NumPy does it: %r", label, error)
                continue
            with self._lock:
                self._kernels[key] = kernel
            self._failures.clear()
            _LOG.info("%s ready in %.2f s", label, time.monotonic() - started_s)
