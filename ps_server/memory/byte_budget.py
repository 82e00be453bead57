"""Counts bytes against a limit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


class ByteBudget:
    """Bytes that are spoken for, and the most that may be. Thread-safe.

    Args:
        limit_bytes: The most that may be taken; 0 for no limit.

    Attributes:
        when_short: Called by who finds too little left, for others to give something back; must not wait.
    """

    def __init__(self, limit_bytes: int = 0):
        self.limit_bytes = limit_bytes
        # guards: _used_bytes; no other lock is taken under it
        self._lock = threading.Lock()
        self._used_bytes = 0
        self.when_short: Callable[[], object] | None = None

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    def try_take(self, size_bytes: int) -> bool:
        """Takes bytes if they fit; the decision and the taking are one step."""
        with self._lock:
            if self.limit_bytes and self._used_bytes + size_bytes > self.limit_bytes:
                return False
            self._used_bytes += size_bytes
            return True

    def give_back(self, size_bytes: int) -> None:
        with self._lock:
            self._used_bytes -= size_bytes


def readable_bytes(size_bytes: int) -> str:
    """A size for messages, such as "1.5 GiB"."""
    if size_bytes < 1024:
        return f"{size_bytes} bytes"
    exponent = min((size_bytes.bit_length() - 1) // 10, len(_UNITS))
    return f"{size_bytes / 1024**exponent:.1f} {_UNITS[exponent - 1]}"
