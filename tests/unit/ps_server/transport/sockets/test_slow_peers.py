"""How long a peer may keep the ps waiting, on a clock of the test."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from ps_server.transport.sockets import slow_peers
from ps_server.transport.sockets.slow_peers import PeerStream, SlowPeers
from ps_server.transport.sockets.threads import ServingThreads


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(slow_peers, "time", clock)
    return clock


@pytest.fixture
def slow() -> SlowPeers:
    return SlowPeers(ServingThreads(1, "socket"), stall_timeout_s=20.0, slowest_bytes_per_s=1000, limit=2)


@pytest.fixture
def streams(slow: SlowPeers) -> Iterator[list[PeerStream]]:
    pairs = [socket.socketpair() for _ in range(3)]
    streams = [PeerStream(near, slow, f"peer {index}") for index, (near, _) in enumerate(pairs)]
    for each in streams:
        each.begin(0.0)
    yield streams
    for near, far in pairs:
        near.close()
        far.close()


def seconds_until_the_end(stream: PeerStream, clock: Clock, bytes_per_s: int) -> float:
    while clock.now_s < 10_000:
        clock.now_s += 0.5
        stream.moved_bytes += bytes_per_s // 2
        try:
            stream.is_late()
        except TimeoutError:
            return clock.now_s
    raise AssertionError("it never ends")


@pytest.mark.parametrize(("bytes_per_s", "ends_s"), [(0, 20.0), (2, 20.5), (500, 40.0), (900, 200.0)])
def test_a_slow_peer_has_a_pause_to_spare_and_then_a_rate_to_keep(
    streams: list[PeerStream], clock: Clock, bytes_per_s: int, ends_s: float
) -> None:
    assert seconds_until_the_end(streams[0], clock, bytes_per_s) == pytest.approx(ends_s, abs=0.6)


def test_who_keeps_the_rate_is_waited_for(streams: list[PeerStream], clock: Clock) -> None:
    with pytest.raises(AssertionError, match="never ends"):
        seconds_until_the_end(streams[0], clock, 1000)


def test_what_came_fast_is_no_credit_for_a_long_pause(streams: list[PeerStream], clock: Clock) -> None:
    (stream, *_) = streams
    clock.now_s = 1.0
    stream.moved_bytes = 1_000_000_000
    stream.waits("nothing came")
    assert seconds_until_the_end(stream, clock, 0) == 21.0


def test_the_slowest_of_too_many_is_ended(slow: SlowPeers, streams: list[PeerStream], clock: Clock) -> None:
    for moved_bytes, stream in zip((900, 10, 500), streams, strict=True):
        clock.now_s += 1.0
        stream.moved_bytes = moved_bytes
        stream.is_late()
    assert [each.is_ended for each in streams] == [False, True, False]
    assert streams[1].sock.recv(1) == b""
    streams[1].settle()
    assert (slow.num_slow, slow.num_ended) == (2, 1)


def test_who_keeps_up_the_rate_is_not_ended_for_its_memory(
    slow: SlowPeers, streams: list[PeerStream], clock: Clock
) -> None:
    clock.now_s = 1.0
    streams[0].moved_bytes, streams[1].moved_bytes = 2000, 900
    for each in streams[:2]:
        each.is_late()
    for _ in range(2):
        slow.give_memory_back()
    assert [each.is_ended for each in streams[:2]] == [False, True]


def test_without_any_there_is_none_to_end(slow: SlowPeers) -> None:
    assert not slow.end_slowest("a test")
