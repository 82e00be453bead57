"""The tokens of synchronous training: each worker takes each once, and one task at a time makes the steps."""

from __future__ import annotations

from typing import Any

import pytest

from ps_protocol.errors import CancelledError, InvalidArgumentError, OutOfRangeError, ShardscopeError
from ps_protocol.shared_objects import Json
from ps_server.objects.step_tokens import MAX_TOKENS, STEP_TOKENS


class Tokens:
    """An object that events happen to."""

    def __init__(self) -> None:
        self.state = STEP_TOKENS.empty({})

    def do(self, what: str, **event: Any) -> Json | None:
        before = dict(self.state)
        outcome = STEP_TOKENS.step(self.state, {"do": what, **event})
        assert self.state == before, "a step changes nothing"
        if outcome is None:
            return None
        self.state, answer = outcome
        return answer

    def put(self, *steps: int, keep: int | None = None) -> None:
        self.do("put", steps=list(steps), keep=keep)

    def take(self, by: str | None = None, **how: bool) -> int | None:
        is_decided = STEP_TOKENS.look(self.state, {"ask": "token", "by": by, **how}) == {}
        try:
            answer = self.do("take", by=by, **how)
        except OutOfRangeError:
            assert is_decided
            raise
        assert is_decided is (answer is not None)
        return None if answer is None else answer["step"]

    def lead(self, by: str) -> int:
        answer = self.do("lead", by=by, instead_of=self.state["ticket"])
        assert answer is not None
        assert answer["leads"]
        return int(answer["ticket"])

    def ask(self, what: str, by: str | None = None) -> Json | None:
        return STEP_TOKENS.look(self.state, {"ask": what, "by": by})

    def crew(self, leader: str | None, ticket: int, **differs: Any) -> Json:
        """What is answered of who takes part, where nothing differs."""
        others = {"left": [], "replaced": 0, "lacking": [], "closed": False, "waits": False, "workers": []}
        return {"leader": leader, "ticket": ticket, **others, **differs}


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


def test_a_worker_takes_each_token_once(tokens: Tokens) -> None:
    tokens.put(1, 1)
    assert [tokens.take("worker:0"), tokens.take("worker:0")] == [1, None]
    assert tokens.take("worker:1") == 1
    tokens.put(2, 2)
    assert [tokens.take("worker:1"), tokens.take("worker:1"), tokens.take("worker:0")] == [2, None, 2]
    assert tokens.ask("size") == {"size": 0, "closed": False}


def test_a_worker_takes_none_before_its_last_one(tokens: Tokens) -> None:
    tokens.put(1, 1, 1)
    tokens.take("worker:0")
    tokens.put(2, 2, 2)
    assert [tokens.take("worker:0"), tokens.take("worker:0"), tokens.take("worker:2")] == [2, None, 1]


def test_who_gives_no_name_takes_any(tokens: Tokens) -> None:
    tokens.put(1, 1)
    assert [tokens.take(), tokens.take(), tokens.take()] == [1, 1, None]
    tokens.put(2, 2)
    assert [tokens.take("worker:0", any=True) for _ in range(3)] == [2, 2, None]


def test_what_is_put_in_for_the_same_step_again_is_another_token(tokens: Tokens) -> None:
    tokens.put(3, 3)
    assert [tokens.take("worker:0"), tokens.take("worker:0")] == [3, None]
    tokens.put(3)
    assert [tokens.take("worker:0"), tokens.take("worker:0"), tokens.take("worker:1")] == [3, None, 3]


def test_who_has_one_of_a_later_put_takes_none_that_are_left_of_an_earlier_one(tokens: Tokens) -> None:
    tokens.put(0, 0)
    tokens.take("worker:0")
    tokens.put(1, 1)
    assert [tokens.take("worker:0"), tokens.take(), tokens.take()] == [1, 0, 1]
    tokens.put(0)
    tokens.put(2)
    assert [tokens.take("worker:0"), tokens.take("worker:0"), tokens.take("worker:0")] == [0, 2, None]


def test_steps_may_go_back(tokens: Tokens) -> None:
    tokens.put(100)
    tokens.take("worker:0")
    tokens.put(7)
    assert tokens.take("worker:0") == 7


def test_of_those_that_nobody_takes_the_newest_are_kept(tokens: Tokens) -> None:
    for step in range(20):
        tokens.put(step, step, keep=4)
    assert [token[0] for token in tokens.state["tokens"]] == [17, 17, 18, 18, 19, 19]
    tokens.put(21, keep=0)
    assert [token[0] for token in tokens.state["tokens"]] == [21]


def test_closed_tokens_are_taken_first(tokens: Tokens) -> None:
    tokens.put(1)
    tokens.do("close", cancel=False)
    assert tokens.take("worker:0") == 1
    with pytest.raises(OutOfRangeError):
        tokens.take("worker:0")
    with pytest.raises(CancelledError):
        tokens.put(2)
    with pytest.raises(CancelledError):
        tokens.do("close", cancel=False)
    tokens.do("close", cancel=True)
    tokens.do("close", cancel=True)


def test_one_leads_at_a_time(tokens: Tokens) -> None:
    assert tokens.lead("worker:0") == 1
    assert tokens.do("lead", by="worker:1", instead_of=0) == {"leads": False, "ticket": 1}
    assert tokens.ask("crew") == tokens.crew("worker:0", 1)
    assert tokens.lead("worker:1") == 2
    tokens.do("leave", by="worker:1")
    assert tokens.ask("crew") == tokens.crew(None, 2, left=["worker:1"])


def test_who_resigns_is_followed_by_another_that_has_the_step_made_again(tokens: Tokens) -> None:
    for worker in ("worker:0", "worker:1"):
        tokens.do("join", by=worker, session="a")
    tokens.lead("worker:0")
    tokens.do("resign", by="worker:0", ticket=0)  # late, of an earlier time
    assert tokens.ask("crew") == tokens.crew("worker:0", 1)
    tokens.do("resign", by="worker:0", ticket=1)
    assert tokens.ask("crew") == tokens.crew(None, 1)
    assert tokens.do("lead", by="worker:1", instead_of=1) == {"leads": True, "ticket": 2, "begins": False}


def test_when_all_have_left_another_run_begins_though_who_made_the_steps_had_resigned(tokens: Tokens) -> None:
    for worker in ("worker:0", "worker:1"):
        tokens.do("join", by=worker, session="a")
    tokens.lead("worker:0")
    tokens.do("resign", by="worker:0", ticket=1)
    for worker in ("worker:0", "worker:1"):
        tokens.do("leave", by=worker, session="a")
    assert tokens.do("lead", by="worker:0", instead_of=1) == {"leads": True, "ticket": 2, "begins": True}


def test_a_worker_lacks_a_token_until_there_is_one_for_it(tokens: Tokens) -> None:
    tokens.put(1, 1)
    assert [tokens.take("worker:0"), tokens.take("worker:1")] == [1, 1]
    for _ in range(2):
        tokens.do("lack", by="worker:0")
    assert tokens.ask("crew") == tokens.crew(None, 0, lacking=["worker:0"], workers=["worker:0", "worker:1"])
    tokens.put(1, 1)
    assert tokens.ask("crew") == tokens.crew(None, 0, workers=["worker:0", "worker:1"])
    assert tokens.take("worker:0") == 1
    assert tokens.state["lacking"] == []
    for worker in ("worker:0", "worker:1"):
        tokens.do("lack", by=worker)
    tokens.do("leave", by="worker:0")
    assert tokens.state["lacking"] == ["worker:1"]


def test_who_was_replaced_does_not_close_them(tokens: Tokens) -> None:
    tokens.lead("worker:0")
    tokens.lead("worker:1")
    for _ in range(2):
        tokens.do("close", cancel=True, by="worker:0")
        assert not tokens.state["closed"]
        tokens.do("leave", by="worker:1")
    tokens.do("close", cancel=True, by="worker:1")
    assert tokens.state["closed"]


def test_who_comes_again_has_not_left(tokens: Tokens) -> None:
    tokens.lead("worker:0")
    tokens.do("leave", by="worker:1")
    assert tokens.state["left"] == ["worker:1"]
    tokens.do("join", by="worker:1")
    assert tokens.state["left"] == []


@pytest.mark.parametrize("comes", ["join", "lead"])
def test_that_an_earlier_session_has_left_counts_for_nothing(tokens: Tokens, comes: str) -> None:
    lead = {"instead_of": 0} if comes == "lead" else {}
    tokens.do("join", by="worker:1", session="a")
    tokens.do(comes, by="worker:1", session="b", **lead)
    tokens.do("leave", by="worker:1", session="a")
    assert tokens.ask("crew") == tokens.crew("worker:1" if lead else None, tokens.state["ticket"], replaced=1)
    tokens.do("leave", by="worker:1", session="b")
    assert tokens.state["left"] == ["worker:1"]


def test_nobody_makes_the_steps_that_an_earlier_session_made(tokens: Tokens) -> None:
    tokens.do("join", by="worker:1", session="a")
    tokens.do("lead", by="worker:1", session="a", instead_of=0)
    tokens.do("join", by="worker:1", session="a")
    assert tokens.ask("crew") == tokens.crew("worker:1", 1)
    tokens.do("join", by="worker:1", session="b")
    assert tokens.ask("crew") == tokens.crew(None, 1, replaced=1)


def test_that_a_session_of_the_run_before_has_left_counts_for_nothing(tokens: Tokens) -> None:
    tokens.lead("worker:0")
    tokens.do("join", by="worker:1", session="a")
    tokens.do("close", cancel=True)
    assert tokens.do("join", by="worker:1", session="b") == {"waits": True}
    tokens.do("leave", by="worker:1", session="a")
    assert tokens.state["next"] == ["worker:1"]
    tokens.lead("worker:0")
    tokens.do("leave", by="worker:1", session="a")
    assert tokens.state["left"] == []


def test_who_comes_after_the_end_waits_for_another_run(tokens: Tokens) -> None:
    tokens.lead("worker:0")
    tokens.put(5, 5)
    tokens.take("worker:1")
    tokens.do("close", cancel=True)
    for worker in ("worker:0", "worker:1"):
        tokens.do("leave", by=worker)
    assert tokens.do("join", by="worker:1") == {"waits": True}
    assert [tokens.take("worker:1"), tokens.take("worker:1", any=True)] == [None, None]
    left = ["worker:0", "worker:1"]
    assert tokens.ask("crew", "worker:1") == tokens.crew(None, 1, left=left, waits=True, workers=["worker:1"])
    assert tokens.lead("worker:0") == 2
    assert tokens.ask("crew", "worker:1") == tokens.crew("worker:0", 2)
    tokens.put(6, 6)
    assert tokens.take("worker:1") == 6


def test_who_came_before_the_end_hears_of_it_also_when_others_come_after_it(tokens: Tokens) -> None:
    tokens.lead("worker:0")
    assert tokens.do("join", by="worker:2") == {"waits": False}
    tokens.put(5, 5)
    tokens.do("close", cancel=True)
    tokens.do("join", by="worker:1")
    assert tokens.ask("crew", "worker:2") == tokens.crew("worker:0", 1, closed=True)
    assert tokens.take("worker:2") == 5
    with pytest.raises(OutOfRangeError):
        tokens.take("worker:2")
    tokens.do("leave", by="worker:1")
    assert tokens.state["next"] == []
    assert tokens.take("worker:1") == 5


@pytest.mark.parametrize("closes", [False, True])
def test_who_leads_after_all_others_begins_another_run(tokens: Tokens, closes: bool) -> None:
    tokens.lead("worker:0")
    tokens.put(5, 5)
    tokens.take("worker:1")
    for worker in ("worker:0", "worker:1"):
        tokens.do("leave", by=worker)
    if closes:
        tokens.do("close", cancel=True)
    assert tokens.lead("worker:0") == 2
    assert tokens.ask("crew") == tokens.crew("worker:0", 2)
    assert tokens.take("worker:1") == (None if closes else 5)


def test_in_a_run_who_has_left_stays_so_when_another_leads(tokens: Tokens) -> None:
    tokens.lead("worker:0")
    tokens.put(5, 5)
    for worker in ("worker:1", "worker:2"):
        tokens.take(worker)
    tokens.do("leave", by="worker:2")
    tokens.lead("worker:1")
    assert tokens.state["left"] == ["worker:2"]


@pytest.mark.parametrize(
    "event",
    [
        {"do": "put", "steps": 1},
        {"do": "put", "steps": ["x"]},
        {"do": "put", "steps": [1] * (MAX_TOKENS + 1)},
        {"do": "take", "by": 3},
        {"do": "take", "by": "worker:0", "any": 1},
        {"do": "lead", "by": "worker:0"},
        {"do": "join"},
        {"do": "join", "by": "worker:0", "session": 3},
        {"do": "leave", "by": "worker:0", "session": 3},
        {"do": "close"},
        {"do": "dance"},
    ],
)
def test_a_malformed_event_is_refused(tokens: Tokens, event: Json) -> None:
    with pytest.raises(InvalidArgumentError):
        STEP_TOKENS.step(tokens.state, event)
    with pytest.raises(ShardscopeError, match="update the ps"):
        STEP_TOKENS.look(tokens.state, {"ask": "weather"})
