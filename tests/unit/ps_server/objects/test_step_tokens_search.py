"""Every order of workers that train with tokens, and of faults: nobody waits for ever, or takes two tokens of a put."""

from __future__ import annotations

from typing import Any

import pytest

from ps_protocol.shared_objects import Json
from ps_server.objects import step_tokens
from tests.unit.ps_server.objects.step_tokens_world import TokensWorld
from tests.unit.ps_server.rounds.rounds_search import Search
from tests.unit.ps_server.rounds.rounds_world import BrokenPromiseError


def explored(num_workers: int, *, has_late_leaves: bool) -> Search:
    """All schedules of two steps with one fault."""
    world: Any = TokensWorld(num_workers, 2, has_late_leaves=has_late_leaves)
    search = Search(world, 1)
    search.explore()
    return search


def test_two_workers_survive_every_fault() -> None:
    search = explored(2, has_late_leaves=True)
    for label in ("0 dies", "1 is replaced", "0 makes its session again", "1 leads, since nobody does", "0 has left"):
        assert search.seen[label], label


def test_three_workers_survive_that_one_dies_or_is_replaced() -> None:
    search = explored(3, has_late_leaves=False)
    for label in ("0 dies", "2 dies", "1 is replaced", "1 leads, since nobody does"):
        assert search.seen[label], label


# -- rules that are broken on purpose are found ---------------------------------------------------


def test_a_worker_that_takes_two_tokens_of_a_put_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_tokens, "_place", lambda state, _asked: 0 if state["tokens"] else None)
    with pytest.raises(BrokenPromiseError, match="takes a token of put 1 after one of 1"):
        explored(2, has_late_leaves=False)


def test_members_that_do_not_hear_of_the_end_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def joined(state: Json, worker: str) -> Any:
        return {**state, "next": [worker]} if state["closed"] else state, {"waits": False}

    monkeypatch.setattr(step_tokens, "_is_over", lambda _state, _worker: False)
    monkeypatch.setattr(step_tokens, "_join", joined)
    with pytest.raises(BrokenPromiseError, match="wait for ever"):
        explored(2, has_late_leaves=False)
