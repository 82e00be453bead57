"""A save gives its processor away after each piece."""

from __future__ import annotations

import pytest

from ps_server.checkpoints.pace import Pace


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
    task.pace.begin_turn()
    for _ in range(3):
        (rest_s,) = task.piece(100e-6)
        assert 0 < rest_s < 10e-6


def test_a_rest_is_as_long_as_the_piece_while_batches_come(task: Task) -> None:
    task.pace.begin_turn()
    task.batches += 1
    assert task.piece(100e-6) == pytest.approx([100e-6])
    task.now_s += 0.09
    assert task.piece(300e-6) == pytest.approx([300e-6])
    task.now_s += 0.02
    assert task.piece(300e-6) == pytest.approx([0.0], abs=10e-6)
    task.batches += 1
    assert task.piece(200e-6) == pytest.approx([200e-6])


def test_small_pieces_share_a_rest(task: Task) -> None:
    task.batches += 1
    task.pace.begin_turn()
    assert [len(task.piece(20e-6)) for _ in range(6)] == [0, 0, 1, 0, 0, 1]


def test_rests_are_fewer_while_the_processors_are_busy_with_other_programs(task: Task) -> None:
    task.pace.begin_turn()
    task.late_s = 0.005
    assert [len(task.piece(120e-6)) for _ in range(9)] == [1, 0, 1, 0, 1, 0, 1, 0, 1]
    task.late_s = 0.0005
    assert [len(task.piece(120e-6)) for _ in range(6)] == [0, 1, 1, 1, 1, 1]


def test_only_what_the_thread_has_used_in_its_turn_counts(task: Task) -> None:
    """The next turn may be another thread's, whose processor time is another."""
    task.pace.begin_turn()
    task.piece(60e-6)
    task.used_s = 5000.0
    task.pace.begin_turn()
    assert task.piece(20e-6) == []
