"""Barriers while ps 0 crashes, is killed or stopped: each arrival counts once, and nobody waits for ever."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

import worker_client as ss
from ps_cluster.local.local_cluster import LocalCluster
from ps_protocol.fault_points import Fault, FaultAction, FaultPlan, installed
from ps_protocol.shared_objects import Json, decode_json
from tests.chaos.ps_processes import PsTask
from tests.chaos.testbed import connected
from tests.conftest import Eventually
from tests.integration.test_failover import started
from tests.interrupted_places import CLIENT, interrupted_at

pytestmark = [pytest.mark.chaos, pytest.mark.integration, pytest.mark.usefixtures("impatient")]

TIMEOUT_S: Final = 60.0
MEETINGS: Final = 6
CRASHES: Final = (
    # Batches 1 and 2 open the barrier, each further one is an arrival.
    ("request.received", 4, "tcp"),
    ("batch.before_log", 3, "grpc"),
    ("batch.before_log", 4, "unix"),
    ("batch.after_log", 4, "tcp"),
    ("journal.after_commit", 7, "shm"),
    ("batch.before_reply", 4, "grpc"),
    ("batch.before_reply", 5, "tcp"),
    ("reply.send", 6, "unix"),
)


def state_of(client: ss.Client, name: str = "barrier/x") -> Json:
    state: Json = decode_json(client.variable(name).read_value().item(), "it")["state"]
    return state


def meet(clients: Sequence[ss.Client], meetings: int = MEETINGS, name: str = "x") -> None:
    """Has each client meet the others so often; none may be ahead of another by more than a meeting."""
    passed = [0] * len(clients)

    def work(index: int) -> None:
        for _ in range(meetings):
            before = passed[index]
            clients[index].barrier(name, TIMEOUT_S, count=len(clients))
            assert min(passed) >= before
            passed[index] += 1

    with ThreadPoolExecutor(len(clients)) as pool:
        for each in [pool.submit(work, index) for index in range(len(clients))]:
            each.result(3 * TIMEOUT_S)


@pytest.mark.parametrize(("place", "number", "transport"), CRASHES)
def test_with_a_journal_a_crash_anywhere_counts_each_arrival_once(
    ps: PsTask, place: str, number: int, transport: str
) -> None:
    ps.start(f"{place}=crash@{number}")
    restart = ps.start_when_ended()
    try:
        with connected([ps.address], transport) as one, connected([ps.address], transport, task_index=1) as two:
            meet([one, two])
            assert state_of(one)["meeting"] == MEETINGS + 1
            assert not state_of(one)["arrived"]
    finally:
        restart.join(TIMEOUT_S)
    assert ps.faults == [(place, "crash")]


@pytest.mark.parametrize("transport", ["tcp", "shm", "grpc"])
def test_a_kill_while_they_wait_changes_nothing(ps: PsTask, transport: str, eventually: Eventually) -> None:
    ps.start()
    with connected([ps.address], transport) as one, connected([ps.address], transport, task_index=1) as two:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(one.barrier, "x", TIMEOUT_S, count=2)
            with connected([ps.address], transport, task_index=2) as other:
                eventually(lambda: _has_arrived(other))
            ps.kill()
            ps.start()
            two.barrier("x", TIMEOUT_S, count=2)
            waiting.result(TIMEOUT_S)
        assert state_of(one)["meeting"] == 2


def _has_arrived(client: ss.Client) -> bool:
    with contextlib.suppress(ss.errors.ShardscopeError):
        return bool(state_of(client)["arrived"])
    return False


@pytest.mark.parametrize(
    "fault",
    [
        Fault("request.send", FaultAction.DROP, last=4),
        Fault("request.received", FaultAction.DUPLICATE),
        Fault("request.received", FaultAction.DROP, first=2, last=5),
        Fault("reply.send", FaultAction.DROP, first=3, last=8),
        Fault("reply.send", FaultAction.CUT, first=3, last=6),
    ],
    ids=lambda each: f"{each.place}-{each.action.value}",
)
@pytest.mark.parametrize("transport", ["tcp", "shm", "grpc"])
def test_lost_and_doubled_messages_count_once(ps: PsTask, transport: str, fault: Fault) -> None:
    text = f"{fault.place}={fault.action.value}" + (f"@{fault.first}-{fault.last}" if fault.last else "")
    ps.start(text if fault.place != "request.send" else "")
    plan = FaultPlan((fault,) if fault.place == "request.send" else ())
    with connected([ps.address], transport) as one, connected([ps.address], transport, task_index=1) as two:
        with installed(plan):
            meet([one, two])
        assert state_of(one)["meeting"] == MEETINGS + 1
    assert ps.faults or plan.fired("request.send")


def test_a_ps_that_is_stopped_for_a_while_keeps_them(ps: PsTask, eventually: Eventually) -> None:
    ps.start()
    with connected([ps.address], "tcp") as one, connected([ps.address], "tcp", task_index=1) as two:
        with ThreadPoolExecutor(2) as pool:
            waiting = pool.submit(one.barrier, "x", TIMEOUT_S, count=2)
            eventually(lambda: _has_arrived(two))
            ps.signal(signal.SIGSTOP)
            arriving = pool.submit(two.barrier, "x", TIMEOUT_S, count=2)
            eventually(lambda: two._handles[0].state != "connected" or arriving.running())
            ps.signal(signal.SIGCONT)
            for each in (waiting, arriving):
                each.result(TIMEOUT_S)
        assert state_of(one)["meeting"] == 2


def test_with_a_backup_they_meet_on_after_a_failover(resources: contextlib.ExitStack, eventually: Eventually) -> None:
    failover = started(resources, eventually, 1)
    cluster: LocalCluster = failover.cluster
    one = resources.enter_context(ss.connect(cluster.cluster_spec, task_index=0))
    two = resources.enter_context(ss.connect(cluster.cluster_spec, task_index=1))
    meet([one, two], 2)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(one.barrier, "x", TIMEOUT_S, count=2)
        eventually(lambda: bool(state_of(two)["arrived"]))
        failover.kill(ss.TaskId("ps", 0))
        two.barrier("x", TIMEOUT_S, count=2)
        waiting.result(TIMEOUT_S)
    meet([one, two], 2)
    assert state_of(one)["meeting"] == 6


_WORKER: Final = """
import sys
import shardscope as ss
with ss.connect(lease_s=1.0) as client:
    print("joined", flush=True)
    for line in sys.stdin:
        client.barrier(line.strip(), 60)
        print("met", flush=True)
"""


@contextlib.contextmanager
def worker(cluster: LocalCluster) -> Iterator[subprocess.Popen[str]]:
    """A process that is worker 1 and comes to the barriers whose names it is given; it has joined."""
    environ = {**os.environ, "TF_CONFIG": cluster.tf_config("worker", 1)}
    process = subprocess.Popen(
        [sys.executable, "-c", _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "joined\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_is_killed_ends_the_wait_of_the_others(signum: signal.Signals, eventually: Eventually) -> None:
    with (
        LocalCluster(num_ps=1, num_workers=2) as cluster,
        worker(cluster) as other,
        ss.connect(cluster.cluster_spec) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(client.barrier, "x", TIMEOUT_S)
        eventually(lambda: _has_arrived(client))
        other.send_signal(signum)
        with pytest.raises(ss.errors.AbortedError, match=rf"worker:1 .* \(last seen .* process {other.pid} on"):
            waiting.result(TIMEOUT_S)


def test_a_worker_that_sleeps_past_its_lease_is_given_up_and_meets_again_when_it_wakes(eventually: Eventually) -> None:
    with (
        LocalCluster(num_ps=1, num_workers=2) as cluster,
        worker(cluster) as other,
        ss.connect(cluster.cluster_spec) as client,
    ):
        assert other.stdin is not None
        assert other.stdout is not None
        other.send_signal(signal.SIGSTOP)
        with pytest.raises(ss.errors.AbortedError, match="worker:1 is dead"):
            client.barrier("x", TIMEOUT_S)
        other.send_signal(signal.SIGCONT)
        other.stdin.write("x\n")
        other.stdin.flush()
        eventually(lambda: _has_arrived(client))
        client.barrier("x", TIMEOUT_S)
        assert other.stdout.readline() == "met\n"
        assert state_of(client)["meeting"] == 3


def num_passed(client: ss.Client, name: str = "x") -> int:
    """How many calls of a client for a barrier are over, as the client sees it."""
    barrier = client._barriers.get(name)
    return 0 if barrier is None else barrier._call - 1


@pytest.mark.parametrize("transport", ["tcp", "shm", "grpc"])
def test_an_interrupt_anywhere_leaves_the_connection_whole(ps: PsTask, transport: str) -> None:
    ps.start()
    num_interrupts, number, was_interrupted = 0, 1, True
    with (
        connected([ps.address], transport) as one,
        connected([ps.address], transport, task_index=1) as two,
        ThreadPoolExecutor(1) as pool,
    ):
        while was_interrupted:
            there = pool.submit(two.barrier, "x", TIMEOUT_S, count=2)
            num_met = num_passed(one)
            was_interrupted = interrupted_at(number, lambda: one.barrier("x", TIMEOUT_S, count=2), CLIENT)
            if was_interrupted:
                num_interrupts += 1
                if num_passed(one) == num_met:  # not as it left the barrier, which is the same as right after it
                    one.barrier("x", TIMEOUT_S, count=2)
            there.result(TIMEOUT_S)
            number += 1 + number // 6
        assert num_interrupts > 10
        assert state_of(one)["meeting"] == num_interrupts + 2
