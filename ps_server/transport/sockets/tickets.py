"""Tickets: each admits one connection of one client to the socket transport, once and for a short time."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from uuid import UUID

from ps_protocol.sockets.frames import TICKET_BYTES

TICKET_LIFETIME_S: Final = 60.0
MAX_TICKETS: Final = 16_384
MAX_TICKETS_PER_CLIENT: Final = 16


class TicketOffice:
    """Issues and redeems tickets. Thread-safe.

    Tickets are kept as hashes, so that the time of a look-up reveals nothing about valid ones. Their number is bounded,
    for each client and for the ps: beyond it the oldest is dropped.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        # guards: both below; no other lock is taken under it
        self._lock = threading.Lock()
        self._tickets: OrderedDict[bytes, tuple[UUID, float]] = OrderedDict()  # by age, oldest first
        self._of_client: dict[UUID, OrderedDict[bytes, None]] = {}

    def issue(self, client: UUID) -> bytes:
        """Returns a new ticket for one connection of this client."""
        ticket = secrets.token_bytes(TICKET_BYTES)
        key = _key(ticket)
        with self._lock:
            self._drop_expired()
            own = self._of_client.setdefault(client, OrderedDict())
            if len(own) >= MAX_TICKETS_PER_CLIENT:
                self._drop(next(iter(own)))
                own = self._of_client.setdefault(client, OrderedDict())
            elif len(self._tickets) >= MAX_TICKETS:
                self._drop(next(iter(self._tickets)))
                own = self._of_client.setdefault(client, OrderedDict())
            own[key] = None
            self._tickets[key] = (client, self._clock() + TICKET_LIFETIME_S)
        return ticket

    def redeem(self, client: UUID, ticket: bytes) -> bool:
        """Uses up a ticket; False if it was not issued to this client, is used or expired."""
        key = _key(ticket)
        with self._lock:
            self._drop_expired()
            issued = self._tickets.get(key)
            if issued is None or issued[0] != client:
                return False
            self._drop(key)
            return True

    @property
    def num_outstanding(self) -> int:
        """Tickets that are neither used nor dropped."""
        with self._lock:
            self._drop_expired()
            return len(self._tickets)

    def _drop_expired(self) -> None:
        """With the lock held."""
        now_s = self._clock()
        while self._tickets:
            key, (_, expires_s) = next(iter(self._tickets.items()))
            if expires_s > now_s:
                return
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        """With the lock held."""
        client, _ = self._tickets.pop(key)
        own = self._of_client[client]
        del own[key]
        if not own:
            del self._of_client[client]


def _key(ticket: bytes) -> bytes:
    return hashlib.sha256(ticket).digest()
