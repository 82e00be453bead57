"""One waiter, one call."""

from __future__ import annotations

import threading

import pytest

from ps_server.log.one_shot_event import OneShotEvent

TIMEOUT_S = 20.0


def test_a_waiter_is_woken() -> None:
    event, woken = OneShotEvent(), list[bool]()
    waiter = threading.Thread(target=lambda: woken.append(event.wait(TIMEOUT_S)))
    waiter.start()
    event.set()
    waiter.join(TIMEOUT_S)
    assert woken == [True]


@pytest.mark.parametrize("timeout_s", [0.0, -5.0, 1e-3, float("inf"), 1e300])
def test_who_is_woken_before_waits_for_nothing(timeout_s: float) -> None:
    event = OneShotEvent()
    event.set()
    assert event.wait(timeout_s)


@pytest.mark.parametrize("timeout_s", [0.0, -5.0, 1e-3])
def test_who_is_not_woken_waits_no_longer(timeout_s: float) -> None:
    assert not OneShotEvent().wait(timeout_s)
