"""One thread at a time creates what has a name."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import pytest

from ps_protocol.errors import DeadlineExceededError
from worker_client.scopes import name_claims
from worker_client.scopes.name_claims import NameClaims, _Claim


class Watched(NameClaims):
    """Tells when a thread has found a name taken."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = threading.Event()

    def _claim(self, name: str, mine: _Claim) -> _Claim | None:
        other = super()._claim(name, mine)
        if other is not None:
            self.waits.set()
        return other


def test_another_thread_waits_for_its_turn() -> None:
    claims, order, inside, leave = Watched(), list[str](), threading.Event(), threading.Event()

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
    assert claims.waits.wait(30)
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
        assert "v" in claims._claims
    assert not claims._claims


def test_a_claim_ends_with_an_error_inside() -> None:
    claims = NameClaims()
    with pytest.raises(KeyError), claims.hold("v"):
        raise KeyError
    assert not claims._claims


class Interrupt(BaseException):
    """What a signal handler raises."""


def test_an_interrupt_at_any_place_leaves_the_name_to_other_threads() -> None:
    def claim(claims: NameClaims) -> None:
        with claims.hold("v"):
            pass

    number, passed = 0, 0
    while passed == number:
        number += 1
        claims = NameClaims(wait_s=0.0)
        passed = _interrupted_at(number, lambda claims=claims: claim(claims))  # type: ignore[misc]
        with ThreadPoolExecutor(1) as pool:
            pool.submit(claim, claims).result(30)
    assert number > 5, "the interrupts have hit nothing"


def _interrupted_at(number: int, function: Callable[[], object]) -> int:
    """Raises where a handler could, at the given one of those places; returns how many were passed."""
    places = 0

    def place(frame: FrameType, event: str, _: object) -> None:
        nonlocal places
        if event in ("call", "c_return") and frame.f_globals.get("__name__") in (name_claims.__name__, "threading"):
            places += 1
            if places == number:
                raise Interrupt

    sys.setprofile(place)
    try:
        function()
    except Interrupt:
        pass
    finally:
        sys.setprofile(None)
    return places


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
