"""Listening sockets of the socket transport, and the options of its connections."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
from typing import Final
from uuid import uuid4

from ps_protocol.forks import close_in_child
from ps_protocol.liveness import KEEPALIVE_INTERVAL_S, KEEPALIVE_TIMEOUT_S
from ps_protocol.sockets import options as socket_options

_LOG = logging.getLogger(__name__)

_BACKLOG: Final = 1024
_HAS_ABSTRACT_SOCKETS: Final = sys.platform == "linux"


def listen_tcp(host: str, port: int) -> list[socket.socket]:
    """Listens on every address of a host name, all on one port."""
    listeners: list[socket.socket] = []
    failure: OSError | None = None
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            listener = _made(family, kind, protocol)
        except OSError as error:  # the kernel has no such family
            failure = error
            continue
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(len(found) > 1))
            listener.bind((address[0], port, *address[2:]))
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            failure = error
            continue
        listeners.append(listener)
        port = port or listener.getsockname()[1]
    if not listeners:
        raise failure or OSError(f"{host} has no address")
    return listeners


def listen_unix() -> socket.socket | None:
    """Listens on a Unix socket that leaves no file; None where the system has none."""
    if not _HAS_ABSTRACT_SOCKETS:
        return None
    try:
        listener = _made(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:  # a sandbox may forbid it; there still is TCP
        _LOG.info("no Unix socket is offered: %s", error)
        return None
    listener.bind(f"\0shardscope-{uuid4()}")
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def _made(family: int, kind: int, protocol: int = 0) -> socket.socket:
    """Returns a socket that a forked child closes: else it would listen on when this process has ended."""
    listener = socket.socket(family, kind, protocol)
    close_in_child(listener)
    return listener


def prepare(connection: socket.socket) -> None:
    """Sets the options of TCP, and keepalive, which notices that a peer's machine is gone.

    Raises:
        OSError: The connection is gone already.
    """
    if connection.family == getattr(socket, "AF_UNIX", None):
        return
    socket_options.set_up(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_INTERVAL_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_TIMEOUT_S // 2)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)


def peer_name(connection: socket.socket) -> str:
    with contextlib.suppress(OSError):
        address = connection.getpeername()
        if isinstance(address, tuple):
            return f"{address[0]}:{address[1]}"
        return "a Unix socket"
    return "an address that is gone"
