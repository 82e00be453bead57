"""A hold keeps batches that change something at the door, for as long as its lease."""

from __future__ import annotations

import threading
from uuid import UUID

import pytest

from ps_protocol.errors import AbortedError, DeadlineExceededError, UnavailableError
from ps_server.core.admission import Admission

FIRST, SECOND = UUID(int=1), UUID(int=2)
TIMEOUT_S = 30.0


def test_a_batch_that_reads_is_not_held_back() -> None:
    admission = Admission()
    admission.hold(FIRST, TIMEOUT_S, TIMEOUT_S)
    assert admission.enter(1, changes=False, timeout_s=0)
    with pytest.raises(UnavailableError, match="held back for a checkpoint"):
        admission.enter(1, changes=True, timeout_s=0)
    assert admission.release(FIRST)
    assert admission.enter(1, changes=True, timeout_s=0)


def test_a_hold_waits_for_those_inside() -> None:
    admission = Admission()
    admission.enter(1, changes=True, timeout_s=0)
    with pytest.raises(DeadlineExceededError, match="1 batches were still changing"):
        admission.hold(FIRST, TIMEOUT_S, 0.0)
    assert admission.enter(1, changes=True, timeout_s=0)  # nothing is held
    admission.leave(changes=True)
    held = threading.Thread(target=admission.hold, args=(FIRST, TIMEOUT_S, TIMEOUT_S))
    held.start()
    admission.leave(changes=True)
    held.join(TIMEOUT_S)
    assert admission.is_held_by(FIRST)


def test_whoever_waits_comes_in_when_it_is_released() -> None:
    admission = Admission()
    admission.hold(FIRST, TIMEOUT_S, TIMEOUT_S)
    entered: list[bool] = []
    waiting = threading.Thread(target=lambda: entered.append(admission.enter(1, changes=True, timeout_s=TIMEOUT_S)))
    waiting.start()
    assert admission.release(FIRST)
    waiting.join(TIMEOUT_S)
    assert entered == [True]


def test_a_hold_ends_with_its_lease() -> None:
    now = [0.0]
    admission = Admission(lambda: now[0])
    admission.hold(FIRST, 2.0, TIMEOUT_S)
    assert admission.is_held_by(FIRST)
    now[0] = 2.0
    assert not admission.is_held_by(FIRST)
    assert admission.enter(1, changes=True, timeout_s=0)
    assert not admission.release(FIRST)
    admission.leave(changes=True)
    admission.hold(SECOND, 2.0, TIMEOUT_S)
    assert admission.is_held_by(SECOND)


def test_one_holder_at_a_time() -> None:
    admission = Admission()
    admission.hold(FIRST, TIMEOUT_S, TIMEOUT_S)
    admission.hold(FIRST, TIMEOUT_S, TIMEOUT_S)
    with pytest.raises(AbortedError, match="another save or restore"):
        admission.hold(SECOND, TIMEOUT_S, TIMEOUT_S)
    assert not admission.release(SECOND)
    assert admission.release(FIRST)


def test_a_task_that_drains_lets_nobody_in_after_a_hold() -> None:
    admission = Admission()
    admission.hold(FIRST, TIMEOUT_S, TIMEOUT_S)
    admission.start_draining("the test")
    admission.release(FIRST)
    assert not admission.enter(1, changes=True, timeout_s=0)
