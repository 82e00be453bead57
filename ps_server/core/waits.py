"""How many threads of a ps task may wait for something that a client has asked for, and for how long at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

LOOK_S: Final = 0.25
"""Those who wait look so often whether they are still to wait."""


class Waits:
    """Counts those who wait. Thread-safe.

    Args:
        most: How many may wait at a time.
    """

    def __init__(self, most: int):
        self._most = most
        self._lock = threading.Lock()  # guards: _number
        self._number = 0

    @property
    def number(self) -> int:
        """How many wait."""
        return self._number

    @contextmanager
    def place(self) -> Iterator[bool]:
        """Takes a place for as long as the block lasts; gives False if none is free."""
        with self._lock:
            has_place = self._number < self._most
            self._number += has_place
        try:
            yield has_place
        finally:
            with self._lock:
                self._number -= has_place
