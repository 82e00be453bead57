"""Ports of the loopback interface that no other program gets."""

from __future__ import annotations

import socket
from typing import Final

from ps_protocol.forks import close_in_child

LOOPBACK: Final = "127.0.0.1"


class ReservedPorts:
    """Ports that the kernel gives to no program that asks for a free one, until ``close``.

    Each is held by a bound socket that does not listen. On Linux a server that sets ``SO_REUSEADDR``, as
    gRPC's do, may still bind and listen there, as often as it is started. Binding port 0 and outgoing connections never
    get such a port. So the addresses of a cluster are known before its processes start, no other program can take one
    in between, and a ps that is killed can come back to its own.

    Args:
        count: How many.

    Attributes:
        ports: Their numbers, all different.
    """

    def __init__(self, count: int):
        self._sockets: list[socket.socket] = []
        try:
            for _ in range(count):
                self._sockets.append(_bound_socket())
        except OSError:
            self.close()
            raise
        self.ports = tuple(int(each.getsockname()[1]) for each in self._sockets)

    def close(self) -> None:
        """Gives the ports back. Repeated calls do nothing."""
        for each in self._sockets:
            each.close()


def _bound_socket() -> socket.socket:
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    close_in_child(holder)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((LOOPBACK, 0))
    except OSError:
        holder.close()
        raise
    return holder
