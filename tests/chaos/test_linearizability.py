"""Histories that clients record while ps:0 is killed and replies are lost: each has an order that explains it."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest

from ps_cluster import LocalCluster
from tests.chaos.fault_log import fault_environment, fired, now_and_then
from tests.chaos.history import Progress, Recording, record
from tests.chaos.linearizability import Kind, linearization
from tests.conftest import Eventually

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

NUM_CLIENTS = 4
CALLS_EACH = 150
PATIENCE_S = 0.8
DROP = "reply.send=drop"


def journaling_cluster(tmp_path: Path, *, drop_every: int) -> LocalCluster:
    plan = now_and_then(DROP, every=drop_every, up_to=2_000, seed="linearizability")
    environment = fault_environment(plan, tmp_path / "faults")
    return LocalCluster(num_ps=1, durability="journal", data_dir=tmp_path / "data", env=environment)


def num_updates(recording: Recording) -> int:
    return sum(call.kind is not Kind.READ for call in recording.calls)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("transport", ["grpc", "auto"])
def test_histories_are_linearizable_though_the_ps_is_killed_and_replies_are_lost(
    transport: str, tmp_path: Path, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARDSCOPE_TRANSPORT", transport)
    chance = random.Random(transport)
    moments = [int((part + chance.uniform(-0.1, 0.1)) * NUM_CLIENTS * CALLS_EACH) for part in (0.2, 0.5, 0.8)]

    def kill_and_restart(progress: Progress) -> None:
        for moment in moments:
            eventually(partial(progress.has_calls, moment), timeout_s=60, message="the clients get on")
            cluster.kill_ps(0)
            cluster.restart_ps(0)

    with journaling_cluster(tmp_path, drop_every=100) as cluster:
        recording = record(cluster, num_clients=NUM_CLIENTS, calls_each=CALLS_EACH, seed=5, meanwhile=kill_and_restart)

    assert fired(tmp_path / "faults")[DROP] > 0
    assert all(call.returned is not None for call in recording.calls)
    assert len(linearization(recording.calls, recording.initial)) == NUM_CLIENTS * CALLS_EACH + 1
    assert recording.calls[-1].version == num_updates(recording)


@pytest.mark.soak  # how many operations are given up, and so how long the search takes, depends on the machine
@pytest.mark.timeout(180)
def test_what_was_given_up_counts_once_or_never(tmp_path: Path, eventually: Eventually) -> None:
    def kill_and_restart_late(progress: Progress) -> None:
        # The second time some clients may have made all their calls.
        for moment, more in ((50, NUM_CLIENTS - 1), (200, 1)):
            eventually(partial(progress.has_calls, moment), timeout_s=60, message="the clients get on")
            progress.may_go_on.clear()
            given_up = progress.num_unanswered + more
            cluster.kill_ps(0)
            eventually(partial(progress.has_unanswered, given_up), timeout_s=60, message="clients give up")
            cluster.restart_ps(0)
            progress.may_go_on.set()

    with journaling_cluster(tmp_path, drop_every=30) as cluster:
        recording = record(
            cluster,
            num_clients=NUM_CLIENTS,
            calls_each=100,
            seed=6,
            meanwhile=kill_and_restart_late,
            patience_s=PATIENCE_S,
        )

    assert fired(tmp_path / "faults")[DROP] > 0
    assert sum(call.returned is None for call in recording.calls) >= NUM_CLIENTS
    order = linearization(recording.calls, recording.initial)
    assert recording.calls[-1].version == sum(call.kind is not Kind.READ for call in order)
