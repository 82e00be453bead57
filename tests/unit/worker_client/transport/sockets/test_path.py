"""The connections of a client to one ps task."""

from __future__ import annotations

import threading
from collections.abc import Callable
from uuid import uuid4

import pytest

from ps_protocol.errors import DeadlineExceededError, FailedPreconditionError, ShardscopeError, UnavailableError
from ps_protocol.operations import Batch
from ps_protocol.ps_service import Transport
from ps_protocol.service_types import FastPath, FastPathKind
from worker_client.transport.endpoint import Offer
from worker_client.transport.sockets.path import NoConnectionError, SocketTransport

TIMEOUT_S = 5.0


@pytest.mark.parametrize(
    ("failure", "retryable"),
    [
        (UnavailableError("nobody listens"), True),
        (DeadlineExceededError("the ps does not answer hello"), True),
        (FailedPreconditionError("not connected yet"), False),
    ],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize("pipelined", [False, True])
def test_a_connection_that_cannot_be_opened_now_is_worth_another_try(
    failure: ShardscopeError, retryable: bool, pipelined: bool
) -> None:
    def fail(timeout_s: float) -> Offer | None:
        raise failure

    def give_up(_transport: Transport, reason: str) -> None:
        pytest.fail(reason)

    path = FastPath(FastPathKind.TCP, ":1")
    offer = Offer(path, b"", False, uuid4(), "ps:0", "ps0.example:1", fail, reference=None, give_up=give_up)
    transport = SocketTransport(offer)
    batch = Batch(uuid4(), uuid4(), 1, (), 0)
    send = transport.begin if pipelined else transport.exchange
    with pytest.raises(NoConnectionError) as caught:
        send(batch, timeout_s=TIMEOUT_S)
    assert caught.value.retryable is retryable


class Connection:
    """One that the ps refuses a batch on, after something has happened."""

    is_usable = True
    is_closed = False

    def __init__(self, meanwhile: Callable[[], None] = lambda: None):
        self.caller = threading.Lock()
        self._meanwhile = meanwhile

    def exchange(self, batch: Batch, timeout_s: float) -> None:
        self._meanwhile()
        raise FailedPreconditionError("another process is the primary")

    def begin(self, batch: Batch, timeout_s: float) -> None:
        pytest.fail("the transport is closed")

    def close(self) -> None:
        self.is_closed = True


def transport_of(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> SocketTransport:
    path = FastPath(FastPathKind.TCP, ":1")

    def no_more(_transport: Transport, reason: str) -> None:
        pytest.fail(reason)

    offer = Offer(path, b"", False, uuid4(), "ps:0", "ps0.example:1", lambda _: offer, reference=None, give_up=no_more)
    transport = SocketTransport(offer)
    monkeypatch.setattr(transport, "_connected", lambda *_: connection)
    return transport


def test_a_connection_on_which_a_batch_is_refused_while_the_transport_is_closed_is_closed_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = Connection(meanwhile=lambda: transport.close())  # noqa: PLW0108 - made below
    transport = transport_of(connection, monkeypatch)
    with pytest.raises(FailedPreconditionError):
        transport.exchange(Batch(uuid4(), uuid4(), 1, (), 0), timeout_s=TIMEOUT_S)
    assert connection.is_closed


def test_a_connection_that_is_opened_to_pipeline_while_the_transport_is_closed_is_closed_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = Connection()
    transport = transport_of(connection, monkeypatch)

    def opened(*_: object) -> Connection:
        transport.close()
        return connection

    monkeypatch.setattr(transport, "_connected", opened)
    with pytest.raises(UnavailableError, match="the connections to ps:0 are closed"):
        transport.begin(Batch(uuid4(), uuid4(), 1, (), 0), timeout_s=TIMEOUT_S)
    assert connection.is_closed
