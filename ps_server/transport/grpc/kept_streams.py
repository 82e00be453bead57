"""How many streams may stay open between two batches: each keeps one of the server's threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class KeptStreams:
    """Counts the streams that are open. Thread-safe.

    Args:
        most: How many may stay open. While there are more, each ends when it has answered a batch.
    """

    def __init__(self, most: int):
        self._most = most
        self._lock = threading.Lock()  # guards: _number
        self._number = 0

    @contextmanager
    def open(self) -> Iterator[Callable[[], bool]]:
        """Counts a stream as long as it is in the block; gives it a function that says whether it may stay open."""
        with self._lock:
            self._number += 1
        try:
            yield lambda: self._number <= self._most
        finally:
            with self._lock:
                self._number -= 1
