"""The barrier as a pure machine: all orders of what happens to it, and what it never does."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.shared_objects import Json
from ps_server.objects.barrier import BARRIER

TASKS = ("worker:0", "worker:1", "worker:2")


class Machine:
    """A barrier, and whether any function has changed a state that it was given."""

    def __init__(self) -> None:
        self.state = BARRIER.empty({})

    def do(self, event: Json) -> Json:
        before = copy.deepcopy(self.state)
        step = BARRIER.step(self.state, event)
        assert self.state == before
        assert step is not None
        self.state, answer = step
        return answer

    def arrive(self, by: str, call: int = 1, count: int = 3, *, identity: str = "", store: str = "s") -> int:
        event = {"do": "arrive", "by": by, "id": identity or by, "call": call, "count": count, "store": store}
        meeting = self.do(event)["meeting"]
        assert isinstance(meeting, int)
        return meeting

    def leave(self, by: str, call: int = 1) -> Json:
        return self.do({"do": "leave", "by": by, "id": by, "call": call})

    def gone(self, *gone: str, workers: tuple[str, ...] | None = TASKS, meeting: int = 1) -> Json:
        possible = None if workers is None else [each for each in workers if each not in gone]
        return self.do({"do": "gone", "gone": list(gone), "workers": possible, "meeting": meeting, "why": f"{gone}"})

    def look(self, by: str, meeting: int = 1, call: int = 1) -> Json | None:
        return BARRIER.look(self.state, {"by": by, "id": by, "call": call, "meeting": meeting})


def test_they_meet_again_and_again() -> None:
    machine = Machine()
    for meeting in (1, 2, 3):
        for by in TASKS:
            assert machine.look(by, meeting, meeting) == {"again": True}
            assert machine.arrive(by, meeting) == meeting
            assert machine.look(by, meeting, meeting) == ({"met": True} if by == TASKS[-1] else None)
        assert [machine.look(by, meeting, meeting) for by in TASKS] == [{"met": True}] * 3


def test_in_every_order_nobody_goes_on_before_the_last_has_come() -> None:
    for order in itertools.permutations(TASKS):
        machine = Machine()
        for number, by in enumerate(order):
            machine.arrive(by)
            machine.arrive(by)  # as after a lost reply
            for other in order[: number + 1]:
                assert (machine.look(other) == {"met": True}) is (number == 2)


def test_an_arrival_that_is_repeated_after_the_meeting_is_of_that_meeting() -> None:
    machine = Machine()
    for by in TASKS:
        machine.arrive(by)
    assert machine.arrive("worker:1") == 1
    assert machine.look("worker:1") == {"met": True}
    assert machine.state["arrived"] == {}


def test_some_of_them_may_meet() -> None:
    machine = Machine()
    machine.arrive("worker:2", count=2)
    machine.arrive("worker:0", count=2)
    assert machine.look("worker:2") == {"met": True}


def test_another_count_names_both_sides() -> None:
    machine = Machine()
    machine.arrive("worker:0", count=3)
    machine.arrive("worker:2", count=3)
    with pytest.raises(InvalidArgumentError, match="worker:1 waits for 2 workers, but worker:0, worker:2 for 3"):
        machine.arrive("worker:1", count=2)
    assert sorted(machine.state["arrived"]) == ["worker:0", "worker:2"]


def test_one_who_leaves_is_not_counted() -> None:
    machine = Machine()
    machine.arrive("worker:0")
    machine.arrive("worker:1")
    assert machine.leave("worker:0") == {"met": False, "arrived": ["worker:1"]}
    assert machine.leave("worker:0") == {"met": False, "arrived": ["worker:1"]}
    machine.arrive("worker:2")
    assert machine.look("worker:1") is None
    assert machine.leave("worker:1")["met"] is False
    assert machine.leave("worker:2")["met"] is False
    machine.arrive("worker:0", 2, count=1)  # with nobody there, the count is free
    assert machine.look("worker:0", call=2) == {"met": True}


def test_one_who_leaves_too_late_has_met() -> None:
    machine = Machine()
    for by in TASKS:
        machine.arrive(by)
    assert machine.leave("worker:0") == {"met": True}


def test_without_enough_others_the_meeting_does_not_come_about() -> None:
    machine = Machine()
    machine.arrive("worker:0")
    machine.gone("worker:2")
    assert machine.look("worker:0") == {"broken": "('worker:2',)"}
    assert machine.arrive("worker:0", 2) == 2


def test_one_who_has_arrived_and_died_is_not_counted() -> None:
    machine = Machine()
    machine.arrive("worker:0", count=2)
    machine.gone("worker:0")
    assert machine.arrive("worker:1", count=2) == 1
    assert machine.look("worker:1") is None
    assert machine.look("worker:0") == {"again": True}  # if it lives after all
    machine.arrive("worker:2", count=2)
    assert machine.look("worker:1") == {"met": True}


def test_what_is_said_of_another_meeting_changes_nothing() -> None:
    machine = Machine()
    machine.gone("worker:1")
    machine.arrive("worker:0")
    machine.gone("worker:1", meeting=2)
    assert machine.look("worker:0") is None


def test_without_knowing_all_workers_only_arrivals_are_taken_back() -> None:
    machine = Machine()
    machine.arrive("worker:0")
    machine.arrive("worker:1")
    machine.gone("worker:1", "worker:2", workers=None)
    assert sorted(machine.state["arrived"]) == ["worker:0"]


def test_another_process_takes_the_place_of_one() -> None:
    machine = Machine()
    machine.arrive("worker:0")
    machine.arrive("worker:0", identity="a new process")
    assert machine.look("worker:0") == {"replaced": ["a new process", 1]}
    assert len(machine.state["arrived"]) == 1


def test_those_of_before_a_restore_do_not_count() -> None:
    machine = Machine()
    for by in TASKS[:2]:
        machine.arrive(by)
    machine.arrive("worker:2", store="of the restored state")
    assert sorted(machine.state["arrived"]) == ["worker:2"]
    assert machine.look("worker:2") is None


def test_the_newest_broken_meetings_are_known() -> None:
    machine = Machine()
    for meeting in range(1, 40):
        machine.arrive("worker:0", meeting)
        machine.gone("worker:2", meeting=meeting)
    assert machine.look("worker:0", 39) == {"broken": "('worker:2',)"}
    assert len(machine.state["broken"]) == 16


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"do": "dance"},
        {"do": "arrive"},
        {"do": "arrive", "by": "worker:0", "id": "a", "call": 1, "count": 0, "store": "s"},
        {"do": "arrive", "by": "worker:0", "id": "a", "call": True, "count": 2, "store": "s"},
        {"do": "arrive", "by": 3, "id": "a", "call": 1, "count": 2, "store": "s"},
        {"do": "leave", "by": "worker:0", "id": "", "call": 1},
        {"do": "gone", "gone": "worker:0", "meeting": 1},
        {"do": "gone", "gone": [1], "meeting": 1},
    ],
    ids=str,
)
def test_malformed_events_are_refused(event: dict[str, Any]) -> None:
    machine = Machine()
    machine.arrive("worker:1")
    before = copy.deepcopy(machine.state)
    with pytest.raises(InvalidArgumentError, match=r"should be|do not know"):
        BARRIER.step(machine.state, event)
    assert machine.state == before


def test_who_has_met_before_a_restore_has_not_met_since() -> None:
    machine = Machine()
    for by in TASKS:
        machine.arrive(by)
    machine.arrive("worker:0", 2, store="of the restored state")
    machine.arrive("worker:1", 1, store="of the restored state")
    assert sorted(machine.state["arrived"]) == ["worker:0", "worker:1"]
