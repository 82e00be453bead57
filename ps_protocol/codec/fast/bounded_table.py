"""A table of what was worked out before, bounded in bytes."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

TABLE_BYTES: Final = 16 * 1024 * 1024

ENTRY_BYTES: Final = 512
"""About what Python takes for an entry, and for each object in it, beside its bytes."""

_Value = TypeVar("_Value")


class BoundedTable(Generic[_Value]):
    """A dictionary that forgets everything when it is full: simple, and rare with a model's few thousand variables.

    Full is counted in bytes: what is kept of other processes' headers has no other bound on its size. Thread-safe.

    Args:
        limit_bytes: Most bytes that are kept.

    Attributes:
        get: Looks a key up, as that of a dictionary.
        used_bytes: What is kept.
    """

    def __init__(self, limit_bytes: int = TABLE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        # guards: changes of _entries, used_bytes. A look-up is atomic and done without it.
        self._lock = threading.Lock()
        self._entries: dict[Hashable, _Value] = {}
        self.used_bytes = 0
        self.get = self._entries.get

    def put(self, key: Hashable, value: _Value, size_bytes: int) -> None:
        """Keeps a value of about that size, if there is none of its key."""
        with self._lock:
            if key in self._entries:
                return
            if self.used_bytes + size_bytes > self._limit_bytes:
                self._entries.clear()
                self.used_bytes = 0
            self._entries[key] = value
            self.used_bytes += size_bytes
