"""Histories of clients that read at both processes of a ps task: each has an order that explains it."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import pytest

from ps_cluster import LocalCluster
from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB
from tests.chaos.fault_log import fault_environment, fired, now_and_then
from tests.chaos.history import Progress, record
from tests.chaos.linearizability import Kind, linearization
from tests.chaos.outage import Outage
from tests.conftest import Eventually
from worker_client.transport import grpc as grpc_transport

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

NUM_CLIENTS = 4
CALLS_EACH = 150
PAUSE_BEFORE = 100
"""Calls of a client, before it waits until the pair is complete again."""
LEASE_S = 2.0
LATE_BEFORE = "replication.received=delay"
LATE_BETWEEN = "replication.answered=delay"
LATE_AFTER = "replication.applied=delay"
LATE = (LATE_BEFORE, LATE_BETWEEN, LATE_AFTER)
DROP = "reply.send=drop"


def plan() -> str:
    """The backup has records late, carries them out late when it has answered, or goes on late after them.

    Now and then an answer to a client is lost.
    """
    late = [now_and_then(f"{place}:0.03", every=4, up_to=500, seed=place) for place in LATE]
    return ";".join([*late, now_and_then(DROP, every=150, up_to=3_000, seed=DROP)])


def batches_at(cluster: LocalCluster, job: str) -> int:
    service = grpc_transport.connect(cluster.cluster_spec.task_address(job, 0), task="ps:0")
    try:
        return service.status(timeout_s=10.0).batches
    finally:
        service.close()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("transport", ["grpc", "auto"])
def test_histories_are_linearizable_though_both_processes_are_read_and_take_each_others_place(
    transport: str,
    tmp_path: Path,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("SHARDSCOPE_TRANSPORT", transport)
    monkeypatch.setenv("SHARDSCOPE_READ_FROM", "any")
    caplog.set_level(logging.INFO, logger="worker_client.connection.backup_reads")
    lines: list[str] = []
    pause = Outage(PAUSE_BEFORE, set(range(NUM_CLIENTS)))

    def has_said(text: str, times: int = 1) -> bool:
        return sum(text in line for line in list(lines)) >= times

    def wait_for_pair(times: int) -> None:
        message = f"the pair is complete, for the {times}. time"
        eventually(partial(has_said, "is the backup now", times), timeout_s=60, message=message)

    def wait_until_read(job: str) -> None:
        eventually(lambda: batches_at(cluster, job) > 0, timeout_s=60, message=f"{job}:0 is read")

    def swap(progress: Progress) -> None:
        eventually(partial(progress.has_calls, 150), timeout_s=60, message="the clients get on")
        wait_until_read(BACKUP_JOB)
        cluster.kill_ps(0)
        cluster.restart_ps(0)
        wait_for_pair(2)
        address = cluster.cluster_spec.task_address(PS_JOB, 0)
        eventually(
            lambda: sum(f"is read at {address} too" in each for each in caplog.messages) >= NUM_CLIENTS,
            timeout_s=60,
            message="all clients are welcome at the new backup",
        )
        eventually(pause.is_awaited, timeout_s=60, message="the clients come to their pause")
        pause.begin()
        eventually(pause.is_given_up, timeout_s=60, message="the clients go on")
        pause.end()
        wait_until_read(PS_JOB)

    with LocalCluster(
        1,
        replicas=1,
        ps_arguments=["--lease", str(LEASE_S), "--allow-faults"],
        env=fault_environment(plan(), tmp_path / "faults"),
        log=lambda _task, line: lines.append(line),
    ) as cluster:
        wait_for_pair(1)
        recording = record(
            cluster, num_clients=NUM_CLIENTS, calls_each=CALLS_EACH, seed=7, meanwhile=swap, outages=[pause]
        )

    faults = fired(tmp_path / "faults")
    assert min(faults[each] for each in (*LATE, DROP)) > 0
    order = linearization(recording.calls, recording.initial)
    assert recording.calls[-1].version == sum(call.kind is not Kind.READ for call in order)
