"""The iterator of new checkpoints: it waits, yields each newest one once, and ends when it is told or time is over."""

from __future__ import annotations

from pathlib import Path

import pytest

import shardscope as ss
import worker_client.compat.v1 as tf


class Clock:
    """Time that passes by sleeping alone; things happen meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now_s = 0.0
        self.slept: list[float] = []
        self.meanwhile: list[str] = []
        monkeypatch.setattr("time.monotonic", lambda: self.now_s)
        monkeypatch.setattr("time.sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        if seconds:
            self.slept.append(seconds)
        self.now_s += seconds
        if self.meanwhile:
            save(self.meanwhile.pop(0))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def save(path: str) -> None:
    ss.checkpoint.write_tensorflow(path, {"v": 1.0})
    tf.train.update_checkpoint_state(str(Path(path).parent), path)


def test_new_ones_are_waited_for(clock: Clock, tmp_path: Path) -> None:
    paths = [f"{tmp_path}/m-{number}" for number in range(3)]
    clock.meanwhile = list(paths)
    found = tf.train.checkpoints_iterator(str(tmp_path))
    assert [next(found) for _ in paths] == paths
    assert not clock.meanwhile


def test_time_is_over(clock: Clock, tmp_path: Path) -> None:
    assert list(tf.train.checkpoints_iterator(tmp_path, timeout=3.5)) == []
    assert clock.slept == [1.0, 1.0, 1.0, 0.5]


def test_a_function_says_whether_more_will_come(clock: Clock, tmp_path: Path) -> None:
    save(f"{tmp_path}/m-1")
    asked: list[float] = []

    def is_over() -> bool:
        asked.append(clock.now_s)
        return len(asked) == 3

    assert list(tf.train.checkpoints_iterator(str(tmp_path), timeout=2.0, timeout_fn=is_over)) == [f"{tmp_path}/m-1"]
    assert asked == [0.0, 2.0, 4.0]


def test_two_have_some_time_between_them(clock: Clock, tmp_path: Path) -> None:
    save(f"{tmp_path}/m-1")
    found = tf.train.checkpoints_iterator(str(tmp_path), min_interval_secs=30)
    assert next(found) == f"{tmp_path}/m-1"
    clock.now_s += 10.0
    clock.meanwhile = [f"{tmp_path}/m-2"]
    assert next(found) == f"{tmp_path}/m-2"
    assert clock.slept == [20.0]
