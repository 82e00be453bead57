"""One thread at a time creates what has a name."""

from __future__ import annotations

import threading

import pytest

from ps_protocol.errors import DeadlineExceededError
from tests.conftest import Eventually
from worker_client.scopes.name_claims import NameClaims


def test_another_thread_waits_for_its_turn(eventually: Eventually) -> None:
    claims, order, inside, leave = NameClaims(), list[str](), threading.Event(), threading.Event()

    def first() -> None:
        with claims.hold("v"):
            inside.set()
            assert leave.wait(30)
            order.append("first")

    def second() -> None:
        with claims.hold("v"):
            order.append("second")

    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert inside.wait(30)
    threads.append(threading.Thread(target=second))
    threads[1].start()
    with claims.hold("other"):
        pass
    eventually(lambda: claims._changed._waiters, message="the second thread waits")  # type: ignore[attr-defined]
    assert order == []
    leave.set()
    for thread in threads:
        thread.join()
    assert order == ["first", "second"]


def test_a_thread_may_claim_what_it_has_claimed() -> None:
    claims = NameClaims()
    with claims.hold("v"):
        with claims.hold("v"):
            pass
        assert "v" in claims._threads
    assert not claims._threads


def test_a_claim_ends_with_an_error_inside() -> None:
    claims = NameClaims()
    with pytest.raises(KeyError), claims.hold("v"):
        raise KeyError
    assert not claims._threads


def test_waiting_has_a_bound_and_says_what_for() -> None:
    claims, errors = NameClaims(wait_s=0.0), list[DeadlineExceededError]()

    def other() -> None:
        with pytest.raises(DeadlineExceededError) as caught, claims.hold("a/v"):
            pass
        errors.append(caught.value)

    with claims.hold("a/v"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert errors[0].variable == "a/v"
    assert "another thread" in str(errors[0])
