from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ps_server.background.loops import BackgroundLoop, Failures, Troubles
from tests.conftest import Eventually

NO_DESCRIPTORS = OSError(errno.EMFILE, "Too many open files")
FAILURES = [
    NO_DESCRIPTORS,
    MemoryError("none left"),
    RuntimeError("can't start new thread"),
    KeyboardInterrupt(),
    SystemExit(1),
]


class Steps:
    """Steps that raise what is put before them, and are counted."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.done = 0

    def __call__(self) -> float:
        if self.failures:
            raise self.failures.pop(0)
        self.done += 1
        return 0.001


@contextmanager
def running(step: Callable[[], float], troubles: Troubles, **options: float) -> Iterator[BackgroundLoop]:
    loop = BackgroundLoop("work", step, troubles, first_retry_s=0.001, **options)  # type: ignore[arg-type]
    loop.start()
    try:
        yield loop
    finally:
        assert loop.stop(30)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda each: type(each).__name__)
def test_goes_on_whatever_a_step_raises(failure: BaseException, eventually: Eventually) -> None:
    steps, troubles = Steps(failure, failure), Troubles()
    with running(steps, troubles):
        eventually(lambda: steps.done >= 2)
        eventually(lambda: not troubles.reasons())
    assert not steps.failures


def test_says_what_fails_as_long_as_it_does(eventually: Eventually) -> None:
    healed, troubles = threading.Event(), Troubles()

    def step() -> float:
        if not healed.is_set():
            raise NO_DESCRIPTORS
        return 0.001

    with running(step, troubles):
        eventually(troubles.reasons)
        assert troubles.reasons() == ("work: OSError: [Errno 24] Too many open files",)
        healed.set()
        eventually(lambda: not troubles.reasons())


def test_each_kind_of_failure_is_logged_once_and_later_again(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 0.0
    failures = Failures("work", Troubles(), clock=lambda: now_s)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            failures.note(NO_DESCRIPTORS)
            failures.note(OSError(errno.ENOSPC, "No space left on device"))
        assert len(caplog.records) == 2
        failures.clear()
        assert caplog.records[-1].getMessage() == "work goes on"
        now_s = 61.0
        failures.note(NO_DESCRIPTORS)
        now_s = 122.0
        failures.note(NO_DESCRIPTORS)  # two minutes of silence this time
        assert len(caplog.records) == 4


def test_tries_follow_less_and_less_often() -> None:
    failures = Failures("work", Troubles(), first_retry_s=0.25, most_retry_s=3.0)
    assert [failures.note(NO_DESCRIPTORS) for _ in range(6)] == [0.25, 0.5, 1.0, 2.0, 3.0, 3.0]
    failures.clear()
    assert failures.note(NO_DESCRIPTORS) == 0.25


def test_what_cannot_be_told_does_not_end_the_thread(monkeypatch: pytest.MonkeyPatch, eventually: Eventually) -> None:
    told: list[str] = []

    def note(self: Troubles, what: str, reason: str) -> None:
        told.append(reason)
        raise MemoryError

    monkeypatch.setattr(Troubles, "note", note)
    steps = Steps(NO_DESCRIPTORS)
    with running(steps, Troubles()):
        eventually(lambda: steps.done)
    assert told


def test_ends_what_it_has_begun_and_says_goodbye(eventually: Eventually) -> None:
    began, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def step() -> float:
        began.set()
        assert go_on.wait(30)
        return 3600.0

    loop = BackgroundLoop("work", step, Troubles(), at_end=ended.set)
    loop.start()
    assert began.wait(30)
    assert not loop.stop(0)
    assert loop.is_stopping
    go_on.set()
    assert loop.stop(30)
    assert ended.is_set()


def test_can_be_stopped_before_it_was_started() -> None:
    assert BackgroundLoop("work", lambda: 1.0, Troubles()).stop(0)


def test_a_step_can_be_asked_for(eventually: Eventually) -> None:
    steps = 0

    def step() -> float:
        nonlocal steps
        steps += 1
        return 3600.0

    with running(step, Troubles()) as loop:
        eventually(lambda: steps == 1)
        loop.wake()
        eventually(lambda: steps == 2)
