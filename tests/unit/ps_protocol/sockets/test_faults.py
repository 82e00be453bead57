"""What a test may do to a frame that is about to be sent."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from ps_protocol.fault_points import Fault, FaultAction, FaultPlan, InjectedFaultError, installed
from ps_protocol.sockets.faults import before_send
from ps_protocol.sockets.stream import Part, SocketStream

FRAME: list[Part] = [b"abc", memoryview(b"defgh"), b""]


@pytest.fixture
def ends() -> Iterator[tuple[SocketStream, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        far.setblocking(False)
        yield SocketStream(near), far


def test_without_a_plan_nothing_is_sent_or_raised(ends: tuple[SocketStream, socket.socket]) -> None:
    stream, far = ends
    before_send("reply.send", stream, FRAME, 8)
    with pytest.raises(BlockingIOError):
        far.recv(16)


@pytest.mark.parametrize(("action", "sent"), [(FaultAction.DROP, b""), (FaultAction.CUT, b"abcd")])
def test_a_frame_is_lost_or_cut(ends: tuple[SocketStream, socket.socket], action: FaultAction, sent: bytes) -> None:
    stream, far = ends
    with installed(FaultPlan((Fault("reply.send", action),))), pytest.raises(InjectedFaultError, match=action):
        before_send("reply.send", stream, FRAME, 8)
    stream.close()
    assert far.recv(16) == sent


def test_a_frame_is_doubled_or_damaged(ends: tuple[SocketStream, socket.socket]) -> None:
    stream, far = ends
    parts = list(FRAME)
    with installed(FaultPlan((Fault("reply.send", FaultAction.DUPLICATE),))):
        before_send("reply.send", stream, parts, 8)
    assert (far.recv(16), parts) == (b"abcdefgh", FRAME)  # and the sender sends it once more
    with installed(FaultPlan((Fault("reply.send", FaultAction.DAMAGE),))):
        before_send("reply.send", stream, parts, 8)
    assert parts == [b"abc", b"defgi", b""]
