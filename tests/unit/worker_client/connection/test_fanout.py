"""Fan-out over ps tasks: one exchange each, results in the caller's order, errors after all have answered."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from ps_protocol.cluster_spec import TaskId
from ps_protocol.errors import FailedPreconditionError, NotFoundError
from ps_protocol.operations import Batch, BatchReply, Read, Reply, Result, Update, UpdateRule
from tests.conftest import Eventually
from tests.unit.worker_client.fakes import ScriptedService, endpoint
from worker_client.connection import futures
from worker_client.connection.fanout import Fanout, Routed, succeeded
from worker_client.connection.futures import OperationFuture
from worker_client.connection.handle import PsHandle
from worker_client.connection.retry import Deadline
from worker_client.connection.settings import Settings


def echo(batch: Batch) -> BatchReply:
    """Answers with the number at the end of each name as the version."""
    replies: list[Reply] = []
    for operation in batch.operations:
        number = int(operation.name.removeprefix("v"))
        replies.append(NotFoundError(f"no {operation.name}") if number >= 90 else Result(number, True))
    return BatchReply(tuple(replies))


@pytest.fixture
def services() -> list[ScriptedService]:
    return [ScriptedService(f"ps:{index}", echo) for index in range(3)]


@pytest.fixture
def fanout(services: list[ScriptedService]) -> Iterator[Fanout]:
    handles = [
        PsHandle(
            endpoint(service, f"h:{index}"),
            task=TaskId("ps", index),
            client=uuid4(),
            client_task="worker:0",
            settings=Settings(operation_timeout_s=10),
        )
        for index, service in enumerate(services)
    ]
    for handle in handles:
        handle.connect(Deadline(5))
    local, *others = handles[2], *handles[:2]
    yield Fanout(others, lambda: local)
    for handle in handles:
        handle.close()


def add(number: int) -> Update:
    return Update(f"v{number}", UpdateRule.ASSIGN_ADD, np.array(1, np.float32))


def test_one_exchange_for_each_task_and_results_in_order(fanout: Fanout, services: list[ScriptedService]) -> None:
    tasks = [0, 1, None, 1, 0, None]
    results = fanout.run_all([Routed(task, add(number)) for number, task in enumerate(tasks)])
    assert [result.version for result in results] == list(range(6))
    assert [len(service.batches) for service in services] == [1, 1, 1]
    assert [operation.name for operation in services[1].batches[0].operations] == ["v1", "v3"]


def test_all_tasks_are_asked_at_once(fanout: Fanout, services: list[ScriptedService]) -> None:
    together = threading.Barrier(2, timeout=10)  # breaks unless both exchanges are under way at one time

    def answer(batch: Batch) -> BatchReply:
        together.wait()
        return echo(batch)

    for service in services[:2]:
        service.answer = answer
    assert len(fanout.run_all([Routed(0, add(0)), Routed(1, add(1))])) == 2


def test_replies_that_are_still_being_put_together_are_waited_for(
    fanout: Fanout, services: list[ScriptedService], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: set[OperationFuture[object]] = set()
    asked, asked_for_all = threading.Event(), threading.Event()
    call, wait = futures._Dependency.__call__, OperationFuture.wait

    def answer(batch: Batch) -> BatchReply:
        assert asked.wait(10)
        return echo(batch)

    def put_together(self: futures._Dependency, done: OperationFuture[object]) -> None:
        assert asked_for_all.wait(10)
        call(self, done)

    def noted_wait(self: OperationFuture[object], timeout_s: float | None = None) -> bool:
        waited.add(self)
        asked.set()
        is_third = len(waited) == 3  # after those of the two tasks
        if is_third and timeout_s != 0:
            asked_for_all.set()
        is_done = wait(self, timeout_s)
        if is_third:
            asked_for_all.set()
        return is_done

    for service in services[:2]:
        service.answer = answer
    monkeypatch.setattr(futures._Dependency, "__call__", put_together)
    monkeypatch.setattr(OperationFuture, "wait", noted_wait)
    assert [each.version for each in fanout.run_all([Routed(0, add(0)), Routed(1, add(1))])] == [0, 1]
    assert asked_for_all.is_set()


def test_the_expected_reply_is_the_sum_over_the_task(fanout: Fanout, services: list[ScriptedService]) -> None:
    fanout.run_all([Routed(0, Read("v1"), 100), Routed(0, Read("v2"), 20), Routed(1, Read("v3"), 3)])
    assert [service.batches[0].expected_reply_bytes for service in services[:2]] == [120, 3]


@pytest.mark.parametrize("tasks", [[0, 0, 0], [0, 1, 0]])
def test_an_error_is_raised_when_all_else_is_done(
    fanout: Fanout, services: list[ScriptedService], tasks: list[int]
) -> None:
    numbers = [1, 91, 2]
    with pytest.raises(NotFoundError, match="no v91"):
        fanout.run_all([Routed(task, add(number)) for task, number in zip(tasks, numbers, strict=True)])
    assert sum(len(batch.operations) for service in services for batch in service.batches) == 3


def test_a_task_that_takes_nothing_is_told_of_when_the_others_are_done(
    fanout: Fanout, services: list[ScriptedService]
) -> None:
    go_on, under_way = threading.Event(), threading.Event()

    def answer(batch: Batch) -> BatchReply:
        under_way.set()
        assert go_on.wait(10)
        return echo(batch)

    services[0].answer = answer
    fanout.handle(1).close()
    outcome = fanout.exchange_all_later([Routed(0, add(0)), Routed(1, add(1))])
    assert under_way.wait(10)
    assert not outcome.done()  # the first task still has the caller's array
    go_on.set()
    with pytest.raises(FailedPreconditionError, match="closed"):
        outcome.result(10)


def test_if_no_task_takes_anything_that_is_said_at_once(fanout: Fanout, services: list[ScriptedService]) -> None:
    fanout.handle(0).close()
    with pytest.raises(FailedPreconditionError, match="closed"):
        fanout.exchange_all_later([Routed(0, add(0)), Routed(1, add(1))])
    assert services[1].batches == []


def test_nothing_to_do_is_no_exchange(fanout: Fanout, services: list[ScriptedService]) -> None:
    assert fanout.run_all([]) == []
    assert all(service.batches == [] for service in services)


def test_later_returns_before_the_ps_answers(fanout: Fanout, services: list[ScriptedService]) -> None:
    go_on = threading.Event()

    def answer(batch: Batch) -> BatchReply:
        assert go_on.wait(10)
        return echo(batch)

    services[0].answer = answer
    future = fanout.exchange_all_later([Routed(0, add(4))])
    assert not future.done()
    go_on.set()
    assert [succeeded(reply).version for reply in future.result(10)] == [4]


def test_single_operations_raise_their_error(fanout: Fanout) -> None:
    assert fanout.run(1, add(5), expected_reply_bytes=0).version == 5
    with pytest.raises(NotFoundError):
        fanout.run(1, add(95), expected_reply_bytes=0)
    with pytest.raises(NotFoundError):
        fanout.run_later(None, add(95)).result(10)


@pytest.mark.parametrize("tasks", [[0], [0, 1]])
def test_results_live_no_longer_than_their_receiver_holds_them(
    fanout: Fanout, services: list[ScriptedService], tasks: list[int], eventually: Eventually
) -> None:
    """A training loop whose values are only freed by the garbage collector needs the memory of several steps."""

    def answer(batch: Batch) -> BatchReply:
        return BatchReply(tuple(Result(1, True, np.zeros(3)) for _ in batch.operations))

    for service in services:
        service.answer = answer
    gc.collect()
    gc.disable()
    try:
        results = fanout.run_all([Routed(task, Read(f"v{task}")) for task in tasks])
        tensors = [weakref.ref(each.tensor) for each in results if each.tensor is not None]
        assert len(tensors) == len(tasks)
        del results
        for service in services:
            service.batches.clear()
        eventually(lambda: [tensor() for tensor in tensors] == [None] * len(tasks))
    finally:
        gc.enable()


def test_what_puts_the_replies_of_several_tasks_together_is_waited_for(
    fanout: Fanout, services: list[ScriptedService], monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def held(batch: Batch) -> BatchReply:
        assert go_on.wait(10)
        return echo(batch)

    def result(future: OperationFuture[Any], timeout: float | None = None) -> Any:
        go_on.set()
        return of_future(future, timeout)

    services[1].answer = held
    of_future = OperationFuture.result
    monkeypatch.setattr(OperationFuture, "result", result)
    monkeypatch.setattr(PsHandle, "wait_for", lambda *_: None)  # as if all had answered at this instant
    assert fanout.exchange_all([Routed(0, add(0)), Routed(1, add(1))]) == [Result(0, True), Result(1, True)]
