"""What a process says of its role, and how often."""

from __future__ import annotations

import pytest

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
