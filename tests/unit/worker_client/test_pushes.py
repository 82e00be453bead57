"""Pushes that fail on their way: which of them are taken back, and when."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from typing import cast

import numpy as np
import pytest

from ps_protocol.errors import NotFoundError, ResourceExhaustedError, UnavailableError
from ps_protocol.operations import Reply, Result, Update, UpdateRule
from worker_client import pushes
from worker_client.error_feedback import ReversibleUpdate
from worker_client.fanout import Fanout, Routed
from worker_client.pushes import RoutedUpdate
from worker_client.variable_wire import VariableWire

DONE = Result(1, True)


class FakeFanout:
    """Notes what is submitted; refuses to take more for ps tasks that it is told.

    Attributes:
        submitted: For each ps task the names of the variables, and the future of the replies.
        full: Ps tasks whose queue is full.
    """

    def __init__(self) -> None:
        self.submitted: dict[int | None, tuple[list[str], Future[list[Reply]]]] = {}
        self.full: set[int] = set()

    def exchange_all_later(self, routed: Sequence[Routed]) -> Future[list[Reply]]:
        (ps_task,) = {each.ps_task for each in routed}
        if ps_task in self.full:
            raise ResourceExhaustedError("full")
        future: Future[list[Reply]] = Future()
        self.submitted[ps_task] = [each.operation.name for each in routed], future
        return future


class Trace:
    """Pushes and the names of those that were taken back."""

    def __init__(self) -> None:
        self.taken_back: list[str] = []

    def push(self, ps_task: int, name: str) -> RoutedUpdate:
        update = Update(name, UpdateRule.ASSIGN_ADD, np.zeros(1, np.float32))
        return ps_task, ReversibleUpdate(update, lambda: self.taken_back.append(name))


@pytest.fixture
def fanout() -> FakeFanout:
    return FakeFanout()


@pytest.fixture
def trace() -> Trace:
    return Trace()


def run_later(fanout: FakeFanout, routed: list[RoutedUpdate]) -> Future[None]:
    return pushes.run_all_later(cast(Fanout, fanout), routed)


def test_one_exchange_for_each_task(fanout: FakeFanout, trace: Trace) -> None:
    outcome = run_later(fanout, [trace.push(0, "a"), trace.push(1, "b"), trace.push(0, "c")])
    assert {task: names for task, (names, _) in fanout.submitted.items()} == {0: ["a", "c"], 1: ["b"]}
    fanout.submitted[0][1].set_result([DONE, DONE])
    assert not outcome.done()
    fanout.submitted[1][1].set_result([DONE])
    outcome.result(timeout=0)
    assert trace.taken_back == []


def test_what_was_refused_is_taken_back_and_the_first_error_is_raised(fanout: FakeFanout, trace: Trace) -> None:
    outcome = run_later(fanout, [trace.push(0, "a"), trace.push(1, "b"), trace.push(0, "c")])
    fanout.submitted[1][1].set_result([NotFoundError("b is gone")])
    fanout.submitted[0][1].set_result([DONE, NotFoundError("c is gone")])
    with pytest.raises(NotFoundError, match="b is gone"):
        outcome.result(timeout=0)
    assert trace.taken_back == ["b", "c"]


def test_a_task_that_fails_takes_only_its_own_back(fanout: FakeFanout, trace: Trace) -> None:
    outcome = run_later(fanout, [trace.push(0, "a"), trace.push(1, "b")])
    fanout.submitted[0][1].set_exception(UnavailableError("gone"))
    fanout.submitted[1][1].set_result([DONE])
    with pytest.raises(UnavailableError):
        outcome.result(timeout=0)
    assert trace.taken_back == ["a"]


def test_what_was_not_submitted_is_taken_back(fanout: FakeFanout, trace: Trace) -> None:
    fanout.full = {1}
    outcome = run_later(fanout, [trace.push(0, "a"), trace.push(1, "b"), trace.push(2, "c")])
    assert set(fanout.submitted) == {0}
    assert trace.taken_back == ["b", "c"]
    assert not outcome.done()  # the arrays of the first one are in use
    fanout.submitted[0][1].set_result([DONE])
    with pytest.raises(ResourceExhaustedError):
        outcome.result(timeout=0)
    assert trace.taken_back == ["b", "c"]


def test_if_nothing_can_be_sent_that_is_said_at_once(fanout: FakeFanout, trace: Trace) -> None:
    fanout.full = {0}
    with pytest.raises(ResourceExhaustedError):
        run_later(fanout, [trace.push(0, "a"), trace.push(1, "b")])
    assert not fanout.submitted
    assert trace.taken_back == ["a", "b"]


def test_a_push_that_cannot_be_made_takes_back_those_before(trace: Trace) -> None:
    class Variable:
        ps_task = 0

        def push(self, update: Update) -> ReversibleUpdate:
            if update.name == "too large":
                raise MemoryError
            return trace.push(0, update.name)[1]

    updates = [Update(name, UpdateRule.ASSIGN_ADD, np.zeros(1)) for name in ("a", "b", "too large", "c")]
    with pytest.raises(MemoryError):
        pushes.prepared([(cast(VariableWire, Variable()), update) for update in updates])
    assert trace.taken_back == ["a", "b"]


def test_a_push_on_its_way_cannot_be_cancelled(trace: Trace) -> None:
    sent: Future[int] = Future()
    outcome = pushes.after_failure(sent, trace.push(0, "a")[1].roll_back)
    assert not outcome.cancel()
    sent.set_result(1)
    assert outcome.result(timeout=0) == 1
    assert trace.taken_back == []


def test_a_push_that_was_cancelled_below_is_taken_back(trace: Trace) -> None:
    sent: Future[int] = Future()
    outcome = pushes.after_failure(sent, trace.push(0, "a")[1].roll_back)
    sent.cancel()
    assert isinstance(outcome.exception(timeout=0), CancelledError)
    assert trace.taken_back == ["a"]


def test_whoever_waits_finds_it_taken_back(trace: Trace) -> None:
    sent: Future[int] = Future()
    seen: list[list[str]] = []
    outcome = pushes.after_failure(sent, trace.push(0, "a")[1].roll_back)
    outcome.add_done_callback(lambda _: seen.append(list(trace.taken_back)))
    sent.set_exception(UnavailableError("gone"))
    assert seen == [["a"]]


def test_an_error_while_taking_back_is_not_swallowed() -> None:
    def fail() -> None:
        raise MemoryError

    sent: Future[int] = Future()
    outcome = pushes.after_failure(sent, fail)
    sent.set_exception(UnavailableError("gone"))
    assert isinstance(outcome.exception(timeout=0), MemoryError)
