"""Queued updates through a whole client, on every transport: in order, each once, each with its own outcome."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from ps_protocol.errors import InvalidArgumentError, NotFoundError, ResourceExhaustedError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Batch, BatchReply, Declare, Read, Result, Update, UpdateRule, VariableSpec
from ps_protocol.task_id import TaskId
from tests.contract.conftest import TIMEOUT_S, TRANSPORTS, Task
from worker_client.connection.handle import PsHandle
from worker_client.connection.pipeline import WindowLimits
from worker_client.connection.retry import Deadline
from worker_client.connection.settings import Settings

NUM_UPDATES = 300


@pytest.fixture(params=TRANSPORTS)
def task(request: pytest.FixtureRequest) -> Iterator[Task]:
    with contextlib.ExitStack() as resources:
        yield Task(request.param, 0, resources)


@pytest.fixture(params=[1, 8], ids=["alone", "shared"])
def handle(request: pytest.FixtureRequest, task: Task) -> Iterator[PsHandle]:
    made = PsHandle(
        task.endpoint(),
        task=TaskId("ps", 0),
        client=uuid4(),
        client_task="worker:0",
        settings=Settings(operation_timeout_s=TIMEOUT_S, window=WindowLimits(max_merged=request.param)),
    )
    made.connect(Deadline(TIMEOUT_S))
    for name in ("last", "sum"):
        made.exchange([Declare(VariableSpec(name, np.dtype(np.int64), ()), InitializerSpec(ConstantKind(0)))])
    yield made
    made.close()


def both(number: int) -> list[Update]:
    """Replaces one variable by a number, and adds one to another."""
    return [
        Update("last", UpdateRule.ASSIGN, np.array(number, np.int64)),
        Update("sum", UpdateRule.ASSIGN_ADD, np.array(1, np.int64)),
    ]


def values(handle: PsHandle) -> list[Any]:
    replies = handle.exchange([Read("last"), Read("sum")], expected_reply_bytes=16)
    return [reply.tensor.item() for reply in replies if isinstance(reply, Result) and reply.tensor is not None]


def test_a_stream_of_updates_is_applied_in_order_and_once(handle: PsHandle) -> None:
    futures = [handle.submit(both(number), expected_reply_bytes=0) for number in range(1, NUM_UPDATES + 1)]
    assert values(handle) == [NUM_UPDATES, NUM_UPDATES]  # the read waited for all of them
    versions = [reply.version for each in futures for reply in each.result(TIMEOUT_S)[:1] if isinstance(reply, Result)]
    assert versions == list(range(1, NUM_UPDATES + 1))


def test_an_operation_that_fails_is_the_matter_of_its_future_alone(handle: PsHandle) -> None:
    unknown = Update("unknown", UpdateRule.ASSIGN_ADD, np.array(1, np.int64))
    futures = [
        handle.submit([unknown] if number % 10 == 0 else both(number), expected_reply_bytes=0) for number in range(100)
    ]
    for number, future in enumerate(futures):
        kinds = {type(reply) for reply in future.result(TIMEOUT_S)}
        assert kinds == {NotFoundError if number % 10 == 0 else Result}
    assert values(handle) == [99, 90]


def test_after_a_batch_that_is_refused_the_others_go_on(
    handle: PsHandle, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = task.core.exchange
    refused: list[Batch] = []

    def refusing(batch: Batch, **options: Any) -> BatchReply:
        if batch.sequence == 9 and not refused:
            refused.append(batch)
            raise InvalidArgumentError("not this one")
        return exchange(batch, **options)

    monkeypatch.setattr(task.core, "exchange", refusing)
    futures = [handle.submit(both(number), expected_reply_bytes=0) for number in range(1, NUM_UPDATES + 1)]
    errors = [future.exception(TIMEOUT_S) for future in futures]
    failed = [error for error in errors if error is not None]
    assert len(refused) == 1
    assert all(isinstance(error, InvalidArgumentError) for error in failed)
    assert len(failed) <= 8  # who shared its batch, if they could not be sent again alone
    assert values(handle) == [NUM_UPDATES, NUM_UPDATES - len(failed)]


def test_a_batch_that_is_refused_for_now_is_not_overtaken(
    handle: PsHandle, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = task.core.exchange
    refused: list[Batch] = []

    def refusing(batch: Batch, **options: Any) -> BatchReply:
        if batch.sequence == 9 and len(refused) < 3:
            refused.append(batch)
            raise ResourceExhaustedError("not now")
        return exchange(batch, **options)

    monkeypatch.setattr(task.core, "exchange", refusing)
    futures = [handle.submit(both(number), expected_reply_bytes=0) for number in range(1, NUM_UPDATES + 1)]
    assert [future.exception(TIMEOUT_S) for future in futures] == [None] * NUM_UPDATES
    assert len(refused) == 3
    assert values(handle) == [NUM_UPDATES, NUM_UPDATES]
