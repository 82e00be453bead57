"""What an event makes of an object as it is stored."""

from __future__ import annotations

import pytest

from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError, OutOfRangeError, ResourceExhaustedError
from ps_protocol.shared_objects import MAX_OBJECT_BYTES, Json, decode_json
from ps_server.objects.object_kind import ObjectKind, Step
from ps_server.objects.transitions import answered, carried_out


def _step(state: Json, event: Json) -> Step:
    total = state["total"] + event["add"]
    if event["add"] == 0:
        return state, {"total": total}
    if total < 0:
        return None
    if total > state["limit"]:
        raise OutOfRangeError(f"{total} is too much")
    return {**state, "total": total, "note": event.get("note", "")}, {"total": total, "note": event.get("echo", "")}


def _look(state: Json, question: Json) -> Json | None:
    return {"note": state["note"]} if state["total"] >= question["least"] else None


COUNTER = ObjectKind(
    empty=lambda settings: {"total": 0, "limit": settings["limit"], "note": ""}, step=_step, look=_look
)


def opened(limit: int = 10, by: str = "worker:0", before: bytes | None = None) -> bytes | None:
    return carried_out(COUNTER, before, {"open": {"limit": limit}, "by": by}).state


def test_an_object_begins_with_its_settings() -> None:
    outcome = carried_out(COUNTER, opened(), {"add": 4})
    assert outcome.answer is not None
    assert decode_json(outcome.answer, "it") == {"total": 4, "note": ""}
    assert outcome.state is not None
    assert decode_json(outcome.state, "it") == {
        "settings": {"limit": 10},
        "by": "worker:0",
        "state": {"total": 4, "limit": 10, "note": ""},
    }


def test_what_cannot_be_done_yet_changes_nothing() -> None:
    outcome = carried_out(COUNTER, opened(), {"add": -4})
    assert (outcome.answer, outcome.state) == (None, None)


def test_the_same_state_is_no_change() -> None:
    outcome = carried_out(COUNTER, opened(), {"add": 0})
    assert outcome.answer is not None
    assert outcome.state is None


def test_opening_again_changes_nothing() -> None:
    there = opened()
    assert opened(by="worker:1", before=there) is None
    with pytest.raises(
        InvalidArgumentError, match="worker:0 has made it with limit=10, but worker:1 gives limit=3; give the same"
    ):
        opened(3, "worker:1", there)


def test_it_is_opened_first() -> None:
    with pytest.raises(FailedPreconditionError, match="has not been opened"):
        carried_out(COUNTER, None, {"add": 1})


def test_a_refusal_is_the_objects() -> None:
    with pytest.raises(OutOfRangeError, match="11 is too much"):
        carried_out(COUNTER, opened(), {"add": 11})


def test_sizes_are_bounded() -> None:
    there, much = opened(), "x" * MAX_OBJECT_BYTES
    with pytest.raises(ResourceExhaustedError, match="its state would take 1,048,"):
        carried_out(COUNTER, there, {"add": 1, "note": much})
    with pytest.raises(ResourceExhaustedError, match="its answer would take 1,048,"):
        carried_out(COUNTER, there, {"add": 1, "echo": much})


def test_questions_are_answered_when_there_is_an_answer() -> None:
    there = carried_out(COUNTER, opened(), {"add": 4, "note": "four"}).state
    assert there is not None
    assert answered(COUNTER, there, {"least": 5}) is None
    answer = answered(COUNTER, there, {"least": 4})
    assert answer is not None
    assert decode_json(answer, "it") == {"note": "four"}


@pytest.mark.parametrize("stored", [b"weights", b"[]", b"{}"])
def test_another_value_is_no_state(stored: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match=r"what it holds is|does not hold the state of an object"):
        carried_out(COUNTER, stored, {"add": 1})
