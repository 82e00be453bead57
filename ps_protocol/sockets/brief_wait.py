"""Waits for the next bytes of a connection without giving up the processor, as long as that is likely to pay.

Putting a thread to sleep and waking it takes longer than a small operation itself, most of all on virtual machines. So
a thread that expects bytes soon looks for them a few times first, and offers its processor to others between looks. It
stops looking for a while if other work often took the processor. It also stops if often nothing came: from far away, or
between two steps of a training, bytes never come that soon.

A read of a scalar took 138 µs instead of 302 on 2026-11-22; on a busy machine nothing is won
(``docs/decisions/brief-waits.md``).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from time import perf_counter
from typing import Final

LOOK_FOR_S: Final = 300e-6
"""Longer than the other side takes for a small operation, even if it has to be woken up for it."""

TAKEN_S: Final = 80e-6
"""If a look takes longer, another thread had the processor meanwhile."""

_NUM_PROCESSORS: Final = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_COST_OF_FAILURE: Final = 8
_MOST_DOUBT: Final = 5 * _COST_OF_FAILURE
"""Reached when more than one wait in nine fails for long enough, or five in a row."""

_DOUBT_AFTER_REST: Final = 2 * _COST_OF_FAILURE
_SHORTEST_REST: Final = 32
_LONGEST_REST: Final = 64
"""In waits. Short, since the other side only answers soon if it does not sleep either."""


class BriefWait:
    """Looks for bytes before a thread sleeps. Belongs to one connection, and one thread at a time.

    Args:
        processors: How many this process may use. With one, the other side cannot send meanwhile.
        clock: Monotonic seconds.
    """

    __slots__ = ("_clock", "_doubt", "_is_useful", "_next_rest", "_rest")

    def __init__(self, *, processors: int = _NUM_PROCESSORS, clock: Callable[[], float] = perf_counter):
        self._is_useful = processors > 1
        self._clock = clock
        self._doubt = 0
        self._rest = 0  # waits during which it does not look
        self._next_rest = _SHORTEST_REST

    def receive(self, sock: socket.socket, target: memoryview) -> int | None:
        """Receives what comes soon.

        Args:
            sock: A stream socket.
            target: Where to put the bytes.

        Returns:
            How many bytes came, 0 at the end of the stream, or None if nothing came.

        Raises:
            OSError: The connection is broken.
        """
        if self._rest or not self._is_useful:
            self._rest -= self._is_useful
            return None
        receive, clock = sock.recv_into, self._clock
        began_s = looked_s = clock()
        while True:
            try:
                count = receive(target, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                os.sched_yield()
            else:
                if self._doubt:
                    self._trust()
                return count
            now_s = clock()
            if now_s - looked_s > TAKEN_S or now_s - began_s > LOOK_FOR_S:
                self._distrust()
                return None
            looked_s = now_s

    def _trust(self) -> None:
        self._doubt -= 1
        if not self._doubt:
            self._next_rest = _SHORTEST_REST

    def _distrust(self) -> None:
        self._doubt += _COST_OF_FAILURE
        if self._doubt >= _MOST_DOUBT:
            self._doubt, self._rest = _DOUBT_AFTER_REST, self._next_rest
            self._next_rest = min(2 * self._next_rest, _LONGEST_REST)
