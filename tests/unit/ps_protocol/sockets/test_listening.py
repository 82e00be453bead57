"""Whether anybody listens at an address."""

from __future__ import annotations

import errno
import socket

import pytest

from ps_protocol.sockets.listening import refuses_connections


def test_who_listens_does_not_refuse_and_who_does_not_does() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        assert refuses_connections(address)
        sock.listen()
        assert not refuses_connections(address)


def test_a_probe_that_fails_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_descriptors(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "create_connection", without_descriptors)
    assert not refuses_connections("127.0.0.1:1")
