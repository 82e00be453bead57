"""What both ends of the socket transport set on TCP connections.

Sized buffers: a pull of 100 MiB takes a fifth of the time on a busy machine (``python -m benchmarks.one_of_each
socket_options``).
"""

from __future__ import annotations

import socket
from typing import Final

LOCAL_BUFFER_BYTES: Final = 256 * 1024


def set_up(connection: socket.socket) -> None:
    """Sends small frames at once, and keeps what is on its way between two processes of one host in the cache.

    The kernel sizes the buffers of a connection for a long line: several MiB. Within a host there is no line. Bytes
    that wait in a buffer larger than the processor's cache have left the cache when they are read. A connection that
    leaves the host keeps the kernel's buffers.

    Args:
        connection: TCP, connected.
    """
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if connection.getsockname()[0] == connection.getpeername()[0]:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LOCAL_BUFFER_BYTES)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LOCAL_BUFFER_BYTES)
