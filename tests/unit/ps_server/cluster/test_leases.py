"""When a silent task counts as late, and when as dead."""

from __future__ import annotations

import math

import pytest

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.liveness import HEARTBEATS_PER_LEASE
from ps_server.cluster.leases import LeaseState, check_lease, lease_state


@pytest.mark.parametrize(
    ("silent_s", "state"),
    [
        (0.0, LeaseState.ALIVE),
        (6.0, LeaseState.ALIVE),
        (6.5, LeaseState.LATE),
        (9.0, LeaseState.LATE),
        (9.5, LeaseState.DEAD),
        (1e9, LeaseState.DEAD),
        (-5.0, LeaseState.ALIVE),  # heard of by another thread since the time was read
    ],
)
def test_a_task_is_judged_by_how_long_it_is_silent(silent_s: float, state: LeaseState) -> None:
    assert lease_state(100.0 + silent_s, 100.0, 9.0) is state


def test_one_heartbeat_that_comes_a_little_late_is_no_sign_of_anything() -> None:
    lease_s = 9.0
    assert lease_state(1.5 * lease_s / HEARTBEATS_PER_LEASE, 0.0, lease_s) is LeaseState.ALIVE


def test_without_a_lease_nobody_dies() -> None:
    assert lease_state(1e12, 0.0, 0.0) is LeaseState.ALIVE


@pytest.mark.parametrize("lease_s", [-1.0, math.inf, math.nan, 1e6])
def test_a_lease_that_cannot_be_is_refused(lease_s: float) -> None:
    with pytest.raises(InvalidArgumentError, match="lease"):
        check_lease(lease_s)


@pytest.mark.parametrize("lease_s", [0.0, 0.1, 10.0, 86_400.0])
def test_any_other_is_taken(lease_s: float) -> None:
    check_lease(lease_s)
