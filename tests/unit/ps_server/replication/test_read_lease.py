"""Until when a backup may be read: a clock of its own, and what the primary says it has heard."""

from __future__ import annotations

import pytest

from ps_server.replication.decisions import PRIMARY_PART
from ps_server.replication.read_lease import READ_PART, ReadLease

LEASE_S = 10.0
EVERY_S = LEASE_S / 6


def test_without_a_token_there_is_no_lease() -> None:
    assert not ReadLease(LEASE_S).holds(0.0)


def test_a_primary_that_does_not_say_what_it_has_heard_gives_none() -> None:
    lease = ReadLease(LEASE_S)
    for token in range(1, 10):
        lease.answer(token, 0, float(token))
        assert not lease.holds(float(token))


def test_it_counts_from_the_answer_that_came_before_the_newest_token_that_counts() -> None:
    lease = ReadLease(LEASE_S)
    lease.answer(1, 0, 100.0)
    lease.answer(2, 1, 101.0)  # sent after the answer to 1, at 100; whether its own answer arrives is not known
    assert not lease.holds(101.0)
    lease.answer(3, 2, 102.0)  # it did, so that the primary counts from when it sent 2: not before 100
    assert lease.holds(99.9 + LEASE_S * READ_PART)
    assert not lease.holds(100.1 + LEASE_S * READ_PART)


def test_answers_that_do_not_arrive_do_not_prolong_it() -> None:
    lease = ReadLease(LEASE_S)
    for token in range(1, 4):
        lease.answer(token, token - 1, float(token))
    end_s = 1.0 + LEASE_S * READ_PART
    for token in range(4, 200):  # all name the same one
        lease.answer(token, 2, token * 0.01 + 3.0)
    assert lease.holds(end_s - 0.1)
    assert not lease.holds(end_s + 0.1)


def test_a_token_that_was_on_its_way_for_long_does_not_prolong_it() -> None:
    lease = ReadLease(LEASE_S)
    for token in range(1, 4):
        lease.answer(token, token - 1, float(token))
    lease.answer(4, 3, 1_000.0)  # as after a stop: it lay there
    assert not lease.holds(1_000.0)
    lease.answer(5, 3, 1_000.0)
    assert not lease.holds(1_000.0)


def test_with_tokens_at_their_pace_it_never_ends() -> None:
    lease = ReadLease(LEASE_S)
    for token in range(1, 50):
        lease.answer(token, token - 1, token * EVERY_S)
        if token > 3:
            assert lease.holds((token + 1) * EVERY_S)


@pytest.mark.parametrize("rates", [(1.0, 1.0), (1.0, 1.23), (0.81, 1.0), (0.9, 1.1), (1.23, 1.0)])
@pytest.mark.parametrize("delay_s", [0.0, 0.3, 1.5, 9.0])
def test_it_has_ended_when_the_primary_may_go_on_alone(rates: tuple[float, float], delay_s: float) -> None:
    """Clocks that start anywhere and run at different rates; messages that take as long as they like, either way."""
    primary_rate, backup_rate = rates
    if backup_rate < primary_rate * PRIMARY_PART:
        pytest.skip("clocks may differ by a fifth")
    lease = ReadLease(LEASE_S)
    sent_s, heard = 0.0, 0
    for token in range(1, 8):
        received_s = sent_s + delay_s
        lease.answer(token, heard, 5_000.0 + received_s * backup_rate)
        alone_s = _sent(heard, delay_s) + LEASE_S * PRIMARY_PART / primary_rate  # if nothing more arrives
        assert not heard or not lease.holds(5_000.0 + (alone_s + 0.001) * backup_rate)
        heard = token
        sent_s = received_s + delay_s


def _sent(token: int, delay_s: float) -> float:
    """When a token was sent, each after the answer to the one before it."""
    return 2 * delay_s * (token - 1)
