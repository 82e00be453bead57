"""Timing, and a contestant's end of the conversation."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping

import pytest

from benchmarks.harness.line_protocol import Requests, timed
from benchmarks.harness.workloads import SCALES

SMALL = SCALES["small"]


class Holder:
    """Holds a scalar only; claims to hold all else as expected."""

    name = "holder"
    versions: Mapping[str, str] = {"holder": "1"}

    def __init__(self, added: float = 1.0):
        self._scalar = 0.0
        self._added = added

    def _add(self) -> None:
        self._scalar += self._added

    def cases(self) -> Mapping[str, Mapping[str, Callable[[], object]]]:
        return {"add": {"": self._add}, "pull": {"view": lambda: None, "copied": lambda: None}}

    def observed(self) -> Mapping[str, float]:
        return {"scalar": self._scalar, "vector": 0.0, "row": 0.0, "layer": 0.0}

    def close(self) -> None:
        pass


def test_so_many_calls_are_timed_after_those_that_warm_up() -> None:
    calls: list[bool] = []
    times = timed(lambda: calls.append(gc.isenabled()), warm=2, calls=3)
    assert len(times) == 3
    assert all(each >= 0 for each in times)
    assert calls == [True, True, False, False, False]
    assert gc.isenabled()


def test_garbage_collection_is_on_again_after_a_call_that_fails() -> None:
    with pytest.raises(ZeroDivisionError):
        timed(lambda: 1 / 0, warm=0, calls=1)
    assert gc.isenabled()


def test_calls_stop_when_the_time_is_over() -> None:
    assert timed(lambda: None, warm=0, for_s=0.0) == []
    assert len(timed(lambda: None, warm=0, for_s=0.01)) > 1


def test_greeting_lists_the_variants() -> None:
    greeting = Requests(Holder(), SMALL).greeting()
    assert greeting == {
        "name": "holder",
        "versions": {"holder": "1"},
        "cases": {"add": [""], "pull": ["view", "copied"]},
    }


def test_check_counts_calls_that_warm_up_too() -> None:
    requests = Requests(Holder(), SMALL)
    answer = requests.answer({"do": "run", "workload": "add", "variant": "", "warm": 2, "calls": 5})
    assert len(answer["seconds"]) == 5
    state = requests.answer({"do": "check"})
    assert state["expected"]["scalar"] == 7
    assert state["observed"] == state["expected"]


def test_check_shows_work_that_was_not_done() -> None:
    requests = Requests(Holder(added=0.5), SMALL)
    requests.answer({"do": "run", "workload": "add", "variant": "", "warm": 0, "calls": 4})
    state = requests.answer({"do": "check"})
    assert (state["observed"]["scalar"], state["expected"]["scalar"]) == (2.0, 4.0)


def test_an_unknown_request_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown request"):
        Requests(Holder(), SMALL).answer({"do": "dance"})
