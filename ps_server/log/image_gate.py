"""Lets changes go on side by side, and holds them back while an image of the state is taken."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ps_protocol.errors import DeadlineExceededError, UnavailableError


class ImageGate:
    """A lock shared by all changes of the state and held alone by an image of it. Thread-safe.

    An image that waits comes before the changes that wait, so that a stream of changes cannot hold it up. Taking one
    lasts microseconds. A change inside may wait for another change inside, never for one outside: an image that waits
    would block both.
    """

    def __init__(self) -> None:
        # guards: all below; no other lock is taken under it
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._inside = 0
        self._imaging = False

    def change(self, timeout_s: float) -> _Change:
        """Returns a context held by a change from its first effect until the ledger knows its answer.

        Raises:
            UnavailableError: When it is entered: an image was not done in time; nothing was applied.
        """
        return _Change(self, timeout_s)

    def _enter(self, timeout_s: float) -> None:
        with self._lock:
            if self._imaging and not self._changed.wait_for(lambda: not self._imaging, timeout_s):
                raise UnavailableError(
                    f"an image of the state was still being taken after {timeout_s:.1f} s; nothing was applied, try "
                    f"again"
                )
            self._inside += 1

    def _leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._imaging:
                self._changed.notify_all()

    @contextmanager
    def image(self, timeout_s: float) -> Iterator[None]:
        """Held while an image is taken; no change is inside meanwhile.

        Raises:
            DeadlineExceededError: The changes that were inside did not end in time, or another image did not.
        """
        with self._lock:
            if not self._changed.wait_for(lambda: not self._imaging, timeout_s):
                raise DeadlineExceededError(f"another image of the state was still being taken after {timeout_s:.1f} s")
            self._imaging = True
            if not self._changed.wait_for(lambda: not self._inside, timeout_s):
                self._imaging = False
                self._changed.notify_all()
                raise DeadlineExceededError(
                    f"{self._inside} changes were still being applied after {timeout_s:.1f} s; the image of the state "
                    f"is taken later"
                )
        try:
            yield
        finally:
            with self._lock:
                self._imaging = False
                self._changed.notify_all()


class _Change:
    """What ``ImageGate.change`` returns; a class, since a generator takes longer."""

    __slots__ = ("_gate", "_timeout_s")

    def __init__(self, gate: ImageGate, timeout_s: float):
        self._gate = gate
        self._timeout_s = timeout_s

    def __enter__(self) -> None:
        self._gate._enter(self._timeout_s)

    def __exit__(self, *_exception: object) -> None:
        self._gate._leave()
