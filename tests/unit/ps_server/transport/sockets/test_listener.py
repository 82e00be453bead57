"""The socket transport of a ps, spoken to byte by byte."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from uuid import UUID, uuid4

import numpy as np
import pytest

from ps_protocol.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)
from ps_protocol.operations import Batch, Describe, Read, Update, UpdateRule
from ps_protocol.service_types import FastPathKind
from ps_protocol.sockets.brief_wait import BriefWait
from ps_protocol.sockets.frames import (
    ANSWER_BYTES,
    FLAG_CLOSING,
    FLAG_PIPELINED,
    HELLO_BYTES,
    MAX_HEADER_BYTES,
    TICKET_BYTES,
    FrameKind,
    Verdict,
    encode_hello,
    encode_prefix,
)
from tests.conftest import Eventually
from tests.unit.ps_server.transport.socket_clients import (
    TIMEOUT_S,
    Client,
    Ps,
    answer,
    request,
    running_ps,
    shake_hands,
)

LARGE = 1_000_000  # elements of float32: staged, pooled, and more than the kernel buffers


@pytest.fixture
def ps() -> Iterator[Ps]:
    with running_ps() as ps:
        ps.declare("w", 4)
        ps.declare("large", LARGE)
        yield ps


@pytest.fixture
def client(ps: Ps) -> Iterator[Client]:
    with contextlib.closing(ps.client()) as client:
        yield client


def add(name: str, *shape: int, amount: float = 1.0) -> Update:
    return Update(name, UpdateRule.ASSIGN_ADD, np.full(shape, amount, np.float32))


def value_of(ps: Ps, name: str) -> float:
    """The one number that all elements are equal to, read by another client."""
    with contextlib.closing(ps.client()) as other:
        tensor = other.run(Read(name)).tensor
    assert tensor is not None
    (value,) = np.unique(tensor)
    return float(value)


def assert_others_notice_nothing(ps: Ps) -> None:
    assert value_of(ps, "w") == 1
    ps.wait_until_nothing_is_staged()


# -- requests and replies -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(FastPathKind))
def test_updates_and_reads(ps: Ps, kind: FastPathKind) -> None:
    with contextlib.closing(ps.client(kind)) as client:
        assert client.run(add("w", 4)).version == 1
        assert client.run(add("large", LARGE)).version == 1
        assert value_of(ps, "w") == value_of(ps, "large") == 2
    ps.wait_until_nothing_is_staged()


def test_a_batch_that_comes_again_counts_once(ps: Ps, client: Client) -> None:
    frame = request(client.batch(add("w", 4)))
    client.send(frame)
    client.send(frame)
    assert client.receive() == client.receive()
    assert value_of(ps, "w") == 2


def test_requests_may_be_sent_before_the_replies_are_read(ps: Ps, client: Client) -> None:
    client.send(b"".join(request(client.batch(add("w", 4))) for _ in range(50)))
    versions = [reply.version for _ in range(50) for reply in client.receive()]  # type: ignore[union-attr]  # no error
    assert versions == list(range(1, 51))


def test_only_a_connection_that_is_alone_is_looked_at_before_it_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    looks: list[socket.socket] = []

    def look(_: BriefWait, sock: socket.socket, _target: memoryview) -> None:
        looks.append(sock)

    monkeypatch.setattr(BriefWait, "receive", look)
    with running_ps(linger_s=TIMEOUT_S) as ps:
        ps.declare("w", 4)
        with contextlib.closing(ps.client()) as first:
            first.run(add("w", 4))
            eventually(lambda: bool(looks))
            with contextlib.closing(ps.client()) as second:
                for client in (first, second):
                    client.run(add("w", 4))
                looks.clear()
                for client in (first, second) * 5:
                    client.run(add("w", 4))
                assert not looks, "two that look would take the processor from one another"


def test_a_ps_that_is_to_sleep_at_once_never_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BriefWait, "receive", lambda *_: pytest.fail("it looked"))
    with running_ps(looks_first=False) as ps, contextlib.closing(ps.client()) as client:
        ps.declare("w", 4)
        for _ in range(3):
            client.run(add("w", 4))


def test_a_request_may_come_byte_by_byte(client: Client) -> None:
    for byte in request(client.batch(Describe("w"))):
        client.send(bytes([byte]))
    (reply,) = client.receive()
    assert not isinstance(reply, Exception)


def test_many_small_tensors_and_a_large_header_pass(ps: Ps, client: Client) -> None:
    updates = [add("w", 4)] * 4000
    assert len(client.replies(*updates)) == 4000
    assert value_of(ps, "w") == 4001


def test_tensors_of_all_sizes_in_one_batch_pass(ps: Ps, client: Client) -> None:
    client.replies(add("w", 4), add("large", LARGE), add("w", 4), add("large", LARGE))
    assert value_of(ps, "w") == value_of(ps, "large") == 3


def test_moved_bytes_are_counted(ps: Ps, client: Client) -> None:
    client.replies(add("w", 4), Read("large"))
    status = ps.core.status(timeout_s=TIMEOUT_S)
    assert (status.bytes_received, status.bytes_sent) == (16, 4 * LARGE)


def test_a_received_buffer_is_used_again(ps: Ps, client: Client) -> None:
    client.run(add("large", LARGE))
    assert ps.buffers.idle_bytes >= 4 * LARGE
    idle_bytes = ps.buffers.idle_bytes
    client.run(add("large", LARGE))
    assert ps.buffers.idle_bytes == idle_bytes


def test_a_buffer_that_became_a_value_is_not_used_again(ps: Ps, client: Client) -> None:
    client.run(Update("large", UpdateRule.ASSIGN, np.full(LARGE, 5, np.float32)))
    for amount in (1.0, 2.0):
        client.run(Update("large", UpdateRule.ASSIGN_ADD, np.full(LARGE, amount, np.float32)))
    assert value_of(ps, "large") == 8


# -- refusals that leave the connection as it is ------------------------------------------------


def test_a_batch_that_is_refused_as_a_whole_is_answered_with_an_error(client: Client) -> None:
    stranger = Batch(client.incarnation, uuid4(), 0, (Describe("w"),))
    client.send(request(stranger))
    with pytest.raises(FailedPreconditionError) as error:
        client.receive()
    assert error.value.task == "ps:0"
    client.run(Describe("w"))


def test_a_batch_of_another_client_is_refused(ps: Ps, client: Client) -> None:
    with contextlib.closing(ps.client()) as other:
        client.send(request(other.batch(add("w", 4))))
        with pytest.raises(FailedPreconditionError, match="has not said hello for this connection"):
            client.receive()
    assert value_of(ps, "w") == 1


@pytest.mark.parametrize("elements", [4, LARGE])
def test_a_header_that_makes_no_sense_is_refused(ps: Ps, client: Client, elements: int) -> None:
    batch = client.batch(add("w", elements))
    client.send(request(Batch(batch.client, batch.store, 0, batch.operations)))
    with pytest.raises(InvalidArgumentError, match="sequence 0"):
        client.receive()
    client.run(Describe("w"))
    assert_others_notice_nothing(ps)


def test_tensors_that_do_not_fill_their_buffers_are_refused(ps: Ps, client: Client) -> None:
    frame = bytearray(request(client.batch(add("w", 4))))
    struct.pack_into("<Q", frame, 8, 20)  # the size of the tensors
    client.send(bytes(frame) + bytes(4))
    with pytest.raises(InvalidArgumentError, match="16 bytes, but 20"):
        client.receive()
    client.run(Describe("w"))
    assert_others_notice_nothing(ps)


def test_a_batch_that_finds_no_room_may_be_tried_again() -> None:
    with running_ps(staging_limit_bytes=6 * LARGE) as ps:
        ps.declare("large", LARGE)
        ps.declare("w", 4)
        with contextlib.closing(ps.client()) as client:
            batch = client.batch(add("large", LARGE))
            assert ps.staging.try_take(3 * LARGE)
            client.send(request(batch))
            with pytest.raises(ResourceExhaustedError) as error:
                client.receive()
            assert error.value.retryable
            with pytest.raises(ResourceExhaustedError, match="reply"):
                client.replies(Read("large"))
            ps.staging.give_back(3 * LARGE)
            client.send(request(batch))
            client.receive()
            assert value_of(ps, "large") == 2
        assert_others_notice_nothing(ps)


def test_a_draining_ps_refuses_batches_and_answers_those_it_knows(ps: Ps, client: Client) -> None:
    known = request(client.batch(add("w", 4)))
    client.send(known)
    reply = client.receive()
    ps.core.drain("a test", timeout_s=TIMEOUT_S)
    with pytest.raises(UnavailableError, match="draining") as error:
        client.run(add("w", 4))
    assert error.value.retryable
    client.send(known)
    assert client.receive() == reply


def test_behind_a_batch_that_is_refused_no_other_in_the_pipeline_is_carried_out(ps: Ps, client: Client) -> None:
    ps.core.drain("a test", timeout_s=TIMEOUT_S)
    frames = [bytearray(request(client.batch(add("w", 4)))) for _ in range(3)]
    for frame in frames:
        frame[3] = FLAG_PIPELINED
    client.send(b"".join(frames))
    prefix, _, _ = client.receive_frame()
    assert (prefix.kind, prefix.flags) == (FrameKind.ERROR, FLAG_CLOSING)
    with pytest.raises((EOFError, ConnectionResetError)):
        client.receive_frame()


# -- what ends a connection ---------------------------------------------------------------------


def prefix_of(kind: FrameKind, **announced: int) -> bytes:
    return encode_prefix(kind, **{"header_bytes": 0, **announced})


_TOO_LARGE_HEADER = struct.pack("<HBBIQII", 0x5053, 1, 0, MAX_HEADER_BYTES + 1, 0, 0, 0)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"GET / HTTP/1.1\r\nHost: ps\r\n\r\n", "no frame"),
        (bytes(64), "no frame"),
        (_TOO_LARGE_HEADER, "header of"),
        (struct.pack("<HBBIQII", 0x5053, 1, 0, 0, 2**64 - 1, 0, 0), "beyond any memory"),
        (prefix_of(FrameKind.REPLY), "REPLY"),
        (prefix_of(FrameKind.REQUEST, header_bytes=3) + b"\xff\xff\xff", "no BatchRequest"),
        (prefix_of(FrameKind.REQUEST, num_locations=1) + bytes(8), "shared memory"),
    ],
)
def test_garbage_ends_the_connection(
    ps: Ps, client: Client, data: bytes, says: str, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    client.send(data)
    prefix, _, _ = client.receive_frame()
    assert (prefix.kind, prefix.flags) == (FrameKind.ERROR, FLAG_CLOSING)
    assert client.is_ended()
    assert says in caplog.text
    eventually(lambda: ps.listener.num_connections == 0, message="the connection is forgotten")
    assert_others_notice_nothing(ps)


def test_sizes_that_contradict_each_other_end_the_connection(
    ps: Ps, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    frame = bytearray(request(client.batch(add("large", LARGE))))
    struct.pack_into("<Q", frame, 8, 2**60)
    client.send(bytes(frame[:4096]))
    prefix, _, _ = client.receive_frame()
    assert prefix.flags == FLAG_CLOSING
    assert client.is_ended()
    assert "announces tensors" in caplog.text
    assert value_of(ps, "large") == 1
    assert_others_notice_nothing(ps)


@pytest.mark.parametrize("kept_bytes", [1, 30, 100, 70_000, 4 * LARGE])
def test_a_client_that_dies_in_a_frame_has_changed_nothing(
    ps: Ps, client: Client, kept_bytes: int, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    caplog.set_level(logging.INFO)
    client.send(request(client.batch(add("large", LARGE)))[:kept_bytes])
    client.close()
    eventually(lambda: "in the middle of a batch" in caplog.text, message="the end is logged")
    eventually(lambda: ps.listener.num_connections == 0, message="the connection is forgotten")
    assert {record.levelname for record in caplog.records} == {"INFO"}  # Ctrl-C may do that to a client
    assert value_of(ps, "large") == 1
    assert_others_notice_nothing(ps)


def test_a_client_that_is_killed_in_a_frame_has_changed_nothing(
    ps: Ps, client: Client, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    caplog.set_level(logging.INFO)
    client.send(request(client.batch(add("large", LARGE)))[: 2 * LARGE])
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ends it with a reset
    client.close()
    eventually(lambda: "connection" in caplog.text and not ps.listener.num_connections, message="the end is logged")
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert value_of(ps, "large") == 1
    assert_others_notice_nothing(ps)


def test_a_client_that_stops_sending_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    with running_ps(stall_timeout_s=0.05) as ps:
        ps.declare("w", 4)
        ps.declare("large", LARGE)
        with contextlib.closing(ps.client()) as client:
            client.send(request(client.batch(add("large", LARGE)))[:LARGE])
            assert client.is_ended()
        assert "kept the ps waiting" in caplog.text
        assert value_of(ps, "large") == 1
        assert_others_notice_nothing(ps)


def test_a_client_that_stops_reading_is_ended(caplog: pytest.LogCaptureFixture, eventually: Eventually) -> None:
    with running_ps(stall_timeout_s=0.05) as ps:
        ps.declare("w", 4)
        ps.declare("large", 16 * LARGE)  # more than the kernel takes for the client
        with contextlib.closing(ps.client()) as client:
            client.send(request(client.batch(Read("large"))))
            eventually(lambda: "kept the ps waiting" in caplog.text, message="the end is logged")
            assert client.is_ended()
        eventually(lambda: ps.staging.used_bytes == 0, message="the room is given back")
        assert_others_notice_nothing(ps)


def test_a_defect_is_answered_with_the_number_under_which_it_is_logged(
    ps: Ps, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ps.core, "reply_size_bytes", lambda _: 1 // 0)
        with pytest.raises(Exception, match="its log has the details under error") as error:
            client.run(Describe("w"))
    assert str(error.value).split()[-1] in caplog.text
    client.run(Describe("w"))


# -- tickets ------------------------------------------------------------------------------------


def test_a_ticket_used_twice_is_refused(ps: Ps, caplog: pytest.LogCaptureFixture) -> None:
    incarnation = uuid4()
    ticket = ps.ticket(incarnation)
    with ps.dial() as first, ps.dial() as second:
        assert shake_hands(first, incarnation, ticket) is Verdict.ACCEPTED
        assert shake_hands(second, incarnation, ticket) is Verdict.BAD_TICKET
        assert second.recv(1) == b""
    assert "the ticket is unknown, used or expired" in caplog.text


def test_a_guessed_ticket_and_that_of_another_client_are_refused(ps: Ps) -> None:
    ticket = ps.ticket(uuid4())
    for guess in (bytes(TICKET_BYTES), ticket):
        with ps.dial() as sock:
            assert shake_hands(sock, uuid4(), guess) is Verdict.BAD_TICKET
            assert sock.recv(1) == b""


@pytest.mark.parametrize(
    ("hello", "verdict"),
    [
        (b"GET / HTTP/1.1".ljust(HELLO_BYTES), Verdict.MALFORMED),
        (encode_hello(UUID(int=3), bytes(TICKET_BYTES)).replace(b"\n\x01", b"\n\x07"), Verdict.WRONG_VERSION),
    ],
    ids=["of the web", "of another version"],
)
def test_a_stranger_is_told_why_it_is_refused(ps: Ps, hello: bytes, verdict: Verdict) -> None:
    with ps.dial() as sock:
        sock.sendall(hello)
        assert answer(sock) is verdict
        assert sock.recv(1) == b""
    assert_others_notice_nothing(ps)


@pytest.mark.parametrize("said", [b"", b"\x89SHD"])
def test_a_stranger_that_says_nothing_is_not_waited_for(said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with running_ps(handshake_timeout_s=0.05) as ps, ps.dial() as sock:
        sock.sendall(said)
        assert sock.recv(1) == b""
    assert "handshake" in caplog.text or "has not shown a ticket" in caplog.text


def test_connections_beyond_the_limit_are_refused(caplog: pytest.LogCaptureFixture, eventually: Eventually) -> None:
    with running_ps(max_connections=2) as ps:
        ps.declare("w", 4)
        with contextlib.closing(ps.client()) as first, contextlib.closing(ps.client()) as second:
            for each in (first, second):
                each.run(Describe("w"))
            incarnation = uuid4()
            with ps.dial() as third:
                assert shake_hands(third, incarnation, ps.ticket(incarnation)) is Verdict.TOO_MANY_CONNECTIONS
            assert "as many connections as it may have" in caplog.text
            first.close()
            eventually(lambda: ps.listener.num_connections == 1, message="there is room again")
            ps.client().close()


# -- idle connections and the end ---------------------------------------------------------------


def test_idle_connections_cost_no_threads(eventually: Eventually) -> None:
    with running_ps(linger_s=0.001, max_threads=4) as ps, contextlib.ExitStack() as open_clients:
        ps.declare("w", 4)
        clients = [open_clients.enter_context(contextlib.closing(ps.client())) for _ in range(60)]
        for _ in range(2):
            for client in clients:
                client.run(add("w", 4))
        eventually(lambda: ps.listener.num_busy == 0, message="all connections are only watched")
        assert ps.listener.num_connections == 60
        assert sum(thread.name.startswith("socket_") for thread in threading.enumerate()) <= 4
        assert value_of(ps, "w") == 121


def test_more_busy_clients_than_threads_are_all_served() -> None:
    with running_ps(linger_s=5.0, max_threads=2) as ps, contextlib.ExitStack() as open_clients:
        ps.declare("w", 4)
        clients = [open_clients.enter_context(contextlib.closing(ps.client())) for _ in range(8)]
        for _ in range(3):
            for client in clients:
                client.send(request(client.batch(add("w", 4))))
            for client in clients:
                client.receive()


def test_stopping_ends_idle_connections(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with running_ps() as ps:
        ps.declare("w", 4)
        client = ps.client()
        client.run(Describe("w"))
        idle = ps.dial()
    with contextlib.closing(client), idle:
        assert client.is_ended()
        with contextlib.suppress(ConnectionResetError):  # by the kernel, if the ps had not taken it in yet
            assert idle.recv(ANSWER_BYTES) == b""
    assert not caplog.records


def test_stopping_waits_for_a_batch_that_is_carried_out(
    ps: Ps, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, may_go_on = threading.Event(), threading.Event()
    exchange = ps.core.exchange

    def slow(*args: object, **keywords: object) -> object:
        entered.set()
        assert may_go_on.wait(TIMEOUT_S)
        return exchange(*args, **keywords)  # type: ignore[arg-type]  # passed on as they are

    monkeypatch.setattr(ps.core, "exchange", slow)
    client.send(request(client.batch(add("w", 4))))
    assert entered.wait(TIMEOUT_S)
    stopping = threading.Thread(target=ps.listener.stop, args=(TIMEOUT_S,))
    stopping.start()
    may_go_on.set()
    (reply,) = client.receive()
    assert not isinstance(reply, Exception)
    stopping.join(TIMEOUT_S)
    assert not stopping.is_alive()


def test_a_port_that_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"), running_ps(port=port):
            pass


@pytest.mark.skipif(sys.platform != "linux", reason="abstract Unix sockets are Linux's")
def test_the_unix_socket_is_offered_first_and_leaves_no_file(ps: Ps) -> None:
    incarnation = uuid4()
    welcome = ps.listener.welcome(ps.core.hello(incarnation, "worker:0", timeout_s=TIMEOUT_S), incarnation)
    assert [path.kind for path in welcome.fast_paths] == [FastPathKind.UNIX, FastPathKind.TCP]
    assert "/" not in welcome.fast_paths[0].address
    assert len(welcome.ticket) == TICKET_BYTES
