"""How long the end of a connection waits, and what it calls a crash."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest

from ps_protocol.operations import Read, Update, UpdateRule
from worker_client.connection.ending import EXIT_GRACE_S, HASTY_GRACE_S, Ending, number_of_updates, take_steps


class FakeThread(threading.Thread):
    """A thread that never ends, and remembers how long it was waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waits_s: list[float] = []

    def join(self, timeout: float | None = None) -> None:
        assert timeout is not None
        self.waits_s.append(timeout)

    def is_alive(self) -> bool:
        return True


def stopped_clock() -> float:
    return 5.0


def waited_s(ending: Ending, *, is_away: bool) -> float:
    thread = FakeThread()
    ending.join(thread, is_away=lambda: is_away)
    return max(thread.waits_s)


@pytest.mark.parametrize(
    ("error", "there_s", "away_s", "is_crash"),
    [
        (KeyboardInterrupt(), HASTY_GRACE_S, HASTY_GRACE_S, False),
        (SystemExit(3), EXIT_GRACE_S, HASTY_GRACE_S, False),
        (ValueError("broken"), EXIT_GRACE_S, HASTY_GRACE_S, True),
    ],
    ids=["interrupt", "exit", "error"],
)
def test_after_an_error(error: BaseException, there_s: float, away_s: float, is_crash: bool) -> None:
    ending = Ending.by(error, stopped_clock)
    assert ending is not None
    assert waited_s(ending, is_away=False) == there_s
    assert waited_s(ending, is_away=True) == away_s
    assert ending.is_crash is is_crash


def test_without_an_error_it_ends_in_good_order() -> None:
    assert Ending.by(None) is None


def test_all_ps_tasks_share_the_time() -> None:
    now_s = [0.0]
    ending = Ending(there_s=10.0, away_s=2.0, clock=lambda: now_s[0])
    assert waited_s(ending, is_away=False) == 10.0
    assert ending.at_most(1.0) == 1.0
    now_s[0] = 1.5
    assert waited_s(ending, is_away=True) == 0.5
    assert ending.at_most(1.0) == 0.5
    now_s[0] = 60.0
    assert waited_s(ending, is_away=False) == 0.0
    assert 0 < ending.at_most(1.0) < 1.0  # for a last word


@pytest.fixture
def last_error(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException | None], None]:
    """Sets the error by which the program has ended."""
    return lambda error: monkeypatch.setattr(sys, "last_value", error, raising=False)


def test_a_program_that_failed_has_crashed(last_error: Callable[[BaseException | None], None]) -> None:
    last_error(ValueError("broken"))
    assert Ending.of_program(stopped_clock).is_crash
    last_error(KeyboardInterrupt())
    assert not Ending.of_program(stopped_clock).is_crash
    assert waited_s(Ending.of_program(stopped_clock), is_away=False) == HASTY_GRACE_S
    last_error(None)
    assert not Ending.of_program(stopped_clock).is_crash
    assert waited_s(Ending.of_program(stopped_clock), is_away=True) == EXIT_GRACE_S


def test_an_interactive_session_has_not_failed(
    last_error: Callable[[BaseException | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    last_error(ValueError("in a cell"))
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert not Ending.of_program(stopped_clock).is_crash


def test_updates_are_counted_by_variable() -> None:
    def update(name: str) -> Update:
        return Update(name, UpdateRule.ASSIGN_ADD, np.ones(()))

    assert number_of_updates([]) == "0 updates"
    assert number_of_updates([[Read("v")]]) == "0 updates"
    assert number_of_updates([[update("w")], [update("v"), Read("v"), update("v")]]) == "3 updates (v: 2, w: 1)"
    many = [[update(f"v{index}")] for index in range(7)]
    assert number_of_updates(many) == "7 updates (v0: 1, v1: 1, v2: 1, v3: 1, v4: 1, and 2 other variables)"


def test_all_steps_are_taken_in_haste_after_an_interrupt() -> None:
    taken: list[Ending | None] = []

    def interrupted(ending: Ending | None) -> None:
        taken.append(ending)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take_steps([taken.append, interrupted, taken.append], None)
    assert taken[:2] == [None, None]
    assert taken[2] is not None
    assert not taken[2].is_crash
