"""One ps task seen by a client: sequence numbers, order, retries, the end."""

from __future__ import annotations

import logging
import random
import threading
import traceback
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

from ps_protocol.cluster_spec import TaskId
from ps_protocol.errors import (
    CancelledError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
    StateLostError,
    UnavailableError,
)
from ps_protocol.operations import Batch, BatchReply, PsOperation, Read, Update, UpdateRule
from tests.unit.worker_client.fakes import STORE, ScriptedService, endpoint, succeed
from worker_client.connection.handle import PsHandle
from worker_client.connection.retry import Deadline, RetryPolicy
from worker_client.connection.settings import Settings

ADD = Update("v", UpdateRule.ASSIGN_ADD, np.array(1, np.float32))
READ = Read("v")
CLIENT = uuid4()


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService()


def make_handle(service: ScriptedService, **settings: float) -> PsHandle:
    clock = Clock()
    retry = RetryPolicy(random=random.Random(0), sleep=clock.sleep, clock=clock)
    return PsHandle(
        endpoint(service),
        task=TaskId("ps", 0),
        client=CLIENT,
        client_task="worker:0",
        settings=Settings(**{"operation_timeout_s": 30, "retry": retry, **settings}),  # type: ignore[arg-type] # mixed
    )


@pytest.fixture
def handle(service: ScriptedService) -> Iterator[PsHandle]:
    made = make_handle(service)
    yield made
    made.close()


def connected(handle: PsHandle) -> PsHandle:
    handle.connect(Deadline(5))
    return handle


def test_hello_is_repeated_until_the_ps_is_there(
    handle: PsHandle, service: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    service.hello_errors = [UnavailableError("connection refused") for _ in range(12)]
    with caplog.at_level(logging.WARNING):
        assert handle.connect(Deadline(60)).job_seed == 7
    assert service.hello_errors == []
    assert "waiting for ps:0 at h:1, 3 s of up to 60 s: connection refused" in caplog.text
    assert 1 <= len(caplog.records) < 6


def test_a_ps_that_never_comes_is_named_with_the_remedy(handle: PsHandle, service: ScriptedService) -> None:
    service.hello_errors = [UnavailableError("connection refused") for _ in range(1000)]
    with pytest.raises(UnavailableError) as caught:
        handle.connect(Deadline(3))
    assert caught.value.message == (
        "no ps answers at h:1 after 3 s (connection refused); start it with `python -m ps_server --task-index 0` or "
        "correct its address in the cluster spec"
    )
    assert "".join(traceback.format_exception(caught.value)).count("Traceback") == 1
    assert not caught.value.retryable


def test_a_ps_that_answers_and_does_not_serve_says_why(handle: PsHandle, service: ScriptedService) -> None:
    said = "this process waits for the state of ps:0. The remedy"
    service.hello_errors = [UnavailableError(said) for _ in range(1000)]
    with pytest.raises(UnavailableError) as caught:
        handle.connect(Deadline(3))
    assert caught.value.message == f"ps:0 does not serve after 3 s: h:1 says: {said}"


def test_a_ps_of_another_index_is_refused(handle: PsHandle, service: ScriptedService) -> None:
    service.task = "ps:3"
    with pytest.raises(FailedPreconditionError, match=r"h:1 is ps:3, not ps:0"):
        handle.connect(Deadline(3))


def test_only_mutating_batches_are_numbered(handle: PsHandle, service: ScriptedService) -> None:
    connected(handle)
    batches: list[list[PsOperation]] = [[ADD], [READ], [ADD, READ]]
    for operations in batches:
        handle.exchange(operations)
    assert [batch.sequence for batch in service.batches] == [1, 0, 2]
    assert {(batch.client, batch.store) for batch in service.batches} == {(CLIENT, STORE)}


def test_a_lost_reply_repeats_the_very_same_batch(handle: PsHandle, service: ScriptedService) -> None:
    lost = iter([UnavailableError("cut"), DeadlineExceededError("late")])

    def answer(batch: Batch) -> BatchReply:
        for error in lost:
            raise error
        return succeed(batch)

    service.answer = answer
    (reply,) = connected(handle).exchange([ADD])
    assert not isinstance(reply, Exception)
    assert [batch.sequence for batch in service.batches] == [1, 1, 1]
    assert len({id(batch) for batch in service.batches}) == 1


@pytest.mark.parametrize("error", [StateLostError("anew"), InvalidArgumentError("bad")])
def test_a_final_error_is_not_tried_again(handle: PsHandle, service: ScriptedService, error: Exception) -> None:
    def answer(_: Batch) -> BatchReply:
        raise error

    service.answer = answer
    with pytest.raises(type(error)):
        connected(handle).exchange([ADD])
    assert len(service.batches) == 1


def test_the_next_batch_gets_a_new_number_after_one_was_given_up(handle: PsHandle, service: ScriptedService) -> None:
    def answer(_: Batch) -> BatchReply:
        raise UnavailableError("away")

    service.answer = answer
    with pytest.raises(DeadlineExceededError, match=r"ps:0 at h:1 to answer a batch of 1 operations"):
        connected(handle).exchange([ADD])
    service.answer = succeed
    handle.exchange([ADD])
    assert service.batches[-1].sequence == 2


def test_submitted_batches_leave_in_order_and_a_read_does_not_overtake(
    handle: PsHandle, service: ScriptedService
) -> None:
    first_arrived, go_on = threading.Event(), threading.Event()

    def answer(batch: Batch) -> BatchReply:
        if batch.sequence == 1:
            first_arrived.set()
            assert go_on.wait(10)
        return succeed(batch)

    service.answer = answer
    futures = [connected(handle).submit([ADD]) for _ in range(3)]
    assert first_arrived.wait(10)
    read = threading.Thread(target=handle.exchange, args=([READ],))
    read.start()
    assert not futures[0].done()
    go_on.set()
    read.join(10)
    assert all(future.done() for future in futures)
    assert [batch.sequence for batch in service.batches] == [1, 2, 3, 0]


def test_without_anything_queued_the_caller_itself_sends(handle: PsHandle, service: ScriptedService) -> None:
    connected(handle).submit([ADD]).result(10)
    handle.exchange([ADD])
    assert service.threads == ["shardscope-ps:0", threading.current_thread().name]


def test_an_error_of_a_queued_batch_is_the_futures(handle: PsHandle, service: ScriptedService) -> None:
    def answer(_: Batch) -> BatchReply:
        raise InvalidArgumentError("bad")

    service.answer = answer
    future = connected(handle).submit([ADD])
    with pytest.raises(InvalidArgumentError, match="bad"):
        future.result(10)
    service.answer = succeed
    assert handle.submit([ADD]).result(10)


def test_a_full_queue_refuses_with_the_limit(service: ScriptedService) -> None:
    blocked = threading.Event()

    def answer(batch: Batch) -> BatchReply:
        assert blocked.wait(10)
        return succeed(batch)

    service.answer = answer
    handle = connected(make_handle(service, operation_timeout_s=0.01, max_pending_batches=1))
    accepted: list[Any] = []

    def submit_four() -> None:
        accepted.extend(handle.submit([ADD]) for _ in range(4))

    with pytest.raises(ResourceExhaustedError, match=r"1 batches have been waiting for ps:0 at h:1"):
        submit_four()
    blocked.set()
    for future in accepted:
        future.result(10)
    assert 1 <= len(accepted) < 4
    handle.close()


def test_bytes_that_wait_are_bounded(service: ScriptedService) -> None:
    blocked = threading.Event()

    def answer(batch: Batch) -> BatchReply:
        assert blocked.wait(10)
        return succeed(batch)

    service.answer = answer
    handle = connected(make_handle(service, operation_timeout_s=0.01, max_pending_bytes=100))
    large = Update("v", UpdateRule.ASSIGN_ADD, np.zeros(15, np.float32))
    accepted = [handle.submit([large])]
    with pytest.raises(ResourceExhaustedError, match=r"ps:0 at h:1 .* no room for 60 bytes more.*send less"):
        handle.submit([large])
    accepted.append(handle.submit([ADD]))
    blocked.set()
    for future in accepted:
        future.result(10)
    handle.close()


def test_what_close_cannot_send_in_time_is_told_that_it_was_not_sent(
    service: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def answer(batch: Batch) -> BatchReply:
        arrived.set()
        assert go_on.wait(10)
        return succeed(batch)

    service.answer = answer
    handle = connected(make_handle(service, operation_timeout_s=0.01))
    on_its_way, queued = handle.submit([ADD]), handle.submit([ADD])
    assert arrived.wait(10)
    with caplog.at_level(logging.WARNING):
        handle.close()
    assert "1 updates (v: 1) were not sent and are lost; 1 updates (v: 1) were on their way" in caplog.text
    with pytest.raises(CancelledError, match="nothing of it was applied"):
        queued.result(10)
    go_on.set()
    assert on_its_way.result(10)
    assert len(service.batches) == 1


def test_ctrl_c_while_close_waits_gives_up_what_is_queued(
    service: ScriptedService, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def answer(batch: Batch) -> BatchReply:
        arrived.set()
        assert go_on.wait(10)
        return succeed(batch)

    def interrupted(timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    service.answer = answer
    handle = connected(make_handle(service))
    on_its_way, queued = handle.submit([ADD]), handle.submit([ADD])
    assert arrived.wait(10)
    assert handle._sender is not None
    monkeypatch.setattr(handle._sender, "join", interrupted)
    monkeypatch.setattr(handle._sender, "is_alive", lambda: False)  # as Python 3.11 has it then
    with pytest.raises(KeyboardInterrupt):
        handle.close()
    assert "1 updates (v: 1) were not sent and are lost; 1 updates (v: 1) were on their way" in caplog.text
    with pytest.raises(CancelledError, match="nothing of it was applied"):
        queued.result(10)
    go_on.set()
    assert on_its_way.result(10)


def test_close_sends_what_is_queued_and_says_goodbye(handle: PsHandle, service: ScriptedService) -> None:
    futures = [connected(handle).submit([ADD]) for _ in range(5)]
    handle.close()
    assert all(future.done() for future in futures)
    assert service.goodbyes == [CLIENT]
    assert service.closed
    with pytest.raises(FailedPreconditionError, match="closed"):
        handle.exchange([READ])
    with pytest.raises(FailedPreconditionError, match="the connection to ps:0 is closed; connect again"):
        handle.call(lambda service, timeout_s: service.list_variables(timeout_s=timeout_s), what="to list variables")


def test_a_ps_that_is_gone_does_not_stop_the_close(handle: PsHandle, service: ScriptedService) -> None:
    connected(handle)

    def gone(client: UUID, *, timeout_s: float) -> None:
        raise UnavailableError("gone")

    service.goodbye = gone  # type: ignore[method-assign] # this one service has lost its ps
    handle.close()
    assert service.closed
