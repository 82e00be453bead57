"""The connections that sessions find by a name, as that of a server: ``Session("grpc://host:2222")``."""

from __future__ import annotations

from typing import Final

from ps_protocol.errors import NotFoundError
from ps_protocol.forks import new_lock
from worker_client.client import Client

_lock: Final = new_lock()  # guards: _clients
_clients: Final[dict[str, Client]] = {}


def name_target(target: str, client: Client) -> None:
    """Has sessions find a connection by a name, which may have been another's."""
    with _lock:
        _clients[target] = client


def forget_target(target: str, client: Client) -> None:
    """Has sessions find it no more."""
    with _lock:
        if _clients.get(target) is client:
            del _clients[target]


def client_of(target: str) -> Client:
    """Returns the connection of a name; NotFoundError if there is none."""
    with _lock:
        found = _clients.get(target)
    if found is None:
        raise NotFoundError(
            f"no server of this process has the target {target!r}; make the session with the target of a "
            f"tf.train.Server for a worker, or with a connection, as connect() returns"
        )
    return found
