"""Coordinators and looper threads, with bounded waits."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

import pytest

import worker_client.compat.v1 as tf


def test_the_first_error_is_raised_by_join() -> None:
    coord = tf.train.Coordinator()
    with coord.stop_on_exception():
        raise ValueError("first")
    with coord.stop_on_exception():
        raise KeyError("second")
    assert coord.should_stop()
    assert not coord.joined
    with pytest.raises(ValueError, match="first"):
        coord.raise_requested_exception()
    with pytest.raises(ValueError, match="first"):
        coord.join()
    assert coord.joined
    with pytest.raises(KeyError, match="late"):
        coord.request_stop(KeyError("late"))
    coord.clear_stop()
    assert not coord.should_stop()
    assert not coord.joined
    coord.raise_requested_exception()


@pytest.mark.parametrize(
    ("clean", "error"),
    [(None, tf.errors.OutOfRangeError("end")), ([StopIteration], StopIteration())],
    ids=["default", "given"],
)
def test_some_errors_only_stop(clean: Any, error: Exception) -> None:
    coord = tf.train.Coordinator(clean)
    coord.request_stop(error)
    assert coord.should_stop()
    coord.join()


def test_a_thread_that_does_not_stop_is_named() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait, args=(60,), name="stuck")
    thread.start()
    coord = tf.train.Coordinator()
    coord.request_stop()
    with pytest.raises(RuntimeError, match="Coordinator stopped with threads still running: stuck"):
        coord.join([thread], stop_grace_period_secs=0.01)
    coord.register_thread(thread)
    coord.join(stop_grace_period_secs=0.01, ignore_live_threads=True)
    release.set()
    thread.join(60)


def test_join_waits_as_long_as_threads_work_and_no_longer() -> None:
    coord = tf.train.Coordinator()
    done: list[int] = []
    threads = [threading.Thread(target=done.append, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    coord.join(threads)
    assert sorted(done) == [0, 1, 2]
    assert not coord.should_stop()


@pytest.mark.parametrize("interval_s", [None, 0.001])
def test_a_looper_calls_until_the_stop(interval_s: float | None) -> None:
    coord = tf.train.Coordinator()
    calls: list[int] = []

    def call(number: int, limit: int) -> None:
        calls.append(number)
        if len(calls) == limit:
            coord.request_stop()

    tf.train.LooperThread.loop(coord, interval_s, call, args=(7,), kwargs={"limit": 3})
    coord.join()
    assert calls == [7, 7, 7]
    assert coord.wait_for_stop(0)


def test_a_looper_can_be_a_class_of_its_own() -> None:
    coord = tf.train.Coordinator()

    class Once(tf.train.LooperThread):
        calls: ClassVar[list[str]] = []

        def start_loop(self) -> None:
            self.calls.append("start")

        def run_loop(self) -> None:
            self.calls.append("run")
            coord.request_stop()

        def stop_loop(self) -> None:
            self.calls.append("stop")

    Once(coord, None).start()
    coord.join()
    assert Once.calls == ["start", "run", "stop"]


def test_a_looper_needs_a_coordinator_and_a_target_for_arguments() -> None:
    with pytest.raises(ValueError, match="'coord' argument must be a Coordinator"):
        tf.train.LooperThread(3, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="require that you also pass 'target'"):
        tf.train.LooperThread(tf.train.Coordinator(), 1, args=[1])
