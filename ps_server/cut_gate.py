"""Lets changes pass side by side, and now and then holds them back for a moment, so that the state can be cut."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ps_protocol.errors import DeadlineExceededError, UnavailableError


class CutGate:
    """A lock shared by all who change the state and held alone by who takes an image of it. Thread-safe.

    Whoever waits for a cut comes before those who want to pass, so that a stream of changes cannot keep it waiting; a
    cut takes microseconds. A change that has passed may wait for another one that has passed, never for one that has
    not, or a cut that waits between them would hold up both.
    """

    def __init__(self) -> None:
        # guards: all below; no other lock is taken under it
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._inside = 0
        self._cutting = False

    @contextmanager
    def passed(self, timeout_s: float) -> Iterator[None]:
        """Held by a change from its first effect until the ledger knows its answer.

        Raises:
            UnavailableError: A cut was not over in time; nothing was applied.
        """
        with self._lock:
            if self._cutting and not self._changed.wait_for(lambda: not self._cutting, timeout_s):
                raise UnavailableError(
                    f"an image of the state was still being taken after {timeout_s:.1f} s; nothing was applied, try "
                    f"again"
                )
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._cutting:
                    self._changed.notify_all()

    @contextmanager
    def cut(self, timeout_s: float) -> Iterator[None]:
        """Held by who takes an image, while no change is inside.

        Raises:
            DeadlineExceededError: The changes that were inside did not end in time, or another cut did not.
        """
        with self._lock:
            if not self._changed.wait_for(lambda: not self._cutting, timeout_s):
                raise DeadlineExceededError(f"another image of the state was still being taken after {timeout_s:.1f} s")
            self._cutting = True
            if not self._changed.wait_for(lambda: not self._inside, timeout_s):
                self._cutting = False
                self._changed.notify_all()
                raise DeadlineExceededError(
                    f"{self._inside} changes were still being applied after {timeout_s:.1f} s; the image of the state "
                    f"is taken later"
                )
        try:
            yield
        finally:
            with self._lock:
                self._cutting = False
                self._changed.notify_all()
