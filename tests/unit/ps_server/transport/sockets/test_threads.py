"""Threads that step aside leave their place to others."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ps_server.transport.sockets.threads import ServingThreads
from tests.conftest import Eventually

TIMEOUT_S = 20.0
MAX_THREADS = 2


@pytest.fixture
def threads() -> Iterator[ServingThreads]:
    threads = ServingThreads(MAX_THREADS, "test")
    yield threads
    threads.shutdown(wait=True)


@pytest.fixture
def may_go_on() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_work_beyond_the_threads_waits_for_one(threads: ServingThreads, may_go_on: threading.Event) -> None:
    done = threading.Semaphore(0)
    entered = threading.Semaphore(0)

    def work() -> None:
        entered.release()
        assert may_go_on.wait(TIMEOUT_S)
        done.release()

    for _ in range(3 * MAX_THREADS):
        threads.submit(work)
    for _ in range(MAX_THREADS):
        assert entered.acquire(timeout=TIMEOUT_S)
    assert threads.num_threads == MAX_THREADS
    assert not entered.acquire(blocking=False)
    may_go_on.set()
    for _ in range(3 * MAX_THREADS):
        assert done.acquire(timeout=TIMEOUT_S)
    assert threads.num_threads == MAX_THREADS


def test_a_thread_that_steps_aside_makes_room_and_its_surplus_ends(
    threads: ServingThreads, may_go_on: threading.Event, eventually: Eventually
) -> None:
    def slow() -> None:
        threads.step_aside()
        assert may_go_on.wait(TIMEOUT_S)
        threads.step_back()

    for _ in range(5 * MAX_THREADS):
        threads.submit(slow)
    eventually(lambda: threads.num_aside == 5 * MAX_THREADS, message="all are aside")
    served = threading.Event()
    threads.submit(served.set)
    assert served.wait(TIMEOUT_S)
    may_go_on.set()
    eventually(lambda: threads.num_threads <= MAX_THREADS, message="the surplus has ended")
    assert threads.num_aside == 0


def test_a_moment_without_threads_is_survived(
    threads: ServingThreads, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    first, second = threading.Event(), threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        threads.submit(first.set)
    assert "no thread can be started" in caplog.text
    assert not first.is_set()
    threads.submit(second.set)
    assert first.wait(TIMEOUT_S)
    assert second.wait(TIMEOUT_S)
