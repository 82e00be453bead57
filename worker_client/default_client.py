"""Which connection the module-level functions use.

The innermost ``with client:`` or ``with client.as_default():`` of this thread; outside of any, the connection that was
opened last and is still open, so that threads started by a program with one connection find it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ps_protocol.errors import FailedPreconditionError
from worker_client.default_stack import STACK, Default

if TYPE_CHECKING:
    from worker_client.client import Client

_open_lock = threading.Lock()  # guards: _open
_open: list[Client] = []


def opened(client: Client) -> None:
    """Remembers a connection as the one opened last."""
    with _open_lock:
        _open.append(client)


def closed(client: Client) -> bool:
    """Forgets a connection; returns False if it was forgotten before."""
    with _open_lock:
        if client not in _open:
            return False
        _open.remove(client)
        return True


@contextmanager
def as_default(client: Client) -> Iterator[Client]:
    """Makes a connection, and with it its graph, the default of this thread inside the block."""
    entry = Default(client=client)
    STACK.push(entry)
    try:
        yield client
    finally:
        STACK.pop(entry)


def find_default_client() -> Client | None:
    """The default connection, or None if there is none."""
    innermost = next((entry.client for entry in STACK if entry.client is not None), None)
    return innermost or find_newest_client()


def find_newest_client() -> Client | None:
    """The connection that was opened last and is still open, or None if there is none."""
    with _open_lock:
        return _open[-1] if _open else None


def get_default_client() -> Client:
    """The default connection.

    Raises:
        FailedPreconditionError: No connection is open.
    """
    client = find_default_client()
    if client is None:
        raise FailedPreconditionError("not connected to a cluster; call worker_client.connect() first")
    return client
