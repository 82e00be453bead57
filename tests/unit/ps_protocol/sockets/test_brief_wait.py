"""Looking for bytes before waiting for them, on a clock that the tests turn."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from ps_protocol.sockets.brief_wait import LOOK_FOR_S, TAKEN_S, BriefWait

LOOK_S = TAKEN_S / 4


class Clock:
    """Moves on by ``step_s`` each time that it is looked at."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.step_s = LOOK_S
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        self.now_s += self.step_s
        return self.now_s


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wait(clock: Clock) -> BriefWait:
    return BriefWait(processors=2, clock=clock)


def look(wait: BriefWait, sock: socket.socket) -> bytes | None:
    target = memoryview(bytearray(8))
    count = wait.receive(sock, target)
    return None if count is None else bytes(target[:count])


def looked(wait: BriefWait, clock: Clock, sock: socket.socket) -> bool:
    """Whether it looks at all, for bytes that do not come."""
    before = clock.looks
    assert look(wait, sock) is None
    return clock.looks != before


def test_takes_what_is_there(wait: BriefWait, ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    far.sendall(b"abc")
    assert look(wait, near) == b"abc"


def test_takes_what_comes_meanwhile(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    clock = Clock()

    def send_at_the_third_look() -> float:
        if clock.looks == 3:
            far.sendall(b"abc")
        return clock()

    assert look(BriefWait(processors=2, clock=send_at_the_third_look), near) == b"abc"
    assert clock.looks >= 3


def test_gives_up_in_time(wait: BriefWait, clock: Clock, ends: tuple[socket.socket, socket.socket]) -> None:
    assert look(wait, ends[0]) is None
    assert LOOK_FOR_S < clock.now_s - LOOK_S <= LOOK_FOR_S + 2 * LOOK_S


def test_gives_up_when_somebody_else_had_the_processor(
    wait: BriefWait, clock: Clock, ends: tuple[socket.socket, socket.socket]
) -> None:
    clock.step_s = 2 * TAKEN_S
    assert look(wait, ends[0]) is None
    assert clock.looks == 2


def test_sees_the_end(wait: BriefWait, ends: tuple[socket.socket, socket.socket]) -> None:
    ends[1].close()
    assert look(wait, ends[0]) == b""


def test_reports_a_broken_connection(wait: BriefWait, ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    near.sendall(b"unread")
    far.close()
    with pytest.raises(ConnectionResetError):
        look(wait, near)


def test_does_nothing_with_one_processor(clock: Clock, ends: tuple[socket.socket, socket.socket]) -> None:
    wait = BriefWait(processors=1, clock=clock)
    ends[1].sendall(b"abc")
    for _ in range(100):
        assert not looked(wait, clock, ends[0])


def test_rests_after_failures_and_tries_again(
    wait: BriefWait, clock: Clock, ends: tuple[socket.socket, socket.socket]
) -> None:
    outcomes = [looked(wait, clock, ends[0]) for _ in range(400)]
    assert outcomes[:5] == [True] * 5
    assert outcomes[5:37] == [False] * 32
    assert outcomes[37:40] == [True] * 3
    assert outcomes[40:104] == [False] * 64
    assert outcomes[104:107] == [True] * 3
    assert outcomes[107:171] == [False] * 64, "no rest is longer, or both sides would wait for one another to begin"


def test_success_brings_trust_back(wait: BriefWait, clock: Clock, ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    for _ in range(20):
        for _ in range(9):
            far.sendall(b"x")
            assert look(wait, near) == b"x"
        assert looked(wait, clock, near), "one failure in ten is no reason to rest"
