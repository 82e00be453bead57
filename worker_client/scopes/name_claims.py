"""Lets one thread at a time create what has a name, while the others wait for the outcome."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from ps_protocol.errors import DeadlineExceededError
from ps_protocol.forks import new_lock, tell_in_child

_WAIT_S = 300.0  # above what declaring a variable on a ps may take, with its retries
_LOOK_S: Final = 0.002


class _Claim(NamedTuple):
    """One name's.

    Attributes:
        held: Taken as long as the claim holds, however its thread leaves the block.
        thread: Whose it is.
    """

    held: threading.Lock
    thread: int


class NameClaims:
    """The names that are being created. Thread-safe.

    An interrupt leaves neither a claim nor the lock behind (``ps_protocol.interrupts``).

    Args:
        wait_s: Bound on waiting for another thread, in seconds.
    """

    def __init__(self, wait_s: float = _WAIT_S) -> None:
        self._wait_s = wait_s
        self._lock = new_lock()  # guards: _claims
        self._claims: dict[str, _Claim] = {}
        tell_in_child(self)

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Claims a name inside the block, after any other thread that has; a thread may claim a name twice.

        Raises:
            DeadlineExceededError: Another thread has not finished in time.
        """
        mine = _Claim(threading.Lock(), threading.get_ident())
        with mine.held:
            deadline_s = time.monotonic() + self._wait_s
            while (other := self._claim(name, mine)) is not None:
                if time.monotonic() > deadline_s:
                    raise DeadlineExceededError(
                        f"variable {name}: waited {self._wait_s:g} s for another thread that is creating it; "
                        f"see whether its initializer waits for this thread",
                        variable=name,
                    )
                while other.held.locked() and time.monotonic() <= deadline_s:
                    time.sleep(_LOOK_S)
            try:
                yield
            finally:
                self._release(name, mine)

    def become_copy(self) -> None:
        """In a forked child: drops the claims of threads that are not there."""
        this_thread = threading.get_ident()
        self._claims = {name: claim for name, claim in self._claims.items() if claim.thread == this_thread}

    def _claim(self, name: str, mine: _Claim) -> _Claim | None:
        """Claims a name unless it is this thread's already; returns the claim of another thread if there is one."""
        with self._lock:
            other = self._claims.get(name)
            if other is None or not other.held.locked():
                self._claims[name] = mine
                return None
            return None if other.thread == mine.thread else other

    def _release(self, name: str, mine: _Claim) -> None:
        with self._lock:
            if self._claims.get(name) is mine:
                del self._claims[name]
