"""Opens the connections of the socket transport."""

from __future__ import annotations

import socket
import sys
from typing import Final

from ps_protocol.forks import close_in_child
from ps_protocol.service_types import FastPath, FastPathKind
from ps_protocol.sockets import options as socket_options
from ps_protocol.sockets.stream import SocketStream

_HAS_ABSTRACT_SOCKETS: Final = sys.platform == "linux"


def connect(path: FastPath, host: str, timeout_s: float) -> socket.socket:
    """Connects to where a ps says that it can be reached. A forked child does not keep the connection open.

    Args:
        path: As offered.
        host: Host of the ps's gRPC address.
        timeout_s: How long it may take.

    Raises:
        OSError: Nothing answers there, or the address makes no sense here.
    """
    if path.kind is FastPathKind.UNIX:
        if not _HAS_ABSTRACT_SOCKETS:
            raise OSError("this system has no abstract Unix sockets")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # With a timeout of Python's it would fail at once while many others wait to be accepted.
            SocketStream(sock).set_send_timeout(int(timeout_s * 1000))
            sock.connect(b"\0" + path.address.encode())
        except BaseException:
            sock.close()
            raise
        close_in_child(sock)
        return sock
    own_host, _, port = path.address.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise OSError(f"the ps gave the address {path.address!r}, which is none")
    sock = socket.create_connection(((own_host or host).strip("[]"), int(port)), timeout_s)
    try:
        socket_options.set_up(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    except BaseException:
        sock.close()
        raise
    close_in_child(sock)
    return sock
