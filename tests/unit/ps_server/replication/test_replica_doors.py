"""What a process says of its role, and how often."""

from __future__ import annotations

import logging
from uuid import UUID

import pytest

from ps_server.replication.register import Register
from ps_server.replication.replica_doors import Reasons


def test_reasons_that_take_turns_are_said_now_and_then_only(caplog: pytest.LogCaptureFixture) -> None:
    now_s = [100.0]
    reasons = Reasons("ps:0", lambda: now_s[0])
    for step in range(60):
        now_s[0] = 100.0 + step / 10
        reasons.log(f"its backup has been silent for {step / 10} s")
        reasons.log(f"the store gives no answer since {step} steps")
    assert reasons.last == "the store gives no answer since 59 steps"
    assert [record.getMessage() for record in caplog.records] == [
        f"ps:0: {what}"
        for step in (0, 51)
        for what in (f"its backup has been silent for {step / 10} s", f"the store gives no answer since {step} steps")
    ]


def test_of_a_process_that_was_told_to_end_nothing_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    reasons = Reasons("ps:0", lambda: 0.0)
    reasons.are_expected = True
    reasons.log("its backup is about to end")
    reasons.log("a detail", logging.DEBUG)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "ps:0: its backup is about to end")
    ]


def test_a_client_is_told_what_a_process_without_state_waits_for() -> None:
    reasons = Reasons("ps:0", lambda: 0.0)
    assert "Ask the other ps tasks" in reasons.not_primary(waits=True)
    reasons.log_loss(Register(4, UUID(int=1)), 8.0)
    told = reasons.not_primary(waits=True)
    assert told.startswith("this process waits for the state of ps:0. No process has been heard of for 8 s")
    assert "`shardscope promote ps:0 --accept-loss` begins without the state" in told
    assert "waits" not in reasons.not_primary(waits=False)
