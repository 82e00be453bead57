"""How long a connection may be silent, on a clock of the test."""

from __future__ import annotations

from worker_client.transport.sockets.trust import SILENCE_S, Trust


def test_operations_and_bytes_on_their_way_have_time() -> None:
    trust = Trust(lambda: 0.0)
    assert trust.allows(SILENCE_S - 0.01, 0, 0)
    assert not trust.allows(SILENCE_S, 0, 0)
    assert trust.allows(SILENCE_S + 11.9, 2000, 1_000_000_000)
    assert not trust.allows(SILENCE_S + 12, 2000, 1_000_000_000)


def test_who_was_doubted_in_vain_is_given_more_time_for_a_while_and_never_too_much() -> None:
    now_s = 0.0
    trust = Trust(lambda: now_s)
    patience_s: list[float] = []
    for _ in range(6):
        trust.doubt()
        assert trust.is_doubted
        trust.restore()
        assert not trust.is_doubted
        patience_s.append(trust.patience_s)
    assert patience_s == [2.0, 4.0, 8.0, 16.0, 16.0, 16.0]
    now_s = 60.0
    assert trust.patience_s == SILENCE_S
    trust.doubt()
    assert trust.patience_s == 2.0
