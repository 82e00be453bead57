"""The client's end of the socket transport, with a whole ps at the other end."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID, uuid4

import numpy as np
import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Batch, Declare, PsOperation, Read, Result, Update, UpdateRule, VariableSpec
from ps_protocol.ps_service import PendingExchange
from ps_protocol.service_types import FastPath, FastPathKind
from ps_protocol.sockets.brief_wait import BriefWait
from ps_protocol.sockets.frames import Verdict, encode_answer
from ps_server.core.parameter_server import ParameterServer
from ps_server.process.options import OfferedTransport
from ps_server.process.server import PsServer
from worker_client.transport.endpoint import PsEndpoint
from worker_client.transport.selection import TransportChoice, connect_endpoint
from worker_client.transport.sockets import addresses as socket_addresses
from worker_client.transport.sockets import path as socket_path
from worker_client.transport.sockets.connection import SocketConnection

TIMEOUT_S: Final = 20.0
SPEC: Final = VariableSpec("w", np.dtype(np.float32), (4,))
ADD: Final = Update("w", UpdateRule.ASSIGN_ADD, np.ones(4, np.float32))


@dataclass
class Talk:
    """A client that numbers its batches."""

    endpoint: PsEndpoint
    client: UUID = field(default_factory=uuid4)
    sequence: int = 0

    def __post_init__(self) -> None:
        self.welcome = self.endpoint.hello(self.client, "worker:0", timeout_s=TIMEOUT_S)

    @property
    def uses_sockets(self) -> bool:
        return isinstance(self.endpoint.transport, socket_path.SocketTransport)

    def batch(self, *operations: PsOperation, expected_reply_bytes: int | None = None) -> Batch:
        batch = Batch(self.client, self.welcome.store, 0, operations, expected_reply_bytes)
        if not batch.mutates:
            return batch
        self.sequence += 1
        return Batch(self.client, self.welcome.store, self.sequence, operations, expected_reply_bytes)

    def send(self, batch: Batch, timeout_s: float = TIMEOUT_S) -> Result:
        reply = self.endpoint.transport.exchange(batch, timeout_s=timeout_s).replies[-1]
        assert isinstance(reply, Result)
        return reply

    def begin(self, batch: Batch) -> PendingExchange | None:
        return self.endpoint.transport.begin(batch, timeout_s=TIMEOUT_S)

    def run(self, *operations: PsOperation) -> Result:
        return self.send(self.batch(*operations))


class Ps:
    """A ps in this process, and clients of it."""

    def __init__(self, resources: contextlib.ExitStack, **options: Any):
        self.core = ParameterServer(cluster_spec=ClusterSpec({"ps": ["localhost:1"]}), task_index=0)
        self.server = PsServer(self.core, host="127.0.0.1", port=0, max_concurrent=16, **options)
        self.address = f"127.0.0.1:{self.server.start()}"
        self._resources = resources
        resources.callback(self.server.stop, "the test is over", timeout_s=TIMEOUT_S)

    def endpoint(self, choice: TransportChoice) -> PsEndpoint:
        endpoint = connect_endpoint(self.address, "ps:0", choice)
        self._resources.callback(endpoint.close)
        return endpoint

    def talk(self, choice: TransportChoice = TransportChoice.TCP) -> Talk:
        """A client that has declared the variable."""
        talk = Talk(self.endpoint(choice))
        talk.run(Declare(SPEC, InitializerSpec(ConstantKind(0.0))))
        return talk

    @property
    def num_connections(self) -> int:
        assert self.server.sockets is not None
        return self.server.sockets.num_connections


@pytest.fixture
def ps(resources: contextlib.ExitStack) -> Ps:
    return Ps(resources)


def break_connections(monkeypatch: pytest.MonkeyPatch, *kinds: FastPathKind) -> list[FastPathKind]:
    """Lets no new connection of these kinds come about; returns the list of those that were tried."""
    tried: list[FastPathKind] = []
    connect: Callable[..., socket.socket] = socket_addresses.connect

    def refuse(path: FastPath, host: str, timeout_s: float) -> socket.socket:
        tried.append(path.kind)
        if path.kind in kinds:
            raise ConnectionRefusedError("a firewall of the test")
        return connect(path, host, timeout_s)

    monkeypatch.setattr(socket_path, "connect", refuse)
    return tried


# -- the choice ---------------------------------------------------------------------------------


def test_the_unix_socket_is_preferred_on_one_host(ps: Ps, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = break_connections(monkeypatch)
    talk = ps.talk(TransportChoice.SOCKET)
    assert tried == [FastPathKind.UNIX]
    assert talk.uses_sockets
    assert talk.run(ADD).version == 1


def test_tcp_is_next_and_needs_no_other_ticket(ps: Ps, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = break_connections(monkeypatch, FastPathKind.UNIX)
    talk = ps.talk(TransportChoice.AUTO)
    assert tried == [FastPathKind.UNIX, FastPathKind.TCP]
    assert talk.uses_sockets
    assert talk.run(ADD).version == 1


def test_grpc_is_the_last_resort_with_one_line_in_the_log(
    ps: Ps, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    break_connections(monkeypatch, *FastPathKind)
    talk = ps.talk(TransportChoice.AUTO)
    talk.run(ADD)
    assert not talk.uses_sockets
    (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "go over gRPC" in line.message
    assert "a firewall of the test" in line.message
    assert "--socket-port" in line.message


def test_a_ps_without_sockets_is_talked_to_over_grpc(
    resources: contextlib.ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    talk = Ps(resources, transports={OfferedTransport.GRPC}).talk(TransportChoice.AUTO)
    assert talk.run(ADD).version == 1
    assert "--transports" in caplog.text


@pytest.mark.parametrize("choice", [TransportChoice.SOCKET, TransportChoice.TCP, TransportChoice.UNIX])
def test_a_transport_that_was_asked_for_and_is_not_offered_is_an_error(
    resources: contextlib.ExitStack, choice: TransportChoice
) -> None:
    endpoint = Ps(resources, transports={OfferedTransport.GRPC}).endpoint(choice)
    with pytest.raises(UnavailableError, match="--transports") as error:
        endpoint.hello(uuid4(), "worker:0", timeout_s=TIMEOUT_S)
    assert error.value.task == "ps:0"


def test_a_transport_that_was_asked_for_and_cannot_be_reached_is_an_error(
    ps: Ps, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_connections(monkeypatch, FastPathKind.TCP)
    with pytest.raises(UnavailableError, match="a firewall of the test"):
        ps.endpoint(TransportChoice.TCP).hello(uuid4(), "worker:0", timeout_s=TIMEOUT_S)


def test_grpc_alone_opens_no_socket(ps: Ps) -> None:
    endpoint = connect_endpoint(ps.address, "ps:0", TransportChoice.GRPC)
    with contextlib.closing(endpoint):
        endpoint.hello(uuid4(), "worker:0", timeout_s=TIMEOUT_S)
        assert ps.num_connections == 0


# -- broken connections -------------------------------------------------------------------------


class Faults:
    """Loses the replies that come next; each is a fault that has fired."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.to_come = 0
        self.fired = 0
        receive = SocketConnection._receive

        def faulty(connection: SocketConnection, *arguments: Any) -> Any:
            answer = receive(connection, *arguments)
            if self.to_come:
                self.to_come -= 1
                self.fired += 1
                connection._is_broken = True
                raise ConnectionResetError("the reply is lost")
            return answer

        monkeypatch.setattr(SocketConnection, "_receive", faulty)


def test_a_reply_lost_on_the_socket_and_asked_for_over_grpc_counts_once(
    ps: Ps, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faults = Faults(monkeypatch)
    talk = ps.talk(TransportChoice.AUTO)
    batch = talk.batch(ADD)
    faults.to_come = 1
    with pytest.raises(UnavailableError, match="the reply is lost") as error:
        talk.send(batch)
    assert error.value.retryable
    break_connections(monkeypatch, *FastPathKind)
    caplog.clear()
    assert talk.send(batch).version == 1
    assert not talk.uses_sockets
    assert [record.levelname for record in caplog.records if "go over gRPC" in record.message] == ["WARNING"]
    assert faults.fired == 1
    assert ps.core.status(timeout_s=TIMEOUT_S).duplicate_batches == 1
    np.testing.assert_array_equal(talk.run(Read("w")).tensor, np.ones(4))


def test_a_batch_for_which_no_more_connection_can_be_opened_goes_over_grpc_alone(
    ps: Ps, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    talk = ps.talk(TransportChoice.AUTO)
    entered, may_go_on = threading.Event(), threading.Event()
    exchange = ps.core.exchange

    def slow(*args: Any, **keywords: Any) -> Any:
        entered.set()
        assert may_go_on.wait(TIMEOUT_S)
        return exchange(*args, **keywords)

    with ThreadPoolExecutor(1) as threads, monkeypatch.context() as patch:
        patch.setattr(ps.core, "exchange", slow)
        first = threads.submit(talk.run, Read("w"))
        assert entered.wait(TIMEOUT_S)
        patch.undo()
        break_connections(monkeypatch, *FastPathKind)
        assert talk.run(ADD).version == 1
        may_go_on.set()
        assert first.result(TIMEOUT_S).initialized
    assert talk.uses_sockets
    assert "go over gRPC" not in caplog.text


def test_a_reply_lost_on_the_socket_is_asked_for_on_another(ps: Ps, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults(monkeypatch)
    talk = ps.talk()
    batch = talk.batch(ADD)
    faults.to_come = 1
    with pytest.raises(UnavailableError):
        talk.send(batch)
    assert talk.send(batch).version == 1
    assert faults.fired == 1
    assert talk.uses_sockets


def test_a_transport_that_was_asked_for_is_not_left(ps: Ps, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults(monkeypatch)
    talk = ps.talk(TransportChoice.TCP)
    faults.to_come = 1
    with pytest.raises(UnavailableError):
        talk.run(ADD)
    break_connections(monkeypatch, FastPathKind.TCP)
    with pytest.raises(UnavailableError, match="a firewall of the test") as error:
        talk.run(ADD)
    assert error.value.retryable


def test_what_a_draining_ps_has_applied_is_answered_again(ps: Ps, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults(monkeypatch)
    talk = ps.talk(TransportChoice.AUTO)
    batch = talk.batch(ADD)
    faults.to_come = 1
    with pytest.raises(UnavailableError):
        talk.send(batch)
    ps.core.drain("a test", timeout_s=TIMEOUT_S)
    assert talk.send(batch).version == 1


def test_a_reply_that_does_not_come_in_time_is_not_taken_for_the_next(ps: Ps, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = ps.talk()
    may_go_on = threading.Event()
    exchange = ps.core.exchange
    with monkeypatch.context() as patch:

        def slow(*args: Any, **keywords: Any) -> Any:
            assert may_go_on.wait(TIMEOUT_S)
            return exchange(*args, **keywords)

        patch.setattr(ps.core, "exchange", slow)
        with pytest.raises(DeadlineExceededError, match="time ran out waiting for ps:0"):
            talk.send(talk.batch(ADD), timeout_s=0.05)
        may_go_on.set()
    (tensor,) = [talk.run(Read("w")).tensor]
    assert tensor is not None
    assert tensor.shape == (4,)


def test_a_whole_batch_that_is_refused_leaves_the_connection(ps: Ps) -> None:
    talk = ps.talk()
    before = ps.num_connections
    with pytest.raises(FailedPreconditionError):
        talk.send(Batch(talk.client, uuid4(), 0, (Read("w"),)))
    talk.run(ADD)
    assert ps.num_connections == before


def test_a_tensor_that_cannot_be_sent_leaves_the_connection(ps: Ps) -> None:
    talk = ps.talk()
    before = ps.num_connections
    with pytest.raises(InvalidArgumentError, match="Python objects"):
        talk.run(Update("w", UpdateRule.ASSIGN_ADD, np.array([None] * 4)))
    talk.run(ADD)
    assert ps.num_connections == before


def test_tensors_arrive_in_the_arrays_given_for_them(ps: Ps) -> None:
    talk = ps.talk()
    large = VariableSpec("large", np.dtype(np.float32), (300_000,))
    talk.run(Declare(large, InitializerSpec(ConstantKind(3.0))))
    outs = [np.zeros(4, np.float32), np.zeros(300_000, np.float32)]
    replies = talk.endpoint.transport.exchange(
        talk.batch(Read("w", out=outs[0]), Read("large", out=outs[1])), timeout_s=TIMEOUT_S
    ).replies
    for reply, out, value in zip(replies, outs, (0.0, 3.0), strict=True):
        assert isinstance(reply, Result)
        assert reply.tensor is out
        assert (out == value).all()


# -- many at once -------------------------------------------------------------------------------


def test_threads_share_a_bounded_number_of_connections(ps: Ps, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = ps.talk()
    barrier = threading.Barrier(socket_path.MAX_CONNECTIONS)
    exchange = ps.core.exchange

    def all_at_once(*args: Any, **keywords: Any) -> Any:
        barrier.wait(TIMEOUT_S)
        return exchange(*args, **keywords)

    monkeypatch.setattr(ps.core, "exchange", all_at_once)
    with ThreadPoolExecutor(2 * socket_path.MAX_CONNECTIONS) as threads:
        reads = [threads.submit(talk.run, Read("w")) for _ in range(2 * socket_path.MAX_CONNECTIONS)]
        assert all(read.result(TIMEOUT_S).initialized for read in reads)
    assert ps.num_connections == socket_path.MAX_CONNECTIONS


def test_who_waits_for_a_connection_in_vain_is_told(ps: Ps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_path, "MAX_CONNECTIONS", 1)
    talk = ps.talk()
    entered, may_go_on = threading.Event(), threading.Event()
    exchange = ps.core.exchange

    def slow(*args: Any, **keywords: Any) -> Any:
        entered.set()
        assert may_go_on.wait(TIMEOUT_S)
        return exchange(*args, **keywords)

    monkeypatch.setattr(ps.core, "exchange", slow)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(talk.run, Read("w"))
        assert entered.wait(TIMEOUT_S)
        with pytest.raises(DeadlineExceededError, match="all 1 connections to ps:0"):
            talk.send(talk.batch(Read("w")), timeout_s=0.02)
        may_go_on.set()
        assert first.result(TIMEOUT_S).initialized


# -- pipelining ---------------------------------------------------------------------------------


def test_batches_may_be_begun_before_earlier_ones_are_finished(ps: Ps) -> None:
    talk = ps.talk()
    pending = [talk.begin(talk.batch(ADD, expected_reply_bytes=0)) for _ in range(20)]
    versions = []
    for each in pending:
        assert each is not None
        (reply,) = each.finish().replies
        assert isinstance(reply, Result)
        versions.append(reply.version)
    assert versions == list(range(1, 21))


def test_begun_batches_do_not_wait_for_each_other_in_both_directions(ps: Ps) -> None:
    """Replies that nobody reads fill the kernel's buffers; without reading them the ps would take no more requests."""
    talk = ps.talk()
    errors = Update("none/" + "x" * 3000, UpdateRule.ASSIGN_ADD, np.ones(8192, np.float32))
    count = 700
    pending = [talk.begin(talk.batch(*[errors] * 2, expected_reply_bytes=0)) for _ in range(count)]
    for each in pending:
        assert each is not None
        assert len(each.finish().replies) == 2


@pytest.mark.parametrize("expected_reply_bytes", [None, 10**6])
def test_a_batch_with_a_large_reply_is_not_begun(ps: Ps, expected_reply_bytes: int | None) -> None:
    talk = ps.talk()
    batch = talk.batch(Read("w"), expected_reply_bytes=expected_reply_bytes)
    assert talk.begin(batch) is None


def test_over_grpc_nothing_is_begun(ps: Ps, monkeypatch: pytest.MonkeyPatch) -> None:
    break_connections(monkeypatch, *FastPathKind)
    talk = ps.talk(TransportChoice.AUTO)
    assert talk.begin(talk.batch(ADD, expected_reply_bytes=0)) is None


def test_batches_begun_on_a_connection_that_breaks_are_sent_again(ps: Ps, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults(monkeypatch)
    talk = ps.talk()
    batches = [talk.batch(ADD, expected_reply_bytes=0) for _ in range(3)]
    pending = [talk.begin(each) for each in batches]
    faults.to_come = 1
    for each in pending:
        assert each is not None
        with pytest.raises(UnavailableError):
            each.finish()
    assert faults.fired == 1
    assert [talk.send(each).version for each in batches] == [1, 2, 3]
    again = talk.begin(talk.batch(ADD, expected_reply_bytes=0))
    assert again is not None
    (reply,) = again.finish().replies
    assert isinstance(reply, Result)
    assert reply.version == 4


# -- what answers is no ps ----------------------------------------------------------------------


@contextlib.contextmanager
def impostor(answer: bytes) -> Iterator[SocketConnection]:
    """A connection to something that gives one answer."""
    ours, theirs = socket.socketpair()
    connection = SocketConnection(ours, uuid4(), task="ps:0", address="here:1")
    with theirs, contextlib.closing(connection):
        theirs.sendall(answer)
        yield connection


def test_an_impostor_is_recognised_by_its_handshake() -> None:
    with impostor(b"HTTP/1.1 400 Bad Request\r\n\r\n") as connection:
        with pytest.raises(InternalError, match="not a ps"):
            connection.shake_hands(bytes(32), TIMEOUT_S)
        assert not connection.is_usable


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        bytes.fromhex("5350 02 00 02000000 0000000000000000 00000000 00000000 ffff"),
        bytes.fromhex("5350 01 00 00000000 0000000000000000 00000000 00000000"),
        bytes.fromhex("5350 02 00 00000000 0000000000001000 00000000 00000000"),
        bytes.fromhex("5350 03 00 02000000 0000000000000000 00000000 00000000 ffff"),
    ],
)
def test_a_reply_that_is_none_is_an_error_and_takes_no_memory(answer: bytes) -> None:
    with impostor(answer) as connection:
        with pytest.raises(InternalError) as error:
            connection.exchange(Batch(uuid4(), uuid4(), 0, (Read("w"),)), TIMEOUT_S)
        assert error.value.retryable
        assert not connection.is_usable


@pytest.mark.parametrize("looks_first", [False, True])
def test_a_reply_is_looked_for_before_it_is_waited_for_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, looks_first: bool
) -> None:
    looks: list[object] = []
    monkeypatch.setattr(BriefWait, "receive", lambda *arguments: looks.append(arguments))
    ours, theirs = socket.socketpair()
    connection = SocketConnection(ours, uuid4(), task="ps:0", address="here:1", looks_first=looks_first)
    with theirs, contextlib.closing(connection):
        theirs.sendall(encode_answer(Verdict.ACCEPTED))
        connection.shake_hands(bytes(32), TIMEOUT_S)
    assert bool(looks) is looks_first


def test_a_ps_that_is_gone_is_unavailable() -> None:
    with impostor(b"") as connection:
        connection._stream.abort()
        with pytest.raises(UnavailableError, match="here:1"):
            connection.exchange(Batch(uuid4(), uuid4(), 0, (Read("w"),)), TIMEOUT_S)


def test_a_batch_that_the_ps_does_not_take_fails_with_the_reason_that_it_gives(
    resources: contextlib.ExitStack,
) -> None:
    ps = Ps(resources, staging_limit_bytes=1024**2)
    talk = ps.talk(TransportChoice.TCP)
    with pytest.raises(ResourceExhaustedError, match="--staging-limit") as error:
        talk.run(Update("w", UpdateRule.ASSIGN_ADD, np.ones(16 * 1024**2, np.float32)))
    assert not error.value.retryable
    talk.run(ADD)


def test_a_client_that_is_refused_before_it_has_said_anything_learns_why() -> None:
    with impostor(encode_answer(Verdict.TOO_MANY_CONNECTIONS)) as connection:
        connection.sock.shutdown(socket.SHUT_WR)
        with pytest.raises(UnavailableError, match="as many connections as it may have"):
            connection.shake_hands(bytes(32), TIMEOUT_S)
