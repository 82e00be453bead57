"""Queued batches on their way to one ps task: several at a time, in order, and none twice or lost when one fails."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from ps_protocol.cluster_spec import ClusterSpec, TaskId
from ps_protocol.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    ShardscopeError,
    StateLostError,
    UnavailableError,
)
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Batch, BatchReply, Declare, Gather, Read, Result, Update, UpdateRule, VariableSpec
from ps_protocol.ps_service import PendingExchange, Transport
from ps_server.core.parameter_server import ParameterServer
from tests.unit.worker_client.fakes import PipelinedService, endpoint, succeed
from worker_client.connection.handle import PsHandle
from worker_client.connection.pipeline import WindowLimits
from worker_client.connection.retry import Deadline, RetryPolicy
from worker_client.connection.settings import Settings

WAIT_S = 10.0
ADD = Update("v", UpdateRule.ASSIGN_ADD, np.array(1, np.float32))


def made_handle(service: Transport, **settings: Any) -> PsHandle:
    handle = PsHandle(
        endpoint(service),
        task=TaskId("ps", 0),
        client=uuid4(),
        client_task="worker:0",
        settings=Settings(
            **{"operation_timeout_s": 30, "retry": RetryPolicy(sleep=lambda _: None), **settings},
        ),
    )
    handle.connect(Deadline(WAIT_S))
    return handle


@pytest.fixture
def service() -> PipelinedService:
    return PipelinedService()


@pytest.fixture
def handle(service: PipelinedService) -> Iterator[PsHandle]:
    made = made_handle(service, window=WindowLimits(max_batches=4, max_bytes=100, max_reply_bytes=50, max_merged=1))
    yield made
    made.close()


class Pile:
    """Lets the sender begin nothing until ``go``, so that what is submitted before piles up."""

    def __init__(self, service: PipelinedService):
        self._arrived = threading.Event()
        self._may_go = threading.Event()
        service.before_begin = lambda _: self._wait()

    def _wait(self) -> None:
        self._arrived.set()
        assert self._may_go.wait(WAIT_S)

    def wait_for_first(self) -> None:
        """Until the sender has taken what was submitted so far, so that nothing can join that batch."""
        assert self._arrived.wait(WAIT_S)

    def go(self) -> None:
        self._may_go.set()


def submitted(handle: PsHandle, number: int) -> list[Future[Any]]:
    return [handle.submit([ADD], expected_reply_bytes=0) for _ in range(number)]


def once(error: Exception, when: Callable[[Batch], bool]) -> Callable[[Batch], BatchReply]:
    """An answer that fails for the first batch that ``when`` holds for."""
    pending = [error]

    def answer(batch: Batch) -> BatchReply:
        if pending and when(batch):
            raise pending.pop()
        return succeed(batch)

    return answer


# -- the window -----------------------------------------------------------------------------------


def test_the_next_batches_leave_before_the_first_reply_is_in(handle: PsHandle, service: PipelinedService) -> None:
    pile = Pile(service)
    futures = submitted(handle, 10)
    pile.go()
    for future in futures:
        assert future.result(WAIT_S)
    assert service.most_begun == 4
    assert [batch.sequence for batch in service.batches] == list(range(1, 11))
    assert [event for event in service.events if event.startswith("finish")] == [f"finish {n}" for n in range(1, 11)]


def test_the_window_is_bounded_by_bytes(handle: PsHandle, service: PipelinedService) -> None:
    pile = Pile(service)
    large = Update("v", UpdateRule.ASSIGN_ADD, np.zeros(10, np.float32))
    futures = [handle.submit([large], expected_reply_bytes=0) for _ in range(5)]
    pile.go()
    for future in futures:
        future.result(WAIT_S)
    assert service.most_begun == 2


@pytest.mark.parametrize(
    ("operation", "expected_reply_bytes"),
    [
        (Update("v", UpdateRule.ASSIGN_ADD, np.zeros(26, np.float32)), 0),
        (ADD, None),
        (ADD, 51),
    ],
)
def test_what_is_large_or_has_a_large_reply_travels_alone(
    handle: PsHandle, service: PipelinedService, operation: Update, expected_reply_bytes: int | None
) -> None:
    pile = Pile(service)
    before = submitted(handle, 2)
    alone = handle.submit([operation], expected_reply_bytes=expected_reply_bytes)
    after = submitted(handle, 1)
    pile.go()
    for future in [*before, alone, *after]:
        future.result(WAIT_S)
    assert service.events == ["begin 1", "begin 2", "finish 1", "finish 2", "exchange 3", "begin 4", "finish 4"]


def test_reads_with_small_replies_are_pipelined_without_a_number(handle: PsHandle, service: PipelinedService) -> None:
    pile = Pile(service)
    futures = [*submitted(handle, 1), handle.submit([Read("v")], expected_reply_bytes=4), *submitted(handle, 1)]
    pile.go()
    for future in futures:
        future.result(WAIT_S)
    assert service.events == ["begin 1", "begin 0", "begin 2", "finish 1", "finish 0", "finish 2"]


def test_what_the_transport_will_not_pipeline_is_exchanged_after_those_begun(
    handle: PsHandle, service: PipelinedService
) -> None:
    pile = Pile(service)
    service.refused = {3}
    futures = submitted(handle, 4)
    pile.go()
    for future in futures:
        future.result(WAIT_S)
    assert service.events == ["begin 1", "begin 2", "finish 1", "finish 2", "exchange 3", "begin 4", "finish 4"]


def test_an_update_that_waits_goes_behind_those_on_their_way(handle: PsHandle, service: PipelinedService) -> None:
    pile = Pile(service)
    submitted(handle, 2)
    direct = threading.Thread(target=handle.exchange, args=([ADD],), kwargs={"expected_reply_bytes": 0})
    direct.start()
    pile.go()
    direct.join(WAIT_S)
    assert [batch.sequence for batch in service.batches] == [1, 2, 3]


def test_an_update_that_waits_does_not_wait_for_another_threads(handle: PsHandle, service: PipelinedService) -> None:
    """It queues up behind that one, where nobody can overtake it."""
    arrived, go_on = threading.Event(), threading.Event()

    def answer(batch: Batch) -> BatchReply:
        if batch.sequence == 1:
            arrived.set()
            assert go_on.wait(WAIT_S)
        return succeed(batch)

    service.answer = answer
    first = threading.Thread(target=handle.exchange, args=([ADD],))
    second = threading.Thread(target=handle.exchange, args=([ADD],))
    first.start()
    assert arrived.wait(WAIT_S)
    second.start()
    go_on.set()
    first.join(WAIT_S)
    second.join(WAIT_S)
    assert [batch.sequence for batch in service.batches] == [1, 2]


def test_who_has_waited_for_the_last_one_finds_the_way_free(handle: PsHandle, service: PipelinedService) -> None:
    for _ in range(50):
        submitted(handle, 1)[0].result(WAIT_S)
        handle.exchange([ADD])
    assert service.threads == [threading.current_thread().name] * 50  # nothing went through the queue but the first


def test_a_callback_that_would_wait_for_its_own_thread_is_refused(handle: PsHandle, service: PipelinedService) -> None:
    pile = Pile(service)
    outcome: Future[Any] = Future()

    def callback(_: Future[Any]) -> None:
        try:
            outcome.set_result(handle.exchange([ADD]))
        except FailedPreconditionError as error:
            outcome.set_exception(error)

    futures = submitted(handle, 2)
    futures[0].add_done_callback(callback)
    pile.go()
    with pytest.raises(FailedPreconditionError, match="wait=False"):
        outcome.result(WAIT_S)
    futures[1].result(WAIT_S)


def test_close_takes_the_replies_of_all_that_was_begun(handle: PsHandle, service: PipelinedService) -> None:
    pile = Pile(service)
    futures = submitted(handle, 7)
    pile.go()
    handle.close()
    assert all(future.done() for future in futures)
    assert service.begun == []


# -- sharing a batch --------------------------------------------------------------------------------


@pytest.fixture
def merging(service: PipelinedService) -> Iterator[PsHandle]:
    made = made_handle(service, window=WindowLimits(max_batches=4, max_merged=5))
    yield made
    made.close()


def adding(names: str) -> list[Update]:
    return [Update(name, UpdateRule.ASSIGN_ADD, np.array(1, np.float32)) for name in names]


def pile_of(service: PipelinedService, handle: PsHandle, *names: str) -> list[Future[Any]]:
    """Submits updates of those variables, of which the first has left before the others are queued."""
    pile = Pile(service)
    futures: list[Future[Any]] = [handle.submit(adding(names[0]), expected_reply_bytes=0)]
    pile.wait_for_first()
    futures += [handle.submit(adding(each), expected_reply_bytes=0) for each in names[1:]]
    pile.go()
    return futures


def by_name(batch: Batch) -> BatchReply:
    """Answers each operation with its name's number as the version, and refuses those on "x"."""
    return BatchReply(
        tuple(
            NotFoundError("no x") if each.name == "x" else Result(ord(each.name), initialized=True)
            for each in batch.operations
        )
    )


def test_small_updates_share_a_batch_and_each_gets_its_own_replies(
    merging: PsHandle, service: PipelinedService
) -> None:
    service.answer = by_name
    futures = pile_of(service, merging, "z", "a", "bc", "x", "", "de", "f")
    replies = [future.result(WAIT_S) for future in futures]
    assert [[reply.version for reply in each if isinstance(reply, Result)] for each in replies] == [
        [ord(name) for name in names] for names in ("z", "a", "bc", "", "", "de", "f")
    ]
    assert isinstance(replies[3][0], NotFoundError)
    assert ["".join(each.name for each in batch.operations) for batch in service.batches] == ["z", "abcxde", "f"]
    assert [batch.sequence for batch in service.batches] == [1, 2, 3]


def test_one_that_makes_its_batch_invalid_does_not_take_the_others_along(
    merging: PsHandle, service: PipelinedService
) -> None:
    service.refused = {2}

    def answer(batch: Batch) -> BatchReply:
        if any(each.name == "x" for each in batch.operations):
            raise InvalidArgumentError("x cannot be sent")
        return succeed(batch)

    service.answer = answer
    futures = pile_of(service, merging, "z", "a", "x", "b")
    for position in (0, 1, 3):
        assert len(futures[position].result(WAIT_S)) == 1
    with pytest.raises(InvalidArgumentError, match="cannot be sent"):
        futures[2].result(WAIT_S)
    names = ["".join(each.name for each in batch.operations) for batch in service.batches]
    assert names == ["z", "axb", "a", "x", "b"]
    assert [batch.sequence for batch in service.batches] == [1, 2, 3, 4, 5]


def test_an_outcome_that_is_not_known_is_that_of_all_who_shared_the_batch(
    merging: PsHandle, service: PipelinedService
) -> None:
    """They may have been applied: sent one by one, under new numbers, they would count twice."""

    def answer(batch: Batch) -> BatchReply:
        if batch.sequence == 2:
            raise StateLostError("anew")
        return succeed(batch)

    service.answer = answer
    futures = pile_of(service, merging, "z", "a", "b")
    assert futures[0].result(WAIT_S)
    for future in futures[1:]:
        with pytest.raises(StateLostError):
            future.result(WAIT_S)
    assert [batch.sequence for batch in service.batches] == [1, 2]


# -- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [UnavailableError("cut"), DeadlineExceededError("late")])
def test_after_a_lost_reply_all_on_their_way_are_exchanged_again_in_order(
    handle: PsHandle, service: PipelinedService, error: ShardscopeError
) -> None:
    pile = Pile(service)
    service.answer = once(error, lambda batch: batch.sequence == 2)
    futures = submitted(handle, 4)
    pile.go()
    for future in futures:
        assert future.result(WAIT_S)
    assert service.events == [
        *(f"begin {n}" for n in (1, 2, 3, 4)),
        *("finish 1", "finish 2"),
        *(f"exchange {n}" for n in (2, 3, 4)),
    ]
    again = {batch.sequence: batch for batch in service.batches}
    assert all(batch is again[batch.sequence] for batch in service.batches)  # unchanged


def test_a_refused_batch_is_not_repeated_but_those_behind_it_are(handle: PsHandle, service: PipelinedService) -> None:
    pile = Pile(service)
    service.answer = once(InvalidArgumentError("bad"), lambda batch: batch.sequence == 2)
    futures = submitted(handle, 4)
    pile.go()
    with pytest.raises(InvalidArgumentError, match="bad"):
        futures[1].result(WAIT_S)
    for future in (futures[0], *futures[2:]):
        assert future.result(WAIT_S)
    assert service.events[-2:] == ["exchange 3", "exchange 4"]
    assert "exchange 2" not in service.events


@pytest.mark.parametrize(
    ("error", "is_repeated"), [(UnavailableError("cut"), True), (InvalidArgumentError("x"), False)]
)
def test_a_batch_that_cannot_be_sent_takes_those_before_it_along(
    handle: PsHandle, service: PipelinedService, error: ShardscopeError, is_repeated: bool
) -> None:
    may_go = threading.Event()
    pending = [error]

    def before_begin(batch: Batch) -> None:
        assert may_go.wait(WAIT_S)
        if batch.sequence == 3 and pending:
            service.begun.clear()
            raise pending.pop()

    service.before_begin = before_begin
    futures = submitted(handle, 4)
    may_go.set()
    for future in (*futures[:2], futures[3]):
        assert future.result(WAIT_S)
    if is_repeated:
        assert futures[2].result(WAIT_S)
    else:
        with pytest.raises(InvalidArgumentError):
            futures[2].result(WAIT_S)
    again = ["exchange 1", "exchange 2", *(["exchange 3"] if is_repeated else [])]
    assert service.events == ["begin 1", "begin 2", *again, "begin 4", "finish 4"]


def test_a_pause_that_the_ps_asks_for_is_made_before_the_next_try(service: PipelinedService) -> None:
    pauses: list[float] = []
    handle = made_handle(service, retry=RetryPolicy(sleep=pauses.append, random=random.Random(0)))
    service.answer = once(ResourceExhaustedError("full", retry_after_s=3), lambda _: True)
    assert handle.submit([ADD], expected_reply_bytes=0).result(WAIT_S)
    handle.close()
    assert pauses == [3]


# -- the whole --------------------------------------------------------------------------------------


class UnreliablePipeline:
    """A ps task behind connections that break anywhere: before or after batches were applied, or in between.

    Attributes:
        faults: How often each kind has happened.
    """

    def __init__(self, seed: int):
        self.core = ParameterServer(cluster_spec=ClusterSpec({"ps": ["h:1"]}), task_index=0)
        self.faults = dict.fromkeys(("not sent", "sent but lost", "reply lost", "not pipelined", "exchange"), 0)
        self._random = random.Random(seed)
        self._on_their_way: list[_OnItsWay] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.core, name)

    def begin(self, batch: Batch, *, timeout_s: float) -> PendingExchange | None:
        if self._happens("not pipelined", 0.05):
            return None
        if self._happens("not sent", 0.05):
            raise self._break()
        begun = _OnItsWay(self, batch)
        self._on_their_way.append(begun)
        if self._happens("sent but lost", 0.05):
            raise self._break()
        return begun

    def exchange(self, batch: Batch, *, timeout_s: float) -> BatchReply:
        assert not self._on_their_way
        applied = self._random.random() < 0.5
        if applied:
            reply = self.core.exchange(batch, timeout_s=timeout_s)
        if self._happens("exchange", 0.2):
            raise UnavailableError("cut")
        return reply if applied else self.core.exchange(batch, timeout_s=timeout_s)

    def finish(self, begun: _OnItsWay) -> BatchReply:
        if self._happens("reply lost", 0.05):
            raise self._break()
        assert self._on_their_way.pop(0) is begun
        return begun.reply()

    def _happens(self, fault: str, probability: float) -> bool:
        happens = self._random.random() < probability
        self.faults[fault] += happens
        return happens

    def _break(self) -> ShardscopeError:
        """Some of what is on its way still arrives; the replies do not."""
        for begun in self._on_their_way[: self._random.randint(0, len(self._on_their_way))]:
            begun.reply()
        self._on_their_way.clear()
        return self._random.choice([UnavailableError("cut"), DeadlineExceededError("late")])


class _OnItsWay:
    def __init__(self, service: UnreliablePipeline, batch: Batch):
        self._service = service
        self._batch = batch

    def reply(self) -> BatchReply:
        return self._service.core.exchange(self._batch, timeout_s=WAIT_S)

    def finish(self) -> BatchReply:
        return self._service.finish(self)


@pytest.mark.parametrize(("seed", "max_merged"), [(0, 1), (1, 1), (2, 3), (3, 3)])
def test_whatever_breaks_each_update_counts_once_and_in_order(seed: int, max_merged: int) -> None:
    """Each update replaces the value by the next number and adds to a sum; the ps refuses none as overtaken."""
    service, number_of_updates = UnreliablePipeline(seed), 300 * max_merged
    handle = made_handle(service, window=WindowLimits(max_batches=8, max_merged=max_merged), operation_timeout_s=60)
    handle.exchange(
        [
            Declare(VariableSpec(name, np.dtype(np.int64), shape), InitializerSpec(ConstantKind(0)))
            for name, shape in (("last", ()), ("sum", ()), ("rows", (4, 2)))
        ]
    )
    futures = []
    for number in range(1, number_of_updates + 1):
        value = np.array(number, np.int64)
        both = [Update("last", UpdateRule.ASSIGN, value), Update("sum", UpdateRule.ASSIGN_ADD, np.array(1, np.int64))]
        futures.append(handle.submit(both, expected_reply_bytes=0))
        if number % 40 == 0:
            reply, _ = handle.exchange([Read("last"), Gather("rows", np.array([1]))], expected_reply_bytes=24)
            assert isinstance(reply, Result)
            assert reply.tensor == number  # a read overtakes nothing and misses nothing
    acknowledged = sum(isinstance(reply, Result) for each in futures for reply in each.result(WAIT_S)) // 2
    (total,) = handle.exchange([Read("sum")], expected_reply_bytes=8)
    handle.close()
    assert isinstance(total, Result)
    assert total.tensor == acknowledged == number_of_updates
    assert total.version == number_of_updates
    assert all(service.faults.values()), service.faults
