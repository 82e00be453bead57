"""A lock for each name, which exists only while it is used."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Gate:
    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0


class NameGates:
    """Locks by name, for work that may take long, such as computing an initial value. Thread-safe."""

    def __init__(self) -> None:
        # guards: _gates and the count of users of each; no other lock is taken under it
        self._lock = threading.Lock()
        self._gates: dict[str, _Gate] = {}

    @contextmanager
    def entered(self, name: str, timeout_s: float) -> Iterator[bool]:
        """Holds the lock of a name; gives False, without holding it, if it was not free in time."""
        with self._lock:
            gate = self._gates.setdefault(name, _Gate())
            gate.users += 1
        held = False
        try:
            held = gate.lock.acquire(timeout=max(0.0, min(timeout_s, threading.TIMEOUT_MAX)))
            yield held
        finally:
            if held:
                gate.lock.release()
            with self._lock:
                gate.users -= 1
                if not gate.users:
                    del self._gates[name]

    @property
    def is_busy(self) -> bool:
        """Whether a lock is held, or waited for, at this moment."""
        return bool(self._gates)
