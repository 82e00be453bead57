"""Lets one thread at a time create what has a name, while the others wait for the outcome."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ps_protocol.errors import DeadlineExceededError
from ps_protocol.forks import new_lock, tell_in_child

_WAIT_S = 300.0  # above what declaring a variable on a ps may take, with its retries


class NameClaims:
    """The names that are being created. Thread-safe.

    Args:
        wait_s: Bound on waiting for another thread, in seconds.
    """

    def __init__(self, wait_s: float = _WAIT_S) -> None:
        self._wait_s = wait_s
        self._changed = threading.Condition(new_lock())  # guards: _threads
        self._threads: dict[str, int] = {}
        tell_in_child(self)

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Claims a name inside the block, after any other thread that has; a thread may claim a name twice.

        Raises:
            DeadlineExceededError: Another thread has not finished in time.
        """
        is_outer = self._claim(name)
        try:
            yield
        finally:
            if is_outer:
                self._release(name)

    def become_copy(self) -> None:
        """In a forked child: drops the claims of threads that are not there."""
        this_thread = threading.get_ident()
        self._threads = {name: thread for name, thread in self._threads.items() if thread == this_thread}

    def _claim(self, name: str) -> bool:
        """Returns whether the claim is new, rather than one inside another of this thread."""
        this_thread = threading.get_ident()
        with self._changed:
            holder = self._threads.get(name)
            if holder == this_thread:
                return False
            if holder is not None and not self._changed.wait_for(lambda: name not in self._threads, self._wait_s):
                raise DeadlineExceededError(
                    f"variable {name}: waited {self._wait_s:g} s for another thread that is creating it; "
                    f"see whether its initializer waits for this thread",
                    variable=name,
                )
            self._threads[name] = this_thread
            return True

    def _release(self, name: str) -> None:
        with self._changed:
            del self._threads[name]
            self._changed.notify_all()
