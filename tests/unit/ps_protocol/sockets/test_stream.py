from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from ps_protocol.sockets.brief_wait import BriefWait
from ps_protocol.sockets.stream import MAX_PARTS, ConnectionEnded, SocketStream


@pytest.fixture
def ends() -> Iterator[tuple[SocketStream, socket.socket]]:
    """A stream with a small scratch buffer, and the socket at its other end."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)
    stream = SocketStream(ours)
    stream.lend_scratch(memoryview(bytearray(64)))
    stream.set_receive_timeout(20_000)
    stream.set_send_timeout(20_000)
    with contextlib.closing(stream), theirs:
        yield stream, theirs


def test_nothing_in_time_is_a_timeout_and_loses_nothing(ends: tuple[SocketStream, socket.socket]) -> None:
    stream, theirs = ends
    stream.set_receive_timeout(1)
    theirs.sendall(b"abc")
    with pytest.raises(TimeoutError):
        stream.take(4)
    theirs.sendall(b"d")
    assert bytes(stream.take(4)) == b"abcd"


@pytest.mark.parametrize("in_frame", [False, True])
def test_the_end_tells_whether_something_was_cut_off(ends: tuple[SocketStream, socket.socket], in_frame: bool) -> None:
    stream, theirs = ends
    theirs.sendall(b"abc" if in_frame else b"")
    theirs.close()
    with pytest.raises(ConnectionEnded) as end:
        stream.take(4)
    assert end.value.in_frame is in_frame


def test_who_sends_byte_by_byte_runs_out_of_time(ends: tuple[SocketStream, socket.socket]) -> None:
    stream, theirs = ends
    stream.deadline_s = time.monotonic() - 1
    theirs.sendall(b"a")
    with pytest.raises(TimeoutError, match="too slow"):
        stream.take(4)


def test_who_takes_nothing_runs_out_of_time(ends: tuple[SocketStream, socket.socket]) -> None:
    stream, _ = ends
    stream.set_send_timeout(1)
    data = memoryview(bytes(16 * 1024**2))
    with pytest.raises(TimeoutError, match="takes nothing"):
        stream.send([data], len(data))


def test_many_parts_of_any_size_are_sent_in_order(ends: tuple[SocketStream, socket.socket]) -> None:
    stream, theirs = ends
    random = np.random.default_rng(3)
    parts: list[bytes | memoryview] = [random.bytes(int(size)) for size in random.integers(0, 3000, 3 * MAX_PARTS)]
    whole = b"".join(parts)
    received = bytearray()

    def receive() -> None:
        while len(received) < len(whole):
            received.extend(theirs.recv(65536))

    reader = threading.Thread(target=receive)
    reader.start()
    stream.send(parts, len(whole))
    reader.join(20)
    assert received == whole


def test_what_is_not_taken_at_once_is_not_waited_for(ends: tuple[SocketStream, socket.socket]) -> None:
    stream, theirs = ends
    whole = memoryview(bytes(range(256)) * 32 * 1024)
    sent = stream.send_some([whole], 0)
    assert 0 < sent < len(whole)
    assert stream.send_some([whole], sent) == sent
    received = theirs.recv(sent, socket.MSG_WAITALL)
    assert received == whole[:sent]
    assert stream.send_some([whole], sent) > sent


def test_reading_ahead_keeps_what_came_within_a_limit(ends: tuple[SocketStream, socket.socket]) -> None:
    stream, theirs = ends
    data = bytes(range(200))
    theirs.sendall(data)
    for _ in range(6):
        stream.read_ahead(1024)
    assert stream.buffered_bytes == 200
    assert bytes(stream.take(200)) == data
    stream.read_ahead(1024)  # nothing has come
    theirs.sendall(bytes(2000))

    def read_on() -> None:
        while True:
            stream.read_ahead(512)

    with pytest.raises(ConnectionError, match="more than 512 bytes"):
        read_on()


def test_a_large_piece_is_read_as_it_comes(ends: tuple[SocketStream, socket.socket]) -> None:
    stream, theirs = ends
    data = np.random.default_rng(4).bytes(5000)
    theirs.sendall(data)
    assert bytes(stream.take(10)) == data[:10]
    assert stream.read_large(4000) == data[10:4010]
    theirs.close()
    with pytest.raises(ConnectionEnded):
        stream.read_large(2**60)  # far more than there is memory


def test_ending_wakes_who_waits(ends: tuple[SocketStream, socket.socket]) -> None:
    stream, _ = ends
    failures: list[Exception] = []

    def read() -> None:
        try:
            stream.take(1)
        except ConnectionEnded as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    stream.abort()
    reader.join(20)
    assert len(failures) == 1


def test_one_that_looks_first_waits_if_nothing_is_there(
    ends: tuple[SocketStream, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, far = ends
    looks: list[int | None] = []
    receive = BriefWait.receive

    def look(wait: BriefWait, sock: socket.socket, target: memoryview) -> int | None:
        looks.append(receive(wait, sock, target))
        if looks[-1] is None:
            far.sendall(b"late")  # comes when it is waited for
        return looks[-1]

    monkeypatch.setattr(BriefWait, "receive", look)
    monkeypatch.setattr(stream, "_brief_wait", BriefWait(processors=2))
    far.sendall(b"soon")
    assert bytes(stream.take(4)) == b"soon"
    assert not looks
    stream.looks_first = True
    assert bytes(stream.take(4)) == b"late"
    assert looks == [None]
    far.sendall(b"soon")
    assert bytes(stream.take(4)) == b"soon"
    assert looks == [None, 4]
