"""What receipts of steps let pass, and every order of makers that take over from each other: a step counts once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ps_protocol.errors import AbortedError, InvalidArgumentError
from ps_protocol.shared_objects import Json
from ps_server.objects import accumulators
from ps_server.objects.step_receipts import STEP_RECEIPTS
from tests.unit.ps_server.objects.step_receipts_world import ReceiptsWorld
from tests.unit.ps_server.rounds.rounds_search import Search
from tests.unit.ps_server.rounds.rounds_world import BrokenPromiseError


class Receipts:
    """Receipts to which events happen."""

    def __init__(self) -> None:
        self.state = STEP_RECEIPTS.empty({})

    def do(self, what: str, **event: Any) -> Json:
        outcome = STEP_RECEIPTS.step(self.state, {"do": what, **event})
        assert outcome is not None
        self.state = outcome[0]
        return outcome[1]

    def passes(self, of: str, part: int, ticket: int = 1) -> bool:
        assert STEP_RECEIPTS.passes is not None
        return STEP_RECEIPTS.passes(self.do("update", of=of, part=part, ticket=ticket))


def test_each_part_of_a_step_passes_once() -> None:
    receipts = Receipts()
    assert [receipts.passes("a", part) for part in (0, 0, 2, 1, 2, 3)] == [True, False, True, False, False, True]
    assert receipts.passes("b", 0)
    assert STEP_RECEIPTS.look(receipts.state, {"ask": "parts"}) == {"of": "b", "parts": 1, "noted": {}}


def test_who_was_replaced_updates_nothing() -> None:
    receipts = Receipts()
    assert receipts.passes("a", 0)
    assert receipts.do("fence", ticket=2) == {"of": "a", "parts": 1, "noted": {}, "passes": False}
    with pytest.raises(AbortedError, match="another task makes the steps now"):
        receipts.passes("a", 1)
    assert receipts.passes("a", 1, ticket=2)


def test_what_was_noted_with_the_newest_part_is_told() -> None:
    receipts = Receipts()
    for part in (0, 1, 1):
        receipts.do("update", of="a", part=part, ticket=part, noted={"read": str(part)})
    receipts.do("update", of="a", part=0, ticket=2, noted={"read": "again"})
    assert receipts.do("fence", ticket=3)["noted"] == {"read": "1"}


@pytest.mark.parametrize(
    "event", [{"do": "dance"}, {"do": "update", "ticket": 1}, {"do": "fence"}, {"do": "fence", "ticket": -1}]
)
def test_what_is_malformed_is_refused(event: Json) -> None:
    with pytest.raises(InvalidArgumentError):
        STEP_RECEIPTS.step(STEP_RECEIPTS.empty({}), event)
    with pytest.raises(InvalidArgumentError):
        STEP_RECEIPTS.look(STEP_RECEIPTS.empty({}), {"ask": "dance"})


# -- every order ----------------------------------------------------------------------------------


def explored(num_makers: int, max_faults: int) -> Search:
    world: Any = ReceiptsWorld(num_makers)
    search = Search(world, max_faults)
    search.explore()
    return search


@pytest.mark.parametrize(("num_makers", "max_faults"), [(2, 1), (3, 2)])
def test_each_step_counts_once_at_each_ps_whoever_dies_or_is_replaced(num_makers: int, max_faults: int) -> None:
    search = explored(num_makers, max_faults)
    for label in (
        "0 dies",
        "1 replaces 0",
        "1 takes over",
        "1: take at ps 1",
        "1: repair at ps 0",
        "0: update at ps 1",
    ):
        assert search.seen[label], label


def test_updates_that_always_pass_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = replace(STEP_RECEIPTS, passes=lambda _: True)
    monkeypatch.setattr("tests.unit.ps_server.objects.step_receipts_world.STEP_RECEIPTS", kind)
    with pytest.raises(BrokenPromiseError, match="has applied"):
        explored(2, 1)


def test_what_is_taken_and_not_kept_is_found_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accumulators, "_divided", lambda _sparse, state, arrays: (arrays[: bool(state["count"])], ()))
    with pytest.raises(BrokenPromiseError, match="is not made"):
        explored(2, 1)


def test_a_maker_that_takes_after_it_was_replaced_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accumulators, "_fenced", lambda state, _event: state)
    with pytest.raises(BrokenPromiseError):
        explored(2, 1)
