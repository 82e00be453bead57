"""One thread waits, another wakes it: cheaper than a condition where many wait, since each wakes up once, for itself.

A thread that is woken from a ``threading.Condition`` waits again for its lock. The thread that wakes it still holds
that lock, and all other waiters want it too: with eight waiters, most of a wait is spent on that.
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
        """Lets the waiter go on, also if it comes later; called once."""
        self._asleep.release()

    def wait(self, timeout_s: float) -> bool:
        """Returns whether it was set in time; called by the waiter alone."""
        return self._asleep.acquire(timeout=min(max(timeout_s, 0.0), threading.TIMEOUT_MAX))
