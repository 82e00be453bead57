"""Workers that train together while ps tasks and workers crash in any phase of a round: each gradient counts once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.fault_points import Fault, FaultAction, FaultPlan, installed
from ps_protocol.task_id import TaskId
from tests.chaos.fault_log import fault_environment, fired
from tests.chaos.ps_processes import PsTask
from tests.chaos.testbed import beside_a_crash, connected
from tests.conftest import Eventually
from tests.integration.test_failover import started
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from tests.unit.worker_client.optimizers.together import OPTIMIZERS, Array, Worker, alone, gradients, mean_of
from worker_client.optimizers.outcomes import Applied

pytestmark = [pytest.mark.chaos, pytest.mark.integration, pytest.mark.usefixtures("impatient")]

TIMEOUT_S: Final = 90.0
STEPS: Final = 6
CRASHES: Final = (
    # ps, place, number of the batch, transport. The first ones declare the model and join; then each step of two
    # workers is two batches that stage, and at ps 0 hand in, and two that bring.
    (0, "request.received", 24, "tcp"),
    (0, "batch.before_log", 19, "grpc"),
    (0, "batch.after_log", 20, "tcp"),
    (0, "batch.before_log", 21, "unix"),
    (0, "journal.after_commit", 22, "tcp"),
    (0, "batch.before_reply", 23, "shm"),
    (0, "batch.after_log", 24, "grpc"),
    (0, "reply.send", 26, "tcp"),
    (1, "request.received", 12, "tcp"),
    (1, "batch.before_log", 10, "shm"),
    (1, "batch.after_log", 11, "tcp"),
    (1, "batch.before_log", 12, "grpc"),
    (1, "journal.after_commit", 13, "unix"),
    (1, "batch.before_reply", 14, "tcp"),
)


def train(clients: list[ss.Client], sync: str) -> tuple[list[Worker], list[list[Applied]]]:
    """Has each client make its steps."""
    workers = [Worker(client, OPTIMIZERS["adam"](sync=sync)) for client in clients]

    def work(index: int) -> list[Applied]:
        return [workers[index].step(gradients(index, number)) for number in range(STEPS)]

    with ThreadPoolExecutor(len(clients)) as pool:
        begun = [pool.submit(work, index) for index in range(len(clients))]
        return workers, [each.result(TIMEOUT_S) for each in begun]


def check(workers: list[Worker], applied: list[list[Applied]]) -> None:
    """Each gradient is part of its round, once."""
    for of_worker in applied:
        assert [each[:3] for each in of_worker] == [("applied", number, number) for number in range(1, STEPS + 1)]
    check_values(workers)


def check_values(workers: list[Worker]) -> None:
    for found, expected in zip(workers[0].values(), alone(OPTIMIZERS["adam"], len(workers), STEPS), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("index", "place", "number", "transport"), CRASHES)
def test_with_a_journal_a_crash_of_a_ps_counts_each_gradient_once(
    tasks: list[PsTask], index: int, place: str, number: int, transport: str
) -> None:
    with beside_a_crash(tasks, index, place, number, transport) as clients:
        check(*train(clients, "bsp(total=2)"))


@pytest.mark.parametrize(
    ("index", "place", "number", "transport"), [each for each in CRASHES if each[1].startswith(("batch", "journal"))]
)
def test_a_crash_of_a_ps_counts_each_gradient_once_where_workers_go_ahead(
    tasks: list[PsTask], index: int, place: str, number: int, transport: str
) -> None:
    with beside_a_crash(tasks, index, place, number, transport) as clients:
        workers, applied = train(clients, "ssp(2, total=2)")
        for of_worker in applied:
            assert {each.verdict for each in of_worker} <= {"applied", "pending"}
        check_values(workers)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("request.send", FaultAction.DROP, first=20, last=23),
        Fault("request.received", FaultAction.DUPLICATE),
        Fault("request.received", FaultAction.DROP, first=10, last=13),
        Fault("reply.send", FaultAction.DROP, first=12, last=16),
    ],
    ids=lambda each: f"{each.place}-{each.action.value}",
)
@pytest.mark.parametrize("transport", ["tcp", "grpc"])
def test_lost_and_doubled_messages_count_once(tasks: list[PsTask], transport: str, fault: Fault) -> None:
    text = f"{fault.place}={fault.action.value}" + (f"@{fault.first}-{fault.last}" if fault.last else "")
    for each in tasks:
        each.start(text if fault.place != "request.send" else "")
    plan = FaultPlan((fault,) if fault.place == "request.send" else ())
    addresses = [each.address for each in tasks]
    with connected(addresses, transport) as one, connected(addresses, transport, task_index=1) as two:
        with installed(plan):
            found = train([one, two], "bsp(total=2)")
        check(*found)
    assert [each for each in tasks if each.faults] == tasks or plan.fired("request.send")


def tell_its_end(client: ss.Client, process: subprocess.Popen[str]) -> None:
    """Waits for the end of worker 1, and tells the cluster of it, as who starts workers does."""
    process.wait(TIMEOUT_S)
    service = client.fanout.handle(0).service
    (member,) = [
        each for each in client.fanout.handle(0).service.list_members(timeout_s=TIMEOUT_S) if each.task == "worker:1"
    ]
    service.leave(member.task, member.incarnation, end="killed", timeout_s=TIMEOUT_S)


@contextlib.contextmanager
def other_worker(
    addresses: list[str], log: Path, faults: str = "", lease_s: float = 0.0
) -> Iterator[subprocess.Popen[str]]:
    """Worker 1, in a process of its own, which dies by itself if there are faults."""
    command = [sys.executable, "-m", "tests.chaos.training_worker", ",".join(addresses), "1", f"{STEPS}"]
    environ = {**os.environ, **fault_environment(faults, log)}
    process = subprocess.Popen([*command, "bsp(total=2)", f"{lease_s}"], stdout=subprocess.PIPE, text=True, env=environ)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [6, 8, 10, 11, 12, 13, 14, 16])  # the first ones declare, open and join
def test_a_worker_that_dies_in_any_phase_leaves_no_half_round(tasks: list[PsTask], tmp_path: Path, number: int) -> None:
    addresses = [each.start().address for each in tasks]
    spec = ClusterSpec({"ps": addresses, "worker": ["w0.example:1", "w1.example:1"]})
    log = tmp_path / "faults"
    with (
        ss.connect(spec, lease_s=0.0, transport="tcp") as client,
        other_worker(addresses, log, f"request.send=crash@{number}") as other,
        ThreadPoolExecutor(1) as pool,
    ):
        worker = Worker(client, OPTIMIZERS["sgd"](sync="bsp(total=2)"))
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"  # else the start of a process would be part of the first round
        telling = pool.submit(tell_its_end, client, other)
        applied = [worker.step(gradients(0, step)) for step in range(STEPS)]
        telling.result(TIMEOUT_S)
        said = other.stdout.read().split()
        assert other.returncode == -signal.SIGKILL
        values = worker.values()
    assert fired(log) == {"request.send=crash": 1}
    assert [each[:3] for each in applied] == [("applied", step, step) for step in range(1, STEPS + 1)]
    assert {each.partition(":")[0] for each in said} <= {"applied"}
    # Its last gradient was handed in, or it was not; on both ps tasks alike.
    candidates = [with_the_first_of_the_other(counted) for counted in (len(said), len(said) + 1)]
    matches = [
        all(np.allclose(found, each, rtol=1e-6, atol=1e-6) for found, each in zip(values, expected, strict=True))
        for expected in candidates
    ]
    assert matches in ([True, False], [False, True])


def test_a_worker_that_sleeps_past_its_lease_wakes_and_goes_on(tasks: list[PsTask], tmp_path: Path) -> None:
    addresses = [each.start().address for each in tasks]
    spec = ClusterSpec({"ps": addresses, "worker": ["w0.example:1", "w1.example:1"]})
    with (
        ss.connect(spec, lease_s=0.0, transport="tcp") as client,
        other_worker(addresses, tmp_path / "faults", lease_s=1.0) as other,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        worker = Worker(client, OPTIMIZERS["sgd"](sync="bsp(total=2)"))
        applied = [worker.step(gradients(0, 0))]
        said = [other.stdout.readline().strip()]
        other.send_signal(signal.SIGSTOP)
        # What it had handed in counts for one round at most, so the others need its lease to run out.
        applied.extend([worker.step(gradients(0, step)) for step in range(1, 4)])
        other.send_signal(signal.SIGCONT)
        while other.poll() is None:
            applied.append(worker.step(gradients(0, len(applied))))
        said += other.stdout.read().split()
        assert other.returncode == 0
        values = worker.values()
    assert [each[:3] for each in applied] == [("applied", step, step) for step in range(1, len(applied) + 1)]
    verdicts = [each.partition(":")[0] for each in said]
    assert len(verdicts) == STEPS
    assert set(verdicts) <= {"applied", "late", "stale"}
    counted = {
        int(number): step
        for step, each in enumerate(said)
        for verdict, _, number in [each.partition(":")]
        if verdict == "applied"
    }
    with SmallCluster(2) as cluster:
        alone = Worker(cluster.client(), OPTIMIZERS["sgd"]())
        for number in range(1, len(applied) + 1):
            both = [gradients(0, number - 1), *[gradients(1, counted[each]) for each in [number] if each in counted]]
            alone.step(mean_of(both))
        for found, expected in zip(values, alone.values(), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert len(counted) < STEPS or len(applied) > STEPS


def with_the_first_of_the_other(counted: int) -> list[Array]:
    """What the model comes to when so many gradients of the second worker count."""
    with SmallCluster(2) as cluster:
        worker = Worker(cluster.client(), OPTIMIZERS["sgd"]())
        for step in range(STEPS):
            both = [gradients(0, step), gradients(1, step)]
            worker.step(mean_of(both if step < counted else both[:1]))
        return worker.values()


def test_with_backups_each_gradient_counts_once_whoever_is_killed(
    resources: contextlib.ExitStack, eventually: Eventually
) -> None:
    failover = started(resources, eventually, 2)
    clients = [resources.enter_context(ss.connect(failover.spec, task_index=index, lease_s=0.0)) for index in range(2)]
    workers = [Worker(client, OPTIMIZERS["adam"](sync="bsp(total=2)")) for client in clients]
    applied: list[list[Applied]] = [[], []]
    with ThreadPoolExecutor(2) as pool:
        for step in range(STEPS):
            begun = pool.submit(workers[0].step, gradients(0, step))
            if step in (1, 3):  # while one waits for the other, the primary of ps 0, then of ps 1
                failover.kill(TaskId("ps", 0 if step == 1 else 1))
            applied[1].append(workers[1].step(gradients(1, step)))
            applied[0].append(begun.result(TIMEOUT_S))
    check(workers, applied)
