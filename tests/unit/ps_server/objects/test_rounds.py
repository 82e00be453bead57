"""The rounds of a group as a shared object: what the pure functions say, in JSON."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError
from ps_protocol.shared_objects import Json
from ps_protocol.training.round_messages import Answer, Event, HandIn, Join, Silent, Verdict, event_record
from ps_server.objects.rounds import ROUNDS as KIND


class Machine:
    """A group, and whether any function has changed a state that it was given."""

    def __init__(self) -> None:
        self.state = KIND.empty({})

    def do(self, event: Event) -> Answer:
        before = copy.deepcopy(self.state)
        step = KIND.step(self.state, json.loads(json.dumps(event_record(event))))
        assert self.state == before
        assert step is not None
        self.state, answer = step
        return Answer.of_record(json.loads(json.dumps(answer)))

    def look(self, **question: Any) -> Answer | None:
        answer = KIND.look(self.state, question)
        return None if answer is None else Answer.of_record(answer)


def trained_by_two() -> Machine:
    machine = Machine()
    machine.do(Join("worker:0", "a", "bsp(total=2)"))
    machine.do(Join("worker:1", "b", "bsp(total=2)"))
    return machine


def test_a_round_commits_and_who_waits_for_it_is_answered() -> None:
    machine = trained_by_two()
    assert machine.do(HandIn("worker:0", "a", 1, 0)).verdict is None
    assert machine.look(worker="worker:0", incarnation="a") is None
    assert machine.do(HandIn("worker:1", "b", 1, 0)).verdict is Verdict.APPLIED
    answer = machine.look(worker="worker:0", incarnation="a")
    assert answer is not None
    assert (answer.base, [each.verdict for each in answer.outcomes]) == (1, [Verdict.APPLIED])
    assert [each.seat for each in answer.decisions[0].parts] == [0, 1]


def test_what_changes_nothing_gives_the_same_state() -> None:
    machine = trained_by_two()
    before = machine.state
    machine.do(Join("worker:1", "b", "bsp(total=2)"))
    machine.do(Silent("worker:1", "of another process"))
    assert machine.state is before


def test_a_worker_that_is_silent_is_told_so() -> None:
    machine = trained_by_two()
    machine.do(HandIn("worker:0", "a", 1, 0))
    assert machine.look(worker="worker:0", incarnation="a") is None
    machine.do(Silent("worker:0", "a"))
    answer = machine.look(worker="worker:0", incarnation="a")
    assert answer is not None
    assert answer.is_silent


def test_anybody_may_look_at_once() -> None:
    assert Machine().look() == Answer("", 0)
    looked = trained_by_two().look()
    assert looked is not None
    assert [each.worker for each in looked.awaited] == ["worker:0", "worker:1"]


def test_who_was_replaced_does_not_wait() -> None:
    machine = trained_by_two()
    machine.do(HandIn("worker:0", "a", 1, 0))
    machine.do(Join("worker:0", "c", "bsp(total=2)"))
    with pytest.raises(FailedPreconditionError, match="is the process c now"):
        machine.look(worker="worker:0", incarnation="a")


@pytest.mark.parametrize("event", [{"do": "join"}, {"event": "dance"}, {"event": ["join"]}, {"event": "join"}])
def test_what_is_no_event_is_refused(event: Json) -> None:
    machine = trained_by_two()
    before = machine.state
    with pytest.raises(InvalidArgumentError, match="event"):
        KIND.step(before, event)
    assert machine.state is before


def test_a_question_of_nobody_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="incarnation is None"):
        KIND.look(trained_by_two().state, {"worker": "worker:0"})
