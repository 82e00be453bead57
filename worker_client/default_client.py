"""Which connection the module-level functions use.

The innermost ``with client:`` or ``with client.as_default():`` of this thread; outside of any, the connection that was
opened last and is still open, so that threads started by a program with one connection find it.
"""

from __future__ import annotations

from ps_protocol.errors import FailedPreconditionError
from worker_client.client import Client
from worker_client.graph.defaults import STACK, find_newest_client


def find_default_client() -> Client | None:
    """The default connection, or None if there is none."""
    innermost: Client | None = next((entry.client for entry in STACK if entry.client is not None), None)
    return innermost or find_newest_client()


def get_default_client() -> Client:
    """The default connection.

    Raises:
        FailedPreconditionError: No connection is open.
    """
    client = find_default_client()
    if client is None:
        raise FailedPreconditionError("not connected to a cluster; call worker_client.connect() first")
    return client
