"""Accumulators while their ps crashes, and messages are lost or doubled: each gradient counts once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Final

import pytest

import worker_client as ss
import worker_client.compat.v1 as tf
from ps_protocol.fault_points import Fault, FaultAction, FaultPlan, installed
from tests.chaos.ps_processes import PsTask
from tests.chaos.testbed import connected
from tests.conftest import Eventually
from tests.integration.test_failover import started

pytestmark = [pytest.mark.chaos, pytest.mark.integration, pytest.mark.usefixtures("impatient")]

TIMEOUT_S: Final = 60.0
ROUNDS: Final = 5
CRASHES: Final = (
    ("request.received", 6, "tcp"),
    ("batch.before_log", 5, "grpc"),
    ("batch.after_log", 6, "unix"),
    ("batch.after_log", 7, "tcp"),
    ("journal.after_commit", 8, "shm"),
    ("batch.before_reply", 7, "grpc"),
    ("reply.send", 9, "tcp"),
)


class Worker:
    """A worker with a graph of its own."""

    def __init__(self, client: ss.Client):
        with tf.Graph().as_default() as graph:
            accumulator = tf.ConditionalAccumulator(tf.float32, [2], shared_name="grads")
            rows = tf.SparseConditionalAccumulator(tf.float32, [9, 1], shared_name="rows")
            self.grad, self.step = tf.placeholder(tf.float32, [2]), tf.placeholder(tf.int64, [])
            self.push = [
                accumulator.apply_grad(self.grad, self.step),
                rows.apply_grad([0, 7], tf.reshape(self.grad, [2, 1]), local_step=self.step),
            ]
            self.take = [accumulator.take_grad(2), rows.take_grad(2).values]
            self.count = accumulator.num_accumulated()
            self.session = tf.Session(client, graph=graph)

    def pushes(self, grad: Any, step: int) -> None:
        self.session.run(self.push, {self.grad: grad, self.step: step})


def train(one: Worker, two: Worker) -> None:
    """Takes round after round the mean of one gradient of each worker: one more or less would show."""
    for step in range(ROUNDS):
        one.pushes([1.0, step], step)
        two.pushes([3.0, 3.0 * step], step)
        mean, rows = one.session.run(one.take)
        assert mean.tolist() == rows.ravel().tolist() == [2.0, 2.0 * step]
    two.pushes([9.0, 9.0], ROUNDS - 1)  # stale: each take has counted one step
    assert one.session.run(one.count) == 0


@pytest.mark.parametrize(("place", "number", "transport"), CRASHES)
def test_with_a_journal_a_crash_anywhere_counts_each_gradient_once(
    ps: PsTask, place: str, number: int, transport: str
) -> None:
    ps.start(f"{place}=crash@{number}")
    restart = ps.start_when_ended()
    try:
        with connected([ps.address], transport) as one, connected([ps.address], transport, task_index=1) as two:
            train(Worker(one), Worker(two))
    finally:
        restart.join(TIMEOUT_S)
    assert ps.faults == [(place, "crash")]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("request.send", FaultAction.DROP, last=4),
        Fault("request.received", FaultAction.DUPLICATE),
        Fault("reply.send", FaultAction.DROP, first=5, last=10),
    ],
    ids=lambda each: f"{each.place}-{each.action.value}",
)
@pytest.mark.parametrize("transport", ["tcp", "shm", "grpc"])
def test_lost_and_doubled_messages_count_once(ps: PsTask, transport: str, fault: Fault) -> None:
    text = f"{fault.place}={fault.action.value}" + (f"@{fault.first}-{fault.last}" if fault.last else "")
    ps.start(text if fault.place != "request.send" else "")
    plan = FaultPlan((fault,) if fault.place == "request.send" else ())
    with (
        connected([ps.address], transport) as one,
        connected([ps.address], transport, task_index=1) as two,
        installed(plan),
    ):
        train(Worker(one), Worker(two))
    assert ps.faults or plan.fired("request.send")


@pytest.mark.parametrize("transport", ["tcp", "grpc"])
def test_a_kill_while_a_take_waits_changes_nothing(ps: PsTask, transport: str, eventually: Eventually) -> None:
    ps.start()
    with connected([ps.address], transport) as one, connected([ps.address], transport, task_index=1) as two:
        chief, worker = Worker(one), Worker(two)
        chief.pushes([1.0, 1.0], 0)
        with ThreadPoolExecutor(1) as pool:
            taking = pool.submit(chief.session.run, chief.take)
            eventually(taking.running)
            ps.kill()
            ps.start()
            worker.pushes([3.0, 3.0], 0)
            assert taking.result(TIMEOUT_S)[0].tolist() == [2.0, 2.0]


@pytest.mark.parametrize("takes_when_killed", [False, True])
def test_with_a_backup_a_failover_in_the_middle_of_a_take_counts_each_gradient_once(
    resources: ExitStack, eventually: Eventually, takes_when_killed: bool
) -> None:
    failover = started(resources, eventually, 1)
    spec = failover.cluster.cluster_spec
    one = Worker(resources.enter_context(ss.connect(spec, task_index=0)))
    two = Worker(resources.enter_context(ss.connect(spec, task_index=1)))
    one.pushes([1.0, 0.0], 0)
    with ThreadPoolExecutor(1) as pool:
        taking = pool.submit(one.session.run, one.take)
        if takes_when_killed:  # or when the backup has become the primary
            two.pushes([3.0, 0.0], 0)
        failover.kill(ss.TaskId("ps", 0))
        if not takes_when_killed:
            two.pushes([3.0, 0.0], 0)
        mean, rows = taking.result(3 * TIMEOUT_S)
    assert mean.tolist() == rows.ravel().tolist() == [2.0, 0.0]
    assert one.session.run(one.count) == 0
    two.pushes([9.0, 9.0], 0)  # stale: the take has counted one step
    assert two.session.run(two.count) == 0
