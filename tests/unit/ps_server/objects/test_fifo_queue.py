"""The queue as a pure machine."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ps_protocol.errors import CancelledError, InvalidArgumentError, OutOfRangeError, ShardscopeError
from ps_protocol.shared_objects import MAX_OBJECT_BYTES, Json, json_text
from ps_server.objects.fifo_queue import FIFO_QUEUE, MAX_ITEM_BYTES


class Machine:
    """A queue of items with one component, and whether any function has changed a state that it was given."""

    def __init__(self, capacity: int = 3):
        self.state = FIFO_QUEUE.empty({"capacity": capacity, "dtypes": ["int32"]})

    def do(self, event: Json) -> Json | None:
        before = copy.deepcopy(self.state)
        step = FIFO_QUEUE.step(self.state, event)
        assert self.state == before
        if step is None:
            return None
        self.state, answer = step
        return answer

    def enqueue(self, *items: Any, pending: bool = False) -> Json | None:
        return self.do({"do": "enqueue", "items": [[each] for each in items], "pending": pending})

    def dequeue(self, number: int = 1, *, up_to: bool = False) -> list[Any] | None:
        answer = self.do({"do": "dequeue", "number": number, "up_to": up_to})
        return None if answer is None else [item for (item,) in answer["items"]]

    def close(self, *, cancel: bool = False) -> None:
        self.do({"do": "close", "cancel": cancel})

    def look(self, **question: Any) -> Json | None:
        return FIFO_QUEUE.look(self.state, question)

    def wants(self, number: int, *, up_to: bool = False) -> bool:
        return self.look(ask="items", number=number, up_to=up_to) is not None


def test_first_in_first_out() -> None:
    machine = Machine()
    for each in "abc":
        assert machine.enqueue(each) == {"taken": 1}
    assert [machine.dequeue() for _ in range(3)] == [["a"], ["b"], ["c"]]
    assert machine.state["bytes"] == 0


def test_what_has_no_room_waits() -> None:
    machine = Machine(2)
    assert machine.enqueue("a", "b", "c") == {"taken": 2}
    assert machine.enqueue("c") is None
    assert machine.look(ask="room", bytes=10) is None
    assert machine.dequeue() == ["a"]
    assert machine.look(ask="room", bytes=10) == {}
    assert machine.enqueue("c") == {"taken": 1}
    assert machine.dequeue(2) == ["b", "c"]


def test_what_is_not_there_is_waited_for() -> None:
    machine = Machine()
    assert machine.dequeue() is None
    assert not machine.wants(1)
    machine.enqueue("a")
    assert machine.wants(1)
    assert machine.dequeue(2) is None
    assert machine.dequeue(2, up_to=True) is None
    machine.enqueue("b", "c")
    assert machine.dequeue(2) == ["a", "b"]
    assert machine.dequeue(0) == []


def test_closed_it_gives_what_it_has() -> None:
    machine = Machine()
    machine.enqueue("a", "b")
    machine.close()
    with pytest.raises(CancelledError, match="it is closed"):
        machine.enqueue("c")
    with pytest.raises(CancelledError, match="it is already closed"):
        machine.close()
    assert machine.wants(3)
    with pytest.raises(OutOfRangeError, match=r"closed and has insufficient elements \(requested 3, current size 2\)"):
        machine.dequeue(3)
    assert machine.dequeue(3, up_to=True) == ["a", "b"]
    for up_to in (False, True):
        with pytest.raises(OutOfRangeError, match=r"requested 1, current size 0"):
            machine.dequeue(1, up_to=up_to)
    assert machine.look(ask="size") == {"size": 0, "closed": True}


def test_what_has_waited_before_it_was_closed_is_still_taken() -> None:
    machine = Machine(1)
    machine.enqueue("a")
    machine.close()
    assert machine.enqueue("b", pending=True) is None
    assert machine.look(ask="room", bytes=10) is None
    assert machine.dequeue() == ["a"]
    assert machine.look(ask="room", bytes=10) == {}
    assert machine.enqueue("b", pending=True) == {"taken": 1}


def test_what_waits_can_be_cancelled() -> None:
    machine = Machine(1)
    machine.enqueue("a")
    machine.close()
    machine.close(cancel=True)
    assert machine.look(ask="room", bytes=10) == {}
    with pytest.raises(CancelledError):
        machine.enqueue("b", pending=True)
    machine.close(cancel=True)  # as TensorFlow's: several workers may do that
    with pytest.raises(CancelledError):
        machine.close()
    assert machine.dequeue() == ["a"]


def test_more_than_it_ever_has_cannot_be_wanted() -> None:
    machine = Machine(2)
    with pytest.raises(InvalidArgumentError, match="3 items are wanted at a time, and it never has more than 2"):
        machine.dequeue(3)
    assert Machine(0).dequeue(1000) is None


def test_bytes_are_bounded() -> None:
    machine = Machine(0)
    with pytest.raises(InvalidArgumentError, match="an item takes 524,"):
        machine.enqueue("x" * MAX_ITEM_BYTES)
    half = "x" * (MAX_ITEM_BYTES // 2)
    assert machine.enqueue("a", half, half) == {"taken": 2}
    assert machine.look(ask="room", bytes=len(half)) is None
    assert len(json_text(machine.state)) < MAX_OBJECT_BYTES
    assert machine.dequeue(2) == ["a", half]
    assert machine.enqueue(half) == {"taken": 1}


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"do": "dance"},
        {"do": "enqueue", "items": "a", "pending": False},
        {"do": "enqueue", "items": ["a"], "pending": False},
        {"do": "enqueue", "items": [["a", "b"]], "pending": False},
        {"do": "dequeue", "number": -1, "up_to": False},
        {"do": "dequeue", "number": 1, "up_to": 1},
        {"do": "close"},
    ],
    ids=str,
)
def test_malformed_events_are_refused(event: Json) -> None:
    machine = Machine()
    machine.enqueue("a")
    before = copy.deepcopy(machine.state)
    with pytest.raises(InvalidArgumentError):
        machine.do(event)
    assert machine.state == before


@pytest.mark.parametrize("question", [{}, {"ask": "why"}, {"ask": "room"}, {"ask": "items", "number": 1}], ids=str)
def test_malformed_questions_are_refused(question: Json) -> None:
    with pytest.raises(ShardscopeError):
        FIFO_QUEUE.look(Machine().state, question)
