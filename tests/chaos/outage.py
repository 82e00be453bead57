"""Times in which a ps does not answer, and in which chosen clients each make one update that they give up.

How many updates stay without an answer is so planned, and not left to the speed of the machine: a history in which
there are too many cannot be decided.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Final

_MOST_S: Final = 90.0


class Outage:
    """Where clients and whoever stops the ps meet. Thread-safe.

    Args:
        before_call: The clients come here before they make this one of their calls, counted from 0.
        clients: Indexes of those that do.
    """

    def __init__(self, before_call: int, clients: Collection[int]):
        self.before_call = before_call
        self.clients = frozenset(clients)
        self._lock = threading.Lock()  # guards: _num_waiting, _num_given_up
        self._num_waiting = 0
        self._num_given_up = 0
        self._has_begun = threading.Event()
        self._is_over = threading.Event()

    def wait_for_begin(self) -> None:
        """For a client: returns when the ps has been stopped."""
        with self._lock:
            self._num_waiting += 1
        assert self._has_begun.wait(_MOST_S), "nobody stops the ps"

    def wait_for_end(self) -> None:
        """For a client that has given its update up: returns when the ps answers again."""
        with self._lock:
            self._num_given_up += 1
        assert self._is_over.wait(_MOST_S), "nobody brings the ps back"

    def is_awaited(self) -> bool:
        """Whether all its clients have come."""
        with self._lock:
            return self._num_waiting == len(self.clients)

    def is_given_up(self) -> bool:
        """Whether all its clients have had enough."""
        with self._lock:
            return self._num_given_up == len(self.clients)

    def begin(self) -> None:
        """The ps has been stopped."""
        self._has_begun.set()

    def end(self) -> None:
        """The ps answers again, or will."""
        self._is_over.set()
