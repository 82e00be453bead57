"""One thread waits, another wakes it. Where many wait, this is cheaper than a condition.

A thread that is woken from a ``threading.Condition`` waits again, for the condition's lock. The thread that wakes it
still holds that lock, and all other waiters want it too: with eight waiters, that is most of the wait.
"""

from __future__ import annotations

import threading


class OneShotEvent:
    """A ``threading.Event`` for one waiter and one call of ``set``. Thread-safe."""

    __slots__ = ("_asleep",)

    def __init__(self) -> None:
        self._asleep = threading.Lock()  # guards: nothing; it is held until the waiter may go on
        self._asleep.acquire()

    def set(self) -> None:
        """Wakes the waiter, also one that begins to wait later; called once."""
        self._asleep.release()

    def wait(self, timeout_s: float) -> bool:
        """Returns whether it was set in time; called by the waiter alone."""
        return self._asleep.acquire(timeout=min(max(timeout_s, 0.0), threading.TIMEOUT_MAX))
