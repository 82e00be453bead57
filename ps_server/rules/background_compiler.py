"""Compiles kernels in the background: nothing waits for the compiler, and NumPy does the work until they are there."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_LOG = logging.getLogger(__name__)


class BackgroundCompiler(Generic[Key]):
    """Gets kernels in the background. Thread-safe.

    Args:
        compiled: Compiles the kernel of a key; may take its time, and may fail.
        label: What log messages call it.
    """

    def __init__(self, compiled: Callable[[Key], Any], label: Callable[[Key], str]):
        self._compile_one, self._label = compiled, label
        # guards: _wanted, _thread, and changes of _kernels. A look into _kernels is atomic and done without it.
        self._lock = threading.Lock()
        self._kernels: dict[Key, Any] = {}
        self._wanted: list[Key] = []  # each of the few kernels there are at most once
        self._thread: threading.Thread | None = None

    def get(self, key: Key) -> Any:
        """Returns the kernel if it is ready; otherwise asks for it in the background and returns None."""
        try:
            return self._kernels[key]
        except KeyError:
            self._want(key)
            return None

    def wait(self, timeout_s: float) -> bool:
        """Waits until what was asked for is ready or has failed; returns whether that was in time."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return thread is None or not thread.is_alive()

    def _want(self, key: Key) -> None:
        with self._lock:
            if key in self._kernels:
                return
            self._kernels[key] = None
            self._wanted.append(key)
            if self._thread is None:
                # Not a daemon: the interpreter must not end in the middle of the compiler's C++.
                thread = threading.Thread(target=self._compile, name="kernels")
                try:
                    thread.start()
                except RuntimeError as error:  # the system has no thread left; the next kernel asked for tries again
                    _LOG.warning("nothing compiles kernels for now, NumPy does their work: %s", error)
                    return
                self._thread = thread

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
            except Exception as error:  # noqa: BLE001 - NumPy can do the work
                _LOG.warning("no compiled %s, NumPy does it: %r", label, error)
                continue
            with self._lock:
                self._kernels[key] = kernel
            _LOG.info("%s ready in %.2f s", label, time.monotonic() - started_s)
