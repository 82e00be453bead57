"""Bounds the memory for second values: of variables that are updated while a save still has to write what they had."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from itertools import chain
from typing import Final
from uuid import UUID

PATIENCE_S: Final = 15.0
"""Longest that updates wait for a save; what a client allows for one try is more, so that no update fails for it."""

_PART: Final = 1 / 16
"""Of the values that a save writes: what second values may take together, if no limit was given."""


class SecondValues:
    """Which values a save has yet to write, and what second values of them take. Thread-safe.

    An update of such a variable takes room for a second value once, until the first one is written. Beyond the limit it
    waits until the save has written enough. The limit is never below the largest value, so that this comes to an end.

    Args:
        limit_bytes: The most that second values take together; None for a sixteenth of what a save writes.

    Attributes:
        is_open: Whether a save is writing; may be read without a lock.
        taken_bytes: What is taken now.
    """

    def __init__(self, limit_bytes: int | None = None):
        self._given_limit_bytes = limit_bytes
        # guards: all below; no other lock is taken under it
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._sizes: dict[str, int] = {}  # of the values that are not written yet
        self._taken: set[str] = set()  # of those, the ones that have a second value
        self._awaited: Counter[str] = Counter()  # by how many updates
        self._limit_bytes = 0
        self._written_bytes = 0  # ever
        self._save: UUID | None = None
        self._give_up: Callable[[], None] = lambda: None
        self.is_open = False
        self.taken_bytes = 0

    # -- for the save -------------------------------------------------------------------------

    def open(self, save: UUID, sizes: Mapping[str, int], give_up: Callable[[], None]) -> None:
        """Begins to count; called while no update is being carried out.

        Args:
            save: Which save it is.
            sizes: Bytes of each value that the save has, by the name of its variable.
            give_up: Has the save drop what it has not written; must not wait. Called if updates have waited too long.
        """
        part = int(sum(sizes.values()) * _PART) if self._given_limit_bytes is None else self._given_limit_bytes
        with self._lock:
            self._sizes, self._taken, self.taken_bytes = dict(sizes), set(), 0
            self._limit_bytes = max([part, *sizes.values()])
            self._save, self._give_up = save, give_up
            self.is_open = True

    def wrote(self, save: UUID, name: str) -> None:
        """Gives back the room for a variable whose value is written and dropped."""
        with self._lock:
            if self._save != save:
                return
            size_bytes = self._sizes.pop(name, 0)
            self._written_bytes += size_bytes
            if name in self._taken:
                self._taken.remove(name)
                self.taken_bytes -= size_bytes
            self._changed.notify_all()

    def wanted(self) -> str | None:
        """The variable that the save should write next: one that updates wait for, or one that has a second value."""
        with self._lock:
            return next((name for name in chain(self._awaited, self._taken) if name in self._sizes), None)

    def close(self, save: UUID) -> None:
        """A save has nothing left to write: nobody has to wait for it."""
        with self._lock:
            if self._save == save:
                self._close()

    # -- for updates --------------------------------------------------------------------------

    def take(self, names: Collection[str], timeout_s: float) -> None:
        """Takes room for second values of variables that are about to be updated; waits for it if need be.

        If there is none in time, the save is given up: it can be repeated, and the update is not to fail for it.

        Args:
            names: Of all variables of a batch.
            timeout_s: What the batch has left.
        """
        with self._lock:
            if self._missing_bytes(names) > 0:
                self._wait(names, min(PATIENCE_S, timeout_s / 2))
            more = self._more(names)
            self._taken.update(more)
            self.taken_bytes += sum([self._sizes[name] for name in more])

    def _wait(self, names: Collection[str], wait_s: float) -> None:
        awaited = self._more(names)
        self._awaited.update(awaited)
        save, seen_bytes, missing_bytes = self._save, self._written_bytes, self._missing_bytes(names)

        def has_room() -> bool:
            nonlocal seen_bytes, missing_bytes
            if self._save == save and self._written_bytes - seen_bytes < missing_bytes:
                return False  # known without a look at all of perhaps very many names
            seen_bytes, missing_bytes = self._written_bytes, self._missing_bytes(names)
            return missing_bytes <= 0

        try:
            is_ready = self._changed.wait_for(has_room, wait_s)
        finally:
            self._awaited.subtract(awaited)
            self._awaited += Counter()  # drops those that nobody waits for
        if not is_ready:
            give_up = self._give_up
            self._close()
            give_up()

    def _more(self, names: Collection[str]) -> list[str]:
        """With the lock held: of these, those that need room."""
        return [name for name in names if name in self._sizes and name not in self._taken]

    def _missing_bytes(self, names: Collection[str]) -> int:
        """With the lock held: how much has to be written at least before these have room; 0 or less if they have."""
        more_bytes = sum([self._sizes[name] for name in self._more(names)])
        return self.taken_bytes + more_bytes - self._limit_bytes if more_bytes else 0

    def _close(self) -> None:
        self.is_open = False
        self._sizes, self._taken, self.taken_bytes = {}, set(), 0
        self._save, self._give_up = None, lambda: None
        self._changed.notify_all()
