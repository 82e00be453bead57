"""The connections of a client to one ps task."""

from __future__ import annotations

from uuid import uuid4

import pytest

from ps_protocol.errors import DeadlineExceededError, FailedPreconditionError, ShardscopeError, UnavailableError
from ps_protocol.operations import Batch
from worker_client.transport.socket_connection import SocketConnection
from worker_client.transport.socket_path import NoConnectionError, SocketPath

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
    def fail(timeout_s: float) -> SocketConnection:
        raise failure

    path = SocketPath(fail, task="ps:0", address="ps0.example:1")
    batch = Batch(uuid4(), uuid4(), 1, (), 0)
    send = path.begin if pipelined else path.exchange
    with pytest.raises(NoConnectionError) as caught:
        send(batch, timeout_s=TIMEOUT_S)
    assert caught.value.retryable is retryable
    assert path.num_connections == 0
