"""The connections of a client to one ps task."""

from __future__ import annotations

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
