"""One ps task in a forked child: nothing reaches it, and no wait outlives the fork."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from uuid import uuid4

import numpy as np
import pytest

from ps_protocol.cluster_spec import TaskId
from ps_protocol.errors import FailedPreconditionError
from ps_protocol.operations import Batch, BatchReply, Update, UpdateRule
from tests.forked import error_in_child, error_of, in_child
from tests.unit.worker_client.fakes import ScriptedService, endpoint, succeed
from worker_client.connection.futures import gathered, mapped
from worker_client.connection.handle import PsHandle
from worker_client.connection.retry import Deadline
from worker_client.connection.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

CLIENT = uuid4()
ADD = Update("scope/v", UpdateRule.ASSIGN_ADD, np.array(1, np.float32))


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService()


@pytest.fixture
def handle(service: ScriptedService) -> Iterator[PsHandle]:
    made = PsHandle(endpoint(service), task=TaskId("ps", 0), client=CLIENT, client_task="worker:0", settings=Settings())
    made.connect(Deadline(5))
    yield made
    made.close()


@pytest.fixture
def stuck(service: ScriptedService) -> Iterator[threading.Event]:
    """Set once a batch is with the ps, which does not answer before the end of the test, or before it is cleared."""
    arrived, over = threading.Event(), threading.Event()

    def answer(batch: Batch) -> BatchReply:
        arrived.set()
        over.wait(60)
        return succeed(batch)

    service.answer = answer
    yield arrived
    over.set()


USES: dict[str, Callable[[PsHandle], object]] = {
    "exchange": lambda handle: handle.exchange([ADD]),
    "submit": lambda handle: handle.submit([ADD]),
    "call": lambda handle: handle.call(lambda service, timeout_s: service.status(timeout_s=timeout_s), what="x"),
    "service": lambda handle: handle.service,
    "welcome": lambda handle: handle.welcome,
    "memory": lambda handle: handle.new_buffer(1 << 20),
    "transport": lambda handle: handle.endpoint.transport.exchange,
}


@pytest.mark.parametrize("use", USES)
def test_every_use_in_the_child_raises_and_names_the_remedy(
    handle: PsHandle, service: ScriptedService, use: str
) -> None:
    handle.exchange([ADD])
    error = error_in_child(lambda: USES[use](handle))
    assert isinstance(error, FailedPreconditionError)
    assert "call connect() in this process" in str(error)
    assert "'spawn'" in str(error)
    assert error.task == "ps:0"
    assert error.variable == ("scope/v" if use in ("exchange", "submit") else "")
    handle.exchange([ADD])
    assert [batch.sequence for batch in service.batches] == [1, 2]


def test_closing_in_the_child_says_and_closes_nothing(handle: PsHandle, service: ScriptedService) -> None:
    def close() -> tuple[int, bool]:
        handle.close()
        return len(service.goodbyes), service.closed

    assert in_child(close) == (0, False)
    handle.exchange([ADD])


def test_a_lock_that_another_thread_held_is_not_waited_for(handle: PsHandle, stuck: threading.Event) -> None:
    thread = threading.Thread(target=handle.exchange, args=([ADD],))  # holds the order lock
    thread.start()
    assert stuck.wait(30)
    for lock in (handle._sender_lock, handle._queue._lock):
        lock.acquire()
    try:
        errors = in_child(lambda: [error_of(lambda use=use: use(handle)) for use in USES.values()])  # type: ignore[misc]
    finally:
        for lock in (handle._sender_lock, handle._queue._lock):
            lock.release()
    assert len(errors) == len(USES)
    assert all(isinstance(error, FailedPreconditionError) for error in errors)


def test_futures_of_the_parent_have_failed_in_the_child_and_not_in_the_parent(
    handle: PsHandle, service: ScriptedService, stuck: threading.Event
) -> None:
    on_its_way = handle.submit([ADD])
    assert stuck.wait(30)
    queued = handle.submit([ADD])
    outcome = mapped(gathered([on_its_way, queued]), len)
    called: list[Future[int]] = []
    outcome.add_done_callback(called.append)
    futures: list[Future[object]] = [on_its_way, queued, outcome]  # type: ignore[list-item] # of several types

    def look() -> tuple[int, list[BaseException | None], int]:
        done, _ = wait(futures, timeout=0)
        return len(done), [each.exception(0) for each in futures], len(called)

    num_done, errors, num_called = in_child(look)
    assert num_done == 3
    assert all(isinstance(error, FailedPreconditionError) and error.variable == "scope/v" for error in errors)
    assert num_called == 0, "callbacks are the parent's"
    assert not outcome.done()


def test_a_future_that_another_thread_looks_at_can_be_asked_in_the_child(
    handle: PsHandle, stuck: threading.Event
) -> None:
    future = handle.submit([ADD])
    assert stuck.wait(30)
    with future._condition:
        error = error_in_child(lambda: future.result(0))
    assert isinstance(error, FailedPreconditionError)
