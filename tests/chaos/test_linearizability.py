"""Histories that clients record while ps:0 is killed and replies are lost: each has an order that explains it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from ps_cluster import LocalCluster
from tests.chaos.fault_log import fault_environment, fired, now_and_then
from tests.chaos.history import record
from tests.chaos.linearizability import Kind, linearization
from tests.conftest import Eventually

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

NUM_CLIENTS = 4
CALLS_EACH = 150
DROP = "reply.send=drop"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("transport", ["grpc", "auto"])
def test_histories_are_linearizable_though_the_ps_is_killed_and_replies_are_lost(
    transport: str, tmp_path: Path, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARDSCOPE_TRANSPORT", transport)
    log = tmp_path / "faults"
    plan = now_and_then(DROP, every=100, up_to=2_000, seed=transport)
    chance = random.Random(transport)

    def kill_now_and_then(num_returned: Callable[[], int]) -> None:
        for part in (0.2, 0.5, 0.8):
            moment = int((part + chance.uniform(-0.1, 0.1)) * NUM_CLIENTS * CALLS_EACH)
            eventually(lambda moment=moment: num_returned() >= moment, timeout_s=60, message="the clients get on")
            cluster.kill_ps(0)
            cluster.restart_ps(0)

    with LocalCluster(
        num_ps=1, durability="journal", data_dir=tmp_path / "data", env=fault_environment(plan, log)
    ) as cluster:
        recording = record(cluster, num_clients=NUM_CLIENTS, calls_each=CALLS_EACH, seed=5, meanwhile=kill_now_and_then)

    assert fired(log)[DROP] > 0
    assert len(recording.calls) == NUM_CLIENTS * CALLS_EACH + 1
    order = linearization(recording.calls, recording.initial)
    assert len(order) == len(recording.calls)  # every operation was answered in the end
    assert recording.calls[-1].version == sum(call.kind is not Kind.READ for call in order)
