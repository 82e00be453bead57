"""Pushes that fail on their way: which of them are taken back, and when."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from typing import cast

import numpy as np
import pytest

from ps_protocol.errors import NotFoundError, ResourceExhaustedError, UnavailableError
from ps_protocol.operations import PsOperation, Reply, Result, Update, UpdateRule
from worker_client.connection.fanout import Fanout
from worker_client.connection.futures import mapped
from worker_client.connection.handle import PsHandle
from worker_client.variables import prepared_updates as pushes
from worker_client.variables.base import VariableBase
from worker_client.variables.error_feedback import PreparedUpdate
from worker_client.variables.prepared_updates import RoutedUpdate

DONE = Result(1, True)


class FakeTasks:
    """Notes what is submitted to three ps tasks; refuses to take more for those that it is told.

    Attributes:
        submitted: For each ps task the names of the variables, and the future of the replies.
        full: Ps tasks whose queue is full.
    """

    def __init__(self) -> None:
        self.submitted: dict[int, tuple[list[str], Future[tuple[Reply, ...]]]] = {}
        self.full: set[int] = set()
        handles = [cast(PsHandle, FakeHandle(self, number)) for number in range(3)]
        self.fanout = Fanout(handles, local=lambda: handles[0])


class FakeHandle:
    """The handle of one of them."""

    def __init__(self, tasks: FakeTasks, number: int) -> None:
        self._tasks, self._number = tasks, number

    def submit(
        self,
        operations: Sequence[PsOperation],
        *,
        expected_reply_bytes: int,
        caller: object = None,
    ) -> Future[tuple[Reply, ...]]:
        del caller
        assert not expected_reply_bytes
        if self._number in self._tasks.full:
            raise ResourceExhaustedError("full")
        future: Future[tuple[Reply, ...]] = Future()
        self._tasks.submitted[self._number] = [each.name for each in operations], future
        return future

    def exchange(self, operations: Sequence[PsOperation], *, expected_reply_bytes: int) -> tuple[Reply, ...]:
        future = self.submit(operations, expected_reply_bytes=expected_reply_bytes)
        future.set_result((DONE, *[NotFoundError("gone")] * (len(operations) - 1)))
        return future.result()


class Trace:
    """Pushes and the names of those that were taken back."""

    def __init__(self) -> None:
        self.taken_back: list[str] = []

    def push(self, ps_task: int, name: str) -> RoutedUpdate:
        update = Update(name, UpdateRule.ASSIGN_ADD, np.zeros(1, np.float32))
        return ps_task, PreparedUpdate(update, lambda: self.taken_back.append(name))


@pytest.fixture
def tasks() -> FakeTasks:
    return FakeTasks()


@pytest.fixture
def trace() -> Trace:
    return Trace()


def run_later(tasks: FakeTasks, routed: list[RoutedUpdate]) -> Future[None]:
    return pushes.send_all_later(tasks.fanout, routed)


def test_one_exchange_for_each_task(tasks: FakeTasks, trace: Trace) -> None:
    outcome = run_later(tasks, [trace.push(0, "a"), trace.push(1, "b"), trace.push(0, "c")])
    assert {task: names for task, (names, _) in tasks.submitted.items()} == {0: ["a", "c"], 1: ["b"]}
    tasks.submitted[0][1].set_result((DONE, DONE))
    assert not outcome.done()
    tasks.submitted[1][1].set_result((DONE,))
    outcome.result(timeout=0)
    assert trace.taken_back == []


def test_what_was_refused_is_taken_back_and_the_first_error_is_raised(tasks: FakeTasks, trace: Trace) -> None:
    outcome = run_later(tasks, [trace.push(0, "a"), trace.push(1, "b"), trace.push(0, "c")])
    tasks.submitted[1][1].set_result((NotFoundError("b is gone"),))
    tasks.submitted[0][1].set_result((DONE, NotFoundError("c is gone")))
    with pytest.raises(NotFoundError, match="b is gone"):
        outcome.result(timeout=0)
    assert trace.taken_back == ["b", "c"]


def test_what_one_task_refuses_while_it_is_waited_for_is_taken_back(tasks: FakeTasks, trace: Trace) -> None:
    with pytest.raises(NotFoundError):
        pushes.send_all(tasks.fanout.exchange_all, [trace.push(0, "a"), trace.push(0, "b")])
    assert trace.taken_back == ["b"]


def test_if_the_one_task_takes_nothing_all_is_taken_back(tasks: FakeTasks, trace: Trace) -> None:
    tasks.full = {0}
    with pytest.raises(ResourceExhaustedError):
        pushes.send_all(tasks.fanout.exchange_all, [trace.push(0, "a"), trace.push(0, "b")])
    assert trace.taken_back == ["a", "b"]


def test_a_task_that_fails_takes_only_its_own_back(tasks: FakeTasks, trace: Trace) -> None:
    outcome = run_later(tasks, [trace.push(0, "a"), trace.push(1, "b")])
    tasks.submitted[0][1].set_exception(UnavailableError("gone"))
    tasks.submitted[1][1].set_result((DONE,))
    with pytest.raises(UnavailableError):
        outcome.result(timeout=0)
    assert trace.taken_back == ["a"]


def test_what_was_not_submitted_is_taken_back(tasks: FakeTasks, trace: Trace) -> None:
    tasks.full = {1}
    outcome = run_later(tasks, [trace.push(0, "a"), trace.push(1, "b"), trace.push(2, "c")])
    assert set(tasks.submitted) == {0}
    assert trace.taken_back == ["b", "c"]
    assert not outcome.done()  # the arrays of the first one are in use
    tasks.submitted[0][1].set_result((DONE,))
    with pytest.raises(ResourceExhaustedError):
        outcome.result(timeout=0)
    assert trace.taken_back == ["b", "c"]


def test_if_nothing_can_be_sent_that_is_said_at_once(tasks: FakeTasks, trace: Trace) -> None:
    tasks.full = {0}
    with pytest.raises(ResourceExhaustedError):
        run_later(tasks, [trace.push(0, "a"), trace.push(1, "b")])
    assert not tasks.submitted
    assert trace.taken_back == ["a", "b"]


def test_a_push_that_cannot_be_made_takes_back_those_before(trace: Trace) -> None:
    class Variable:
        ps_task = 0

        def push(self, update: Update) -> PreparedUpdate:
            if update.name == "too large":
                raise MemoryError
            return trace.push(0, update.name)[1]

    updates = [Update(name, UpdateRule.ASSIGN_ADD, np.zeros(1)) for name in ("a", "b", "too large", "c")]
    with pytest.raises(MemoryError):
        pushes.prepared([(cast(VariableBase, Variable()), update) for update in updates])
    assert trace.taken_back == ["a", "b"]


def test_a_push_on_its_way_cannot_be_cancelled(trace: Trace) -> None:
    sent: Future[int] = Future()
    outcome = mapped(sent, lambda done: done, trace.push(0, "a")[1].roll_back)
    assert not outcome.cancel()
    sent.set_result(1)
    assert outcome.result(timeout=0) == 1
    assert trace.taken_back == []


def test_a_push_that_was_cancelled_below_is_taken_back(trace: Trace) -> None:
    sent: Future[int] = Future()
    outcome = mapped(sent, lambda done: done, trace.push(0, "a")[1].roll_back)
    sent.cancel()
    assert isinstance(outcome.exception(timeout=0), CancelledError)
    assert trace.taken_back == ["a"]


def test_whoever_waits_finds_it_taken_back(trace: Trace) -> None:
    sent: Future[int] = Future()
    seen: list[list[str]] = []
    outcome = mapped(sent, lambda done: done, trace.push(0, "a")[1].roll_back)
    outcome.add_done_callback(lambda _: seen.append(list(trace.taken_back)))
    sent.set_exception(UnavailableError("gone"))
    assert seen == [["a"]]


def test_an_error_while_taking_back_is_not_swallowed() -> None:
    def fail() -> None:
        raise MemoryError

    sent: Future[int] = Future()
    outcome = mapped(sent, lambda done: done, fail)
    sent.set_exception(UnavailableError("gone"))
    assert isinstance(outcome.exception(timeout=0), MemoryError)
