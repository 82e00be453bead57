"""Histories that clients record while ps:0 is killed and replies are lost: each has an order that explains it."""

from __future__ import annotations

import enum
import random
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import psutil
import pytest

from ps_cluster import LocalCluster
from tests.chaos.fault_log import fault_environment, fired, now_and_then
from tests.chaos.history import Progress, record
from tests.chaos.linearizability import Call, Kind, linearization
from tests.chaos.outage import Outage
from tests.chaos.patience import ask_impatiently
from tests.conftest import Eventually

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

NUM_CLIENTS = 4
CALLS_EACH = 150
DROP = "reply.send=drop"


def journaling_cluster(tmp_path: Path, *, drop_every: int) -> LocalCluster:
    plan = now_and_then(DROP, every=drop_every, up_to=2_000, seed="linearizability")
    environment = fault_environment(plan, tmp_path / "faults")
    return LocalCluster(
        num_ps=1, durability="journal", data_dir=tmp_path / "data", ps_arguments=["--allow-faults"], env=environment
    )


def num_updates(calls: Sequence[Call]) -> int:
    return sum(call.kind is not Kind.READ for call in calls)


@pytest.mark.timeout(400)
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
    assert recording.calls[-1].version == num_updates(recording.calls)


def is_stopped(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


class Way(enum.Enum):
    """How a ps that was stopped comes back to what was sent to it meanwhile."""

    WOKEN = "it goes on where it was, and carries out what nobody waits for any more"
    WOKEN_AND_KILLED = "it may have carried out some of it, and does not live to tell"
    KILLED = "it has never seen it"


@pytest.mark.timeout(400)
def test_what_was_given_up_counts_once_or_never(
    tmp_path: Path, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_impatiently(monkeypatch, 0.5)  # which a client does once before it gives an update up
    outages = [Outage(20 * (index + 1), {index % NUM_CLIENTS, (index + 1) % NUM_CLIENTS}) for index in range(len(Way))]

    def come_back(way: Way) -> None:
        if way is not Way.KILLED:
            cluster.signal_ps(0, signal.SIGCONT)
        if way is not Way.WOKEN:
            cluster.kill_ps(0)
            cluster.restart_ps(0)

    def stop_now_and_then(progress: Progress) -> None:
        for outage, way in zip(outages, Way, strict=True):
            eventually(outage.is_awaited, timeout_s=60, message="the clients come to where they give up")
            cluster.signal_ps(0, signal.SIGSTOP)
            eventually(partial(is_stopped, cluster.ps_pid(0)), message="the ps has stopped")
            outage.begin()
            eventually(outage.is_given_up, timeout_s=60, message="the clients give up")
            come_back(way)
            outage.end()

    with journaling_cluster(tmp_path, drop_every=30) as cluster:
        recording = record(
            cluster, num_clients=NUM_CLIENTS, calls_each=100, seed=6, meanwhile=stop_now_and_then, outages=outages
        )

    assert fired(tmp_path / "faults")[DROP] > 0
    given_up = [call for call in recording.calls if call.returned is None]
    assert len(given_up) == sum(len(outage.clients) for outage in outages)
    order = linearization(recording.calls, recording.initial)
    assert recording.calls[-1].version == num_updates(order)
