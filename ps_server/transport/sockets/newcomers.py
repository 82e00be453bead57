"""The beginning of a connection of the socket transport: the client shows its ticket.

No thread waits for it. The thread that watches reads what is there, so that a connection without a right costs a
descriptor and a small object, for a bounded time; and there are only so many.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from ps_protocol.sockets.frames import (
    ANSWER_BYTES,
    HELLO_BYTES,
    OLDEST_SOCKET_VERSION,
    SocketHello,
    Verdict,
    encode_answer,
    parse_hello,
)
from ps_server.transport.sockets.binding import peer_name
from ps_server.transport.sockets.tickets import TicketOffice

_LOG = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S: Final = 5.0
"""Longest that a connection may take to show its ticket."""

MAX_NEWCOMERS: Final = 256
"""Connections that may be without a ticket; one more ends the oldest of them."""

_REPORT_EACH_S: Final = 5.0


class Newcomers:
    """The connections that have not shown a ticket yet. For the watching thread alone, but for ``len``.

    Args:
        tickets: Has issued the tickets.
        limit: How many there may be.
        timeout_s: Longest that each may take.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        tickets: TicketOffice,
        *,
        limit: int = MAX_NEWCOMERS,
        timeout_s: float = HANDSHAKE_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._tickets = tickets
        self._limit = limit
        self._timeout_s = timeout_s
        self._clock = clock
        self._waiting: OrderedDict[socket.socket, tuple[float, bytearray]] = OrderedDict()  # the oldest first
        self._report = Report(clock)

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, sock: object) -> bool:
        return sock in self._waiting

    def __iter__(self) -> Iterator[socket.socket]:
        return iter(list(self._waiting))

    @property
    def next_end_s(self) -> float | None:
        """When the oldest has taken too long; None without any."""
        return next(iter(self._waiting.values()))[0] if self._waiting else None

    def add(self, sock: socket.socket) -> socket.socket | None:
        """Takes a new connection in; returns the one that has to go for it, if one has."""
        oldest = self.take_oldest() if len(self._waiting) >= self._limit else None
        self._waiting[sock] = (self._clock() + self._timeout_s, bytearray())
        return oldest

    def take_oldest(self) -> socket.socket | None:
        """Takes out the oldest, to make room; None without any."""
        if not self._waiting:
            return None
        oldest = next(iter(self._waiting))
        self._report.note(
            "%s: connection ended: it was the oldest of %d that have not shown a ticket",
            peer_name(oldest),
            len(self._waiting),
        )
        self.remove(oldest)
        return oldest

    def remove(self, sock: socket.socket) -> None:
        """Forgets one, if it is there."""
        self._waiting.pop(sock, None)

    def late(self) -> list[socket.socket]:
        """Takes out those that have taken too long, and returns them."""
        now_s, late = self._clock(), []
        for sock, (end_s, _) in self._waiting.items():
            if end_s > now_s:
                break
            late.append(sock)
        for sock in late:
            self.remove(sock)
            self._report.note(
                "%s: connection ended since it has not shown a ticket in %.1f s", peer_name(sock), self._timeout_s
            )
        return late

    def read(self, sock: socket.socket) -> SocketHello | Verdict | None:
        """Reads what has come of a ticket.

        Returns:
            What the client has shown, its ticket good; or why it is refused, with which it is taken out; None as long
            as more must come.

        Raises:
            OSError: The connection broke, or its other end has closed it.
        """
        _, hello = self._waiting[sock]
        try:
            came = sock.recv(HELLO_BYTES - len(hello), socket.MSG_DONTWAIT)  # not a byte more: the session reads those
        except BlockingIOError:
            return None
        if not came:
            raise ConnectionError("the other side has closed the connection before it showed a ticket")
        hello += came
        if len(hello) < HELLO_BYTES:
            return None
        self.remove(sock)
        shown = parse_hello(hello)
        if isinstance(shown, Verdict):
            return shown
        return shown if self._tickets.redeem(shown.client, shown.ticket) else Verdict.BAD_TICKET


def answer(sock: socket.socket, verdict: Verdict, version: int = OLDEST_SOCKET_VERSION) -> None:
    """Tells a client whether it is accepted, without waiting for it; OSError if it is gone."""
    if sock.send(encode_answer(verdict, version), socket.MSG_DONTWAIT) != ANSWER_BYTES:
        raise ConnectionError("the other side does not take an answer")


class Report:
    """Logs what happens to new connections: once at once, of many times a number now and then. For one thread.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._next_s = float("-inf")
        self._untold = 0

    def note(self, line: str, *arguments: object) -> None:
        """Logs a line, as ``logging`` does, or counts it."""
        now_s = self._clock()
        if now_s < self._next_s:
            self._untold += 1
            return
        if self._untold:
            line, arguments = f"{line} (as %d others since the last such line)", (*arguments, self._untold)
        _LOG.warning(line, *arguments)
        self._next_s, self._untold = now_s + _REPORT_EACH_S, 0
