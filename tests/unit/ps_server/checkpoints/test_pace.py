"""A save gives its processor away after each piece, and never takes one from another thread."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ps_server.checkpoints.pace import Pace

needs_policies = pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="the system has no such policy")


class Task:
    """What a save looks at."""

    def __init__(self) -> None:
        self.batches = 7
        self.now_s = 100.0
        self.used_s = 0.0
        self.rests: list[float] = []
        self.late_s = 0.0
        self.pace = Pace(
            lambda: self.batches,
            sleep=self._sleep,
            clock=lambda: self.now_s,
            processor_clock=lambda: self.used_s,
        )

    def _sleep(self, rest_s: float) -> None:
        self.rests.append(rest_s)
        self.now_s += rest_s + self.late_s

    def piece(self, used_s: float) -> list[float]:
        """Works for so long; returns the rests after it."""
        self.rests.clear()
        self.used_s += used_s
        self.pace.rest()
        return list(self.rests)


@pytest.fixture
def task() -> Task:
    return Task()


def test_a_rest_is_a_moment_if_no_batches_come(task: Task) -> None:
    with task.pace.turn():
        for _ in range(3):
            (rest_s,) = task.piece(100e-6)
            assert 0 < rest_s < 10e-6


def test_a_rest_is_three_quarters_of_the_piece_while_batches_come(task: Task) -> None:
    with task.pace.turn():
        task.batches += 1
        assert task.piece(100e-6) == pytest.approx([75e-6])
        task.now_s += 0.09
        assert task.piece(300e-6) == pytest.approx([225e-6])
        task.now_s += 0.02
        assert task.piece(300e-6) == pytest.approx([0.0], abs=10e-6)
        task.batches += 1
        assert task.piece(200e-6) == pytest.approx([150e-6])


def test_small_pieces_share_a_rest(task: Task) -> None:
    task.batches += 1
    with task.pace.turn():
        assert [len(task.piece(20e-6)) for _ in range(6)] == [0, 0, 1, 0, 0, 1]


def test_rests_are_fewer_while_the_processors_are_busy_with_other_programs(task: Task) -> None:
    with task.pace.turn():
        task.late_s = 0.005
        assert [len(task.piece(120e-6)) for _ in range(9)] == [1, 0, 1, 0, 1, 0, 1, 0, 1]
        task.late_s = 0.0005
        assert [len(task.piece(120e-6)) for _ in range(6)] == [0, 1, 1, 1, 1, 1]


def test_only_what_the_thread_has_used_in_its_turn_counts(task: Task) -> None:
    """The next turn may be another thread's, whose processor time is another."""
    with task.pace.turn():
        task.piece(60e-6)
    task.used_s = 5000.0
    with task.pace.turn():
        assert task.piece(20e-6) == []


@needs_policies
def test_a_turn_preempts_nobody_and_leaves_its_thread_as_it_was(task: Task) -> None:
    found: list[int] = []

    def work() -> None:
        with task.pace.turn():
            found.append(os.sched_getscheduler(0))
            raise ZeroDivisionError

    def policies() -> list[int]:
        found.append(os.sched_getscheduler(0))
        with pytest.raises(ZeroDivisionError):
            work()
        return [*found, os.sched_getscheduler(0)]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(policies).result() == [os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_OTHER]


@needs_policies
def test_a_policy_that_somebody_has_chosen_stays(task: Task) -> None:
    found: list[int] = []

    def work() -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        with task.pace.turn():
            found.append(os.sched_getscheduler(0))
        found.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [os.SCHED_IDLE, os.SCHED_IDLE]


@needs_policies
def test_a_turn_goes_on_where_policies_may_not_be_changed(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[int] = []

    def refuse(_thread: int, policy: int, _param: os.sched_param) -> None:
        refused.append(policy)
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with task.pace.turn():
        assert len(task.piece(100e-6)) == 1
    assert refused == [os.SCHED_BATCH, os.SCHED_OTHER]
