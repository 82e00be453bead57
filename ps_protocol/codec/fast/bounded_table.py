"""A cache of bounded size in bytes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from ps_protocol.forks import new_lock

TABLE_BYTES: Final = 16 * 1024 * 1024

ENTRY_BYTES: Final = 512
"""About how much Python takes for an entry, and for each object in it, besides their own bytes."""

_Value = TypeVar("_Value")


class BoundedTable(Generic[_Value]):
    """A dictionary that drops all entries when it is full, which is rare with a model's few thousand variables.

    The bound is in bytes, since it holds headers of other processes, which may be large. Thread-safe.

    Args:
        limit_bytes: Most bytes that are kept.

    Attributes:
        get: Looks a key up, as ``dict.get``.
        used_bytes: Bytes that are kept.
    """

    def __init__(self, limit_bytes: int = TABLE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        # guards: changes of _entries, used_bytes. A look-up is atomic and needs no lock.
        self._lock = new_lock()
        self._entries: dict[Hashable, _Value] = {}
        self.used_bytes = 0
        self.get = self._entries.get

    def put(self, key: Hashable, value: _Value, size_bytes: int) -> None:
        """Keeps a value of about that size, unless the key has one."""
        with self._lock:
            if key in self._entries:
                return
            if self.used_bytes + size_bytes > self._limit_bytes:
                self._entries.clear()
                self.used_bytes = 0
            self._entries[key] = value
            self.used_bytes += size_bytes
