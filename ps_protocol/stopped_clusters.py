"""Addresses of ps tasks that this process has stopped for good, so that none of its connections waits for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ps_protocol.errors import FailedPreconditionError
from ps_protocol.sockets.listening import refuses_connections

_stopped: Final[set[str]] = set()  # each change of it is one call


def note_stopped(addresses: Iterable[str]) -> None:
    """Remembers that what listens at addresses is ended, and does not come back."""
    _stopped.update(addresses)


def note_started(addresses: Iterable[str]) -> None:
    """Forgets that, since others are started at the same addresses, or answer there."""
    _stopped.difference_update(addresses)


def check_not_stopped(address: str, task: str) -> None:
    """Makes sure that a ps task that has failed to answer is worth waiting for.

    A port is used again. So what listens there by now is another one, whatever it did not answer.

    Raises:
        FailedPreconditionError: This process has stopped it, and nothing listens at its address; not retryable.
    """
    if address not in _stopped:
        return
    if not refuses_connections(address):
        note_started([address])
        return
    raise FailedPreconditionError(
        f"the LocalCluster at {address} was stopped; make a new one and connect to it", task=task
    )
