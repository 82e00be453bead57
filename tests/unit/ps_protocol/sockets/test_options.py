"""TCP connections of the socket transport, set up."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from ps_protocol.sockets.options import LOCAL_BUFFER_BYTES, set_up


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        near = stack.enter_context(socket.create_connection(listener.getsockname()))
        stack.enter_context(listener.accept()[0])
        yield near


class FromElsewhere:
    """A connection that says that its other end is on another host."""

    def __init__(self, connection: socket.socket):
        self._connection = connection
        self.setsockopt = connection.setsockopt
        self.getsockname = connection.getsockname

    def getpeername(self) -> tuple[str, int]:
        return "192.0.2.1", 1


def buffers(connection: socket.socket) -> tuple[int, int]:
    return (
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
    )


def test_small_frames_leave_at_once(connection: socket.socket) -> None:
    set_up(connection)
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_buffers_within_a_host_are_fixed(connection: socket.socket) -> None:
    before = buffers(connection)
    set_up(connection)
    assert buffers(connection) != before
    assert max(buffers(connection)) <= 2 * LOCAL_BUFFER_BYTES  # Linux counts its own bookkeeping, as much again


def test_buffers_to_another_host_adapt(connection: socket.socket) -> None:
    before = buffers(connection)
    set_up(FromElsewhere(connection))  # type: ignore[arg-type] # all that is used of one
    assert buffers(connection) == before
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
