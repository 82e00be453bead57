"""The client's heartbeat: it renews the lease, joins again where it is unknown, and ends with the client."""

from __future__ import annotations

import errno
import logging
import threading
from typing import Any, cast
from uuid import uuid4

import pytest

from ps_protocol.errors import AbortedError, FailedPreconditionError, UnavailableError
from ps_protocol.ps_service import ClusterService
from tests.conftest import Eventually
from worker_client.connection.heartbeat import Heartbeat

ME = uuid4()
WAIT_S = 10.0


class FirstPs:
    """Ps task 0, that answers by script."""

    def __init__(self) -> None:
        self.service = cast(ClusterService, self)
        self.errors: list[Exception] = []
        self.steps: list[int | None] = []
        self.joins: list[dict[str, Any]] = []
        self.looks = 0
        self.beaten = threading.Event()

    def heartbeat(self, task: str, incarnation: object, step: int | None = None, *, timeout_s: float) -> None:
        assert (task, incarnation) == ("worker:1", ME)
        assert 0 < timeout_s <= 1
        self.beaten.set()
        if self.errors:
            raise self.errors.pop(0)
        self.steps.append(step)

    def join(self, task: str, incarnation: object, host: str, pid: int, **more: Any) -> None:
        assert (task, incarnation, host, pid) == ("worker:1", ME, "host", 7)
        if self.errors:
            raise self.errors.pop(0)
        self.joins.append(more)

    def look(self) -> None:
        self.looks += 1


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def first_ps() -> FirstPs:
    return FirstPs()


def made(first_ps: FirstPs, lease_s: float = 9.0, clock: Clock | None = None) -> Heartbeat:
    return Heartbeat(
        first_ps, task="worker:1", incarnation=ME, host="host", pid=7, lease_s=lease_s, clock=clock or Clock()
    )


def test_a_heartbeat_tells_the_step_that_was_reported_last(first_ps: FirstPs) -> None:
    heartbeat = made(first_ps)
    assert heartbeat.beat()
    heartbeat.step = 12
    assert heartbeat.beat()
    assert first_ps.steps == [None, 12]
    assert not first_ps.joins


def test_no_error_ends_the_heartbeats_and_it_is_logged_once(
    first_ps: FirstPs, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    first_ps.errors = [OSError(errno.EMFILE, "Too many open files"), MemoryError()]
    heartbeat = made(first_ps, lease_s=0.01)
    with caplog.at_level(logging.ERROR):
        heartbeat.start()
        eventually(lambda: first_ps.steps)
        heartbeat.stop()
    assert not first_ps.errors
    assert caplog.messages == ["a heartbeat of worker:1 failed; the next one follows"]


def test_a_ps_that_was_started_anew_is_told_again_who_this_is(first_ps: FirstPs) -> None:
    clock = Clock()
    heartbeat = made(first_ps, clock=clock)
    clock.now_s += 40
    first_ps.errors = [FailedPreconditionError("worker:1 has not joined")]
    assert heartbeat.beat()
    assert [(join["lease_s"], join["age_s"]) for join in first_ps.joins] == [(9.0, 40.0)]


@pytest.mark.parametrize(
    "errors",
    [
        [UnavailableError("away")],
        [FailedPreconditionError("not joined"), UnavailableError("and away again")],
    ],
)
def test_a_ps_that_is_away_is_looked_for_and_the_next_beat_comes(first_ps: FirstPs, errors: list[Exception]) -> None:
    first_ps.errors = errors
    heartbeat = made(first_ps)
    assert heartbeat.beat()
    assert first_ps.looks == 1
    assert heartbeat.beat()
    assert first_ps.steps == [None]


def test_a_client_whose_place_was_taken_stops(first_ps: FirstPs, caplog: pytest.LogCaptureFixture) -> None:
    first_ps.errors = [AbortedError("another process (pid 2 on other) has joined as worker:1", retryable=False)]
    with caplog.at_level(logging.WARNING):
        assert not made(first_ps).beat()
    assert "no more heartbeats of worker:1: another process" in caplog.text


def test_the_thread_beats_until_it_is_stopped(first_ps: FirstPs) -> None:
    heartbeat = made(first_ps, lease_s=0.01)
    heartbeat.start()
    assert first_ps.beaten.wait(WAIT_S)
    heartbeat.stop()
    heartbeat.stop()
    assert not any(thread.name == "shardscope-heartbeat" for thread in threading.enumerate())


def test_without_a_lease_there_is_no_thread(first_ps: FirstPs) -> None:
    heartbeat = made(first_ps, lease_s=0)
    before = set(threading.enumerate())
    heartbeat.start()
    assert set(threading.enumerate()) <= before  # those of earlier tests may end meanwhile
    heartbeat.stop()
