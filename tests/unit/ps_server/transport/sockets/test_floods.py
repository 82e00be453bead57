"""Floods of the socket transport at small size: each takes place, and a client that behaves well notices nothing."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from uuid import uuid4

import numpy as np
import pytest

from ps_protocol.codec.error_codec import parse_error
from ps_protocol.codec.header_bounds import HeaderBounds
from ps_protocol.errors import ResourceExhaustedError
from ps_protocol.operations import Read, Update, UpdateRule
from ps_protocol.service_types import FastPathKind
from ps_protocol.sockets.frames import ANSWER_BYTES, FLAG_CLOSING, FrameKind, Verdict, encode_prefix, parse_answer
from ps_server.transport.descriptors import DescriptorReserve
from ps_server.transport.sockets import session, slow_peers
from tests.conftest import Eventually
from tests.unit.ps_server.transport.socket_clients import Client, Ps, request, running_ps, shake_hands

LARGE = 1_000_000  # elements of float32
THREADS = 2
EIGHT_TIB = 8 * 1024**4


@pytest.fixture(autouse=True)
def brief_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_peers, "PATIENCE_S", 0.01)


@contextlib.contextmanager
def flooded_ps(**settings: object) -> Iterator[tuple[Ps, contextlib.ExitStack]]:
    """A ps with few threads, and what holds the connections of a flood."""
    with running_ps(max_threads=THREADS, **settings) as ps, contextlib.ExitStack() as flood:  # type: ignore[arg-type]
        ps.declare("w", 4)
        ps.declare("large", 4 * LARGE)
        yield ps, flood


def add(name: str, size: int) -> Update:
    return Update(name, UpdateRule.ASSIGN_ADD, np.ones(size, np.float32))


def assert_served(ps: Ps) -> None:
    """A client that comes now, and one that was there, are answered."""
    with contextlib.closing(ps.client()) as first, contextlib.closing(ps.client(FastPathKind.UNIX)) as second:
        for client in (first, second) * 2:
            client.run(add("w", 4))


def drip(ps: Ps, flood: contextlib.ExitStack, kind: FastPathKind = FastPathKind.TCP) -> Client:
    """A client that sends the first bytes of a large update and then nothing."""
    client = flood.enter_context(contextlib.closing(ps.client(kind)))
    client.send(request(client.batch(add("large", 4 * LARGE)))[:200])
    return client


# -- connections without a right ----------------------------------------------------------------


@pytest.mark.parametrize("kind", list(FastPathKind))
def test_connections_that_show_no_ticket_hold_no_thread(kind: FastPathKind, eventually: Eventually) -> None:
    with flooded_ps(handshake_timeout_s=60.0) as (ps, flood):
        strangers = [flood.enter_context(ps.dial(kind)) for _ in range(64)]
        for each in strangers:
            each.send(b"\x89")
        eventually(lambda: ps.listener.num_newcomers == 64, message="the flood has begun")
        assert ps.listener.num_busy == 0
        assert_served(ps)
        assert ps.listener.num_newcomers == 64


def test_of_too_many_without_a_ticket_the_oldest_goes(caplog: pytest.LogCaptureFixture, eventually: Eventually) -> None:
    with flooded_ps(handshake_timeout_s=60.0, max_newcomers=4) as (ps, flood):
        strangers = []
        for _ in range(12):
            strangers.append(flood.enter_context(ps.dial()))
            strangers[-1].send(b"\x89")
        for each in strangers[:8]:
            with contextlib.suppress(ConnectionResetError):
                assert each.recv(1) == b""
        assert ps.listener.num_newcomers == 4
        assert "it was the oldest of 4 that have not shown a ticket" in caplog.text
        assert_served(ps)


def test_a_ticket_may_come_byte_by_byte_beside_a_flood() -> None:
    with flooded_ps() as (ps, _):
        incarnation = uuid4()
        ticket = ps.ticket(incarnation)
        with ps.dial() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert shake_hands(_ByteByByte(sock), incarnation, ticket) is Verdict.ACCEPTED  # type: ignore[arg-type]


class _ByteByByte:
    def __init__(self, sock: socket.socket):
        self._sock = sock
        self.recv = sock.recv

    def sendall(self, data: bytes) -> None:
        for byte in data:
            self._sock.sendall(bytes([byte]))


def test_of_too_many_with_a_ticket_the_oldest_that_was_never_used_goes() -> None:
    with flooded_ps(max_connections=3) as (ps, flood):
        used = flood.enter_context(contextlib.closing(ps.client()))
        used.run(add("w", 4))
        idle = [flood.enter_context(contextlib.closing(ps.client())) for _ in range(4)]
        for each in idle[:2]:
            assert each.is_ended()
        used.run(add("w", 4))
        with contextlib.closing(ps.client()) as newer:
            newer.run(add("w", 4))
        assert idle[2].is_ended()


# -- frames -------------------------------------------------------------------------------------


def test_what_can_never_be_staged_is_refused_at_once_and_ends_the_connection(
    caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    with flooded_ps(staging_limit_bytes=64 * LARGE) as (ps, flood):
        frame = encode_prefix(FrameKind.REQUEST, header_bytes=100, buffer_bytes=EIGHT_TIB)
        for _ in range(4 * THREADS):
            client = flood.enter_context(contextlib.closing(ps.client()))
            client.send(frame)
            prefix, error, _ = client.receive_frame()
            assert (prefix.kind, prefix.flags) == (FrameKind.ERROR, FLAG_CLOSING)
            assert b"8.0 TiB" in error
            assert b"--staging-limit" in error
            assert client.is_ended()
        assert "refused unread" in caplog.text
        eventually(lambda: ps.listener.num_connections == 0)
        assert_served(ps)


def test_a_refused_batch_that_is_too_much_to_skip_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MAX_SKIPPED_BYTES", LARGE)
    with flooded_ps(staging_limit_bytes=20 * LARGE) as (ps, flood):
        assert ps.staging.try_take(8 * LARGE)
        client = flood.enter_context(contextlib.closing(ps.client()))
        client.send(request(client.batch(add("large", 4 * LARGE)))[:1000])
        prefix, error, _ = client.receive_frame()
        assert (prefix.kind, prefix.flags) == (FrameKind.ERROR, FLAG_CLOSING)
        assert parse_error(error).retryable
        assert client.is_ended()
        ps.staging.give_back(8 * LARGE)
        assert_served(ps)


@pytest.mark.parametrize("kind", list(FastPathKind))
def test_frames_that_do_not_come_hold_no_thread(kind: FastPathKind, eventually: Eventually) -> None:
    with flooded_ps() as (ps, flood):
        dripping = [drip(ps, flood, kind) for _ in range(8 * THREADS)]
        eventually(lambda: ps.listener.slow_peers.num_slow == len(dripping), message="all of the flood is slow")
        assert_served(ps)
        assert ps.listener.slow_peers.num_slow == len(dripping)


def test_while_others_wait_for_a_thread_no_patience_is_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_peers, "PATIENCE_S", 600.0)
    with flooded_ps() as (ps, flood):
        for _ in range(4 * THREADS):
            drip(ps, flood)
        assert_served(ps)
        assert ps.listener.slow_peers.num_slow >= 3 * THREADS


def test_a_slow_frame_that_goes_on_counts(eventually: Eventually) -> None:
    with flooded_ps() as (ps, flood):
        client = flood.enter_context(contextlib.closing(ps.client()))
        frame = request(client.batch(add("large", 4 * LARGE)))
        client.send(frame[:LARGE])
        eventually(lambda: ps.listener.slow_peers.num_slow == 1)
        client.send(frame[LARGE:])
        (reply,) = client.receive()
        assert not isinstance(reply, Exception)
        assert reply.version == 1
        eventually(lambda: ps.listener.slow_peers.num_slow == 0, message="its thread counts again")
        assert_served(ps)


def test_of_too_many_slow_ones_the_slowest_goes(caplog: pytest.LogCaptureFixture, eventually: Eventually) -> None:
    with flooded_ps(max_slow=3) as (ps, flood):
        faster = flood.enter_context(contextlib.closing(ps.client()))
        frame = request(faster.batch(add("large", 4 * LARGE)))
        faster.send(frame[: 4 * LARGE])
        eventually(lambda: ps.listener.slow_peers.num_slow == 1)
        for _ in range(6):
            drip(ps, flood)
        eventually(lambda: ps.listener.slow_peers.num_ended == 4, message="four of six had to go")
        eventually(lambda: ps.listener.slow_peers.num_slow == 3)
        assert "the slowest there was" in caplog.text
        faster.send(frame[4 * LARGE :])
        faster.receive()
        assert_served(ps)


def test_memory_that_slow_frames_hold_is_given_to_who_wants_it(eventually: Eventually) -> None:
    with flooded_ps(staging_limit_bytes=20 * LARGE) as (ps, flood):
        drip(ps, flood)
        eventually(lambda: ps.listener.slow_peers.num_slow == 1)
        assert ps.staging.used_bytes == 16 * LARGE
        with contextlib.closing(ps.client()) as client:
            frame = request(client.batch(add("large", 4 * LARGE)))
            client.send(frame)
            with pytest.raises(ResourceExhaustedError) as error:
                client.receive()
            assert error.value.retryable
            eventually(lambda: ps.staging.used_bytes == 0, message="the slow one has been ended")
            client.send(frame)
            client.receive()


def test_memory_that_unread_replies_hold_is_given_to_who_wants_it(eventually: Eventually) -> None:
    with flooded_ps(staging_limit_bytes=20 * LARGE) as (ps, flood):
        greedy = flood.enter_context(contextlib.closing(ps.client()))
        greedy.send(request(greedy.batch(Read("large"))))
        eventually(lambda: ps.listener.slow_peers.num_slow == 1)
        assert ps.staging.used_bytes == 16 * LARGE
        with contextlib.closing(ps.client()) as client:
            with pytest.raises(ResourceExhaustedError):
                client.run(Read("large"))

            def is_read() -> bool:
                with contextlib.suppress(ResourceExhaustedError):
                    client.run(Read("large"))
                    return True
                return False

            eventually(is_read, message="the greedy one has been ended")
        assert ps.listener.slow_peers.num_ended == 1


def test_a_large_header_is_staged(eventually: Eventually) -> None:
    with flooded_ps(staging_limit_bytes=20 * LARGE) as (ps, flood):
        client = flood.enter_context(contextlib.closing(ps.client()))
        client.send(encode_prefix(FrameKind.REQUEST, header_bytes=12 * LARGE) + bytes(100))
        eventually(lambda: ps.staging.used_bytes == 12 * LARGE)
        other = flood.enter_context(contextlib.closing(ps.client()))
        other.send(encode_prefix(FrameKind.REQUEST, header_bytes=12 * LARGE) + bytes(12 * LARGE))
        with pytest.raises(ResourceExhaustedError, match="header"):
            other.receive()
        assert_served(ps)


# -- replies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(FastPathKind))
def test_replies_that_nobody_reads_hold_no_thread(kind: FastPathKind, eventually: Eventually) -> None:
    with flooded_ps() as (ps, flood):
        greedy = [flood.enter_context(contextlib.closing(ps.client(kind))) for _ in range(4 * THREADS)]
        for each in greedy:
            each.send(request(each.batch(Read("large"))))
        eventually(lambda: ps.listener.slow_peers.num_slow == len(greedy), message="no reply is taken")
        assert_served(ps)
        for each in greedy:
            each.close()
        ps.wait_until_nothing_is_staged()


def test_replies_that_nobody_reads_are_dropped_with_their_connection(
    caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    with flooded_ps(stall_timeout_s=0.1) as (ps, flood):
        client = flood.enter_context(contextlib.closing(ps.client()))
        client.send(request(client.batch(Read("large"))))
        eventually(lambda: ps.listener.num_connections == 0, message="it has been ended")
        assert "kept the ps waiting" in caplog.text
        ps.wait_until_nothing_is_staged()


# -- descriptors --------------------------------------------------------------------------------


def stranger_descriptor(ps: Ps) -> int:
    """That of the one connection without a ticket, at the ps."""
    (sock,) = ps.listener._newcomers
    return sock.fileno()


def test_near_the_limit_of_descriptors_newcomers_make_room_and_others_are_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    with flooded_ps(handshake_timeout_s=60.0) as (ps, flood), contextlib.closing(ps.client()) as client:
        client.run(add("w", 4))
        stranger = flood.enter_context(ps.dial())
        eventually(lambda: ps.listener.num_newcomers == 1)
        free = stranger_descriptor(ps)
        monkeypatch.setattr(DescriptorReserve, "holds", lambda _, descriptor: descriptor > free)
        with contextlib.closing(ps.client()) as newer:  # for whom the stranger makes room
            newer.run(add("w", 4))
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(1) == b""
        eventually(lambda: ps.listener.num_connections == 1)
        monkeypatch.setattr(DescriptorReserve, "holds", lambda *_: True)
        with ps.dial() as refused:
            assert parse_answer(refused.recv(ANSWER_BYTES, socket.MSG_WAITALL)) is Verdict.TOO_MANY_CONNECTIONS
        assert "raise the limit of open files" in caplog.text
        client.run(add("w", 4))


# -- headers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bounds", [HeaderBounds(operations=100), HeaderBounds(header_bytes=1000)], ids=["number", "size"]
)
def test_a_header_beyond_the_bounds_is_refused_before_it_is_decoded(bounds: HeaderBounds) -> None:
    with flooded_ps(header_bounds=bounds) as (ps, flood):
        client = flood.enter_context(contextlib.closing(ps.client()))
        client.replies(*[Read("w")] * 20)
        client.send(request(client.batch(*[Read("w")] * 2000)))
        prefix, header, _ = client.receive_frame()
        assert (prefix.kind, prefix.flags & FLAG_CLOSING) == (FrameKind.ERROR, FLAG_CLOSING)
        error = parse_error(header)
        assert isinstance(error, ResourceExhaustedError)
        assert "raise --max-" in error.message
        assert_served(ps)


def test_a_large_header_counts_as_staging() -> None:
    with flooded_ps(staging_limit_bytes=1024**2) as (ps, flood):
        client = flood.enter_context(contextlib.closing(ps.client()))
        client.replies(*[Read("w")] * 500)
        client.send(request(client.batch(*[Read("w")] * 5000)))
        prefix, header, _ = client.receive_frame()
        assert prefix.kind is FrameKind.ERROR
        assert "the batch's header" in parse_error(header).message
        assert_served(ps)
