from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ps_protocol.errors import DeadlineExceededError
from ps_protocol.service_types import ServingState
from ps_server.core.admission import Admission
from tests.unit.ps_server.waiting import PATIENCE_S, wait_until


def test_counts_what_is_let_in() -> None:
    admission = Admission()
    assert admission.enter(3)
    assert admission.enter(2)
    admission.leave()
    admission.leave()
    admission.count_bytes(received=10, sent=1)
    admission.count_bytes(received=5, sent=2)
    traffic = admission.traffic
    assert (traffic.batches, traffic.operations, traffic.bytes_received, traffic.bytes_sent) == (2, 5, 15, 3)


def test_a_closed_door_lets_nobody_in_and_says_why() -> None:
    admission = Admission()
    admission.start_draining("an upgrade")
    admission.start_draining("another reason")
    assert not admission.enter(1)
    assert admission.traffic.batches == 0
    refusal = admission.refusal()
    assert refusal.retryable
    assert "is draining (an upgrade)" in refusal.message


def test_goes_from_serving_over_draining_to_stopped() -> None:
    admission = Admission()
    assert (admission.state, admission.is_draining) == (ServingState.SERVING, False)
    admission.enter(1)
    admission.start_draining("the end")
    assert (admission.state, admission.is_draining) == (ServingState.DRAINING, True)
    admission.leave()
    assert admission.state is ServingState.STOPPED


def test_draining_waits_for_those_inside() -> None:
    admission = Admission()
    admission.enter(1)
    admission.enter(1)
    admission.start_draining("the end")
    with ThreadPoolExecutor(1) as pool:
        emptied = pool.submit(admission.wait_until_empty, PATIENCE_S)
        admission.leave()
        assert not emptied.done()
        admission.leave()
        emptied.result(PATIENCE_S)


def test_draining_waits_no_longer_than_its_timeout() -> None:
    admission = Admission()
    admission.enter(1)
    admission.start_draining("the end")
    with pytest.raises(DeadlineExceededError, match="1 batches were still being carried out"):
        admission.wait_until_empty(0)


def test_listeners_are_told_once_when_draining_starts() -> None:
    admission, told = Admission(), []
    admission.when_draining(lambda: told.append("first"))
    assert told == []
    admission.start_draining("the end")
    admission.start_draining("the end")
    admission.when_draining(lambda: told.append("late"))
    assert told == ["first", "late"]


def test_nobody_is_inside_who_is_not_counted() -> None:
    admission = Admission()

    def work() -> int:
        entered = 0
        while admission.enter(1):
            entered += 1
            admission.leave()
        return entered

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work) for _ in range(4)]
        wait_until(lambda: admission.traffic.batches > 100)
        admission.start_draining("the end")
        admission.wait_until_empty(PATIENCE_S)
        assert sum(worker.result(PATIENCE_S) for worker in workers) == admission.traffic.batches
    assert admission.state is ServingState.STOPPED
