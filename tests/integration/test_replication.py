"""Replicated ps tasks as processes: who dies, who is stopped, who comes late, and that every update counts once."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from uuid import uuid4

import numpy as np
import pytest

import worker_client as ss
from ps_cluster.inspection.queries import ask_all
from ps_cluster.inspection.views import ps_records
from ps_cluster.local.local_cluster import LocalCluster
from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import ShardscopeError
from ps_protocol.operations import Batch, Update, UpdateRule
from ps_server.replication.decisions import EXIT_SUPERSEDED
from tests.commands import shardscope
from tests.conftest import Eventually
from worker_client.client import Client
from worker_client.transport import grpc as grpc_transport
from worker_client.transport.grpc import GrpcPsService
from worker_client.variables.variable import Variable

pytestmark = pytest.mark.integration

LEASE_S = 2.0
TIMEOUT_S = 60.0
SIZE = 64


class ReplicatedCluster:
    """Two ps tasks with a backup each, and what their processes have printed."""

    def __init__(self, cluster: LocalCluster, lines: list[tuple[str, str]], eventually: Eventually):
        self.processes = cluster
        self._lines = lines
        self._eventually = eventually

    def saw(self, task: str, text: str) -> int:
        """How often a process has printed it."""
        return sum(each == task and text in line for each, line in list(self._lines))

    def wait_until(self, task: str, text: str, *, times: int = 1) -> None:
        self._eventually(lambda: self.saw(task, text) >= times, timeout_s=TIMEOUT_S, message=f"{task} says {text!r}")


@contextmanager
def replicated_cluster(eventually: Eventually) -> Iterator[ReplicatedCluster]:
    lines: list[tuple[str, str]] = []
    with LocalCluster(
        2, replicas=1, ps_arguments=("--lease", str(LEASE_S)), log=lambda task, line: lines.append((task, line))
    ) as cluster:
        replicated = ReplicatedCluster(cluster, lines, eventually)
        for index in range(2):
            replicated.wait_until(f"ps:{index}", "is the backup now")
        yield replicated
        cluster.signal_all_ps(signal.SIGKILL)  # one whose other is gone would wait for it


class Updates:
    """Adds 1 to a variable as fast as it can, and counts what was acknowledged. Two threads, one client."""

    def __init__(self, variable: Variable):
        self._variable = variable
        self._ended = threading.Event()
        self._lock = threading.Lock()  # guards: acknowledged, failures
        self.acknowledged = 0
        self.failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(2)]

    def __enter__(self) -> Updates:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S)

    def _run(self) -> None:
        one = np.ones(SIZE, np.float32)
        try:
            while not self._ended.is_set():
                self._variable.assign_add(one)
                with self._lock:
                    self.acknowledged += 1
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.failures.append(error)


def counter_on(index: int, client: Client) -> Variable:
    with client.as_default(), ss.device(f"/job:ps/task:{index}"):
        variable = ss.get_variable("counter", [SIZE], initializer=ss.zeros_initializer())
    assert isinstance(variable, Variable)
    return variable


def make_progress(updates: Updates, eventually: Eventually, more: int = 20) -> None:
    """Waits until so many more updates were acknowledged."""
    aim = updates.acknowledged + more
    eventually(
        lambda: updates.acknowledged >= aim or updates.failures,
        timeout_s=TIMEOUT_S,
        message=f"{aim} updates are acknowledged",
    )
    assert not updates.failures


def test_a_backup_takes_over_with_every_acknowledged_update(resources: ExitStack, eventually: Eventually) -> None:
    cluster = resources.enter_context(replicated_cluster(eventually))
    client = resources.enter_context(ss.connect(cluster.processes.cluster_spec))
    counter = counter_on(1, client)
    with Updates(counter) as updates:
        make_progress(updates, eventually)
        cluster.processes.kill_ps(1)
        make_progress(updates, eventually)  # the same client, without a restart
    assert cluster.saw("backup:1", "is the primary of ps:1 now") == 1
    np.testing.assert_array_equal(counter.read_value(), np.full(SIZE, updates.acknowledged))

    # The process that was lost, started again, becomes the backup; then the other one may be lost.
    cluster.processes.restart_ps(1)
    cluster.wait_until("backup:1", "is the backup now")
    with Updates(counter) as more:
        make_progress(more, eventually)
        cluster.processes.signal_backup(1, signal.SIGKILL)
        make_progress(more, eventually)
    np.testing.assert_array_equal(counter.read_value(), np.full(SIZE, updates.acknowledged + more.acknowledged))


def test_updates_wait_for_a_backup_that_is_gone_until_the_task_goes_on_alone(
    resources: ExitStack, eventually: Eventually
) -> None:
    """Of ps task 0, which keeps the directory; then a backup comes late, while updates run, and takes over."""
    cluster = resources.enter_context(replicated_cluster(eventually))
    client = resources.enter_context(ss.connect(cluster.processes.cluster_spec))
    counter = counter_on(0, client)
    with Updates(counter) as updates:
        make_progress(updates, eventually)
        cluster.processes.signal_backup(0, signal.SIGKILL)
        make_progress(updates, eventually)
        assert cluster.saw("ps:0", "its backup has been silent") >= 1
        assert cluster.saw("ps:0", "goes on without a backup") == 1

        cluster.processes.restart_backup(0)
        cluster.wait_until("ps:0", "is the backup now", times=2)
        make_progress(updates, eventually)
        cluster.processes.kill_ps(0)
        make_progress(updates, eventually)
        # Of the directory too: the same client, and a new one, go on with it.
        with client.as_default():
            ss.get_variable("later", [2], initializer=ss.ones_initializer())
    np.testing.assert_array_equal(counter.read_value(), np.full(SIZE, updates.acknowledged))


def test_a_stopped_primary_that_wakes_up_acknowledges_nothing(resources: ExitStack, eventually: Eventually) -> None:
    cluster = resources.enter_context(replicated_cluster(eventually))
    spec = cluster.processes.cluster_spec
    with ss.connect(spec) as before:
        counter_on(1, before).assign_add(np.ones(SIZE, np.float32))
    old = grpc_transport.connect(spec.task_address("ps", 1), task="ps:1")
    resources.callback(old.close)
    late_client = uuid4()
    store = old.hello(late_client, "worker:7", timeout_s=TIMEOUT_S).store
    update = Batch(late_client, store, 1, (Update("counter", UpdateRule.ASSIGN_ADD, np.ones(SIZE, np.float32)),))

    cluster.processes.signal_ps(1, signal.SIGSTOP)
    late = threading.Thread(target=lambda: outcomes.append(outcome_of(old, update)))
    outcomes: list[object] = []
    late.start()  # it lies in the socket of the stopped process
    client = resources.enter_context(ss.connect(spec))  # waits for the failover, and finds the new primary
    counter = counter_on(1, client)
    counter.assign_add(np.ones(SIZE, np.float32))
    assert cluster.saw("backup:1", "is the primary of ps:1 now") == 1
    cluster.processes.signal_ps(1, signal.SIGCONT)
    late.join(TIMEOUT_S)

    assert isinstance(outcomes[0], ShardscopeError), "the old primary has acknowledged an update"
    eventually(lambda: cluster.processes.ps_exit_code(1) == EXIT_SUPERSEDED, message="it has ended itself")
    np.testing.assert_array_equal(counter.read_value(), np.full(SIZE, 2.0))


def test_what_is_seen_of_a_pair_and_how_it_is_shut_down(resources: ExitStack, eventually: Eventually) -> None:
    cluster = resources.enter_context(replicated_cluster(eventually))
    spec = cluster.processes.cluster_spec
    with ss.connect(spec) as client:
        counter_on(1, client)
    eventually(
        lambda: roles(spec) == {"ps:0": "primary", "ps:1": "primary", "backup:0": "backup", "backup:1": "backup"},
        timeout_s=TIMEOUT_S,
        message="the backups know that they are it",
    )
    first, second = (spec.task_address("backup", index) for index in range(2))
    swapped = ClusterSpec({**spec.as_dict(), "backup": [second, first]}).to_flag()
    for arguments in ((), ("--ready",)):
        told = shardscope("health", *arguments, "--cluster", swapped)
        assert told.returncode == 1
        assert f"[backup:0] the process at {second} is ps:1, not backup:0; give the addresses" in told.stderr
        assert told.stdout.count("ps:") == 2
    assert shardscope("health", "--ready", "--cluster", spec.to_flag()).returncode == 0

    cluster.processes.kill_ps(1)
    cluster.wait_until("backup:1", "is the primary of ps:1 now")
    alone = shardscope("ls", "--tasks", "--cluster", spec.to_flag())
    assert alone.returncode == 1
    assert "[ps:1]" in alone.stderr
    assert re.search(r"^backup:1 .* \d+ +alone: ps:1 at ", alone.stdout, re.MULTILINE)
    # The variables are asked for where they are.
    variables = shardscope("ls", "--json", "--cluster", spec.to_flag())
    assert [(each["name"], each["task"]) for each in json.loads(variables.stdout)] == [("counter", "ps:1")]

    cluster.processes.restart_ps(1)
    cluster.wait_until("backup:1", "is the backup now")
    eventually(
        lambda: roles(spec) == {"ps:0": "primary", "ps:1": "backup", "backup:0": "backup", "backup:1": "primary"},
        timeout_s=TIMEOUT_S,
        message="ps:1 is the backup",
    )
    done = shardscope("shutdown", "--cluster", spec.to_flag())
    assert done.returncode == 0, done.stderr
    assert cluster.processes.wait(TIMEOUT_S) == [0, 0, 0, 0]


def roles(spec: ClusterSpec) -> dict[str, str]:
    answers = ask_all(
        spec,
        lambda ps: ps.status(timeout_s=TIMEOUT_S),
        connect=lambda address, task: grpc_transport.connect(address, task=str(task)),
    )
    return {record["task"]: record["replication"]["role"] for record in ps_records(answers)}


def outcome_of(service: GrpcPsService, update: Batch) -> object:
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return service.exchange(update, timeout_s=TIMEOUT_S)
        except ShardscopeError as error:
            # Asked again and again, until nobody is there any more, it never says that it has done it.
            if "Connection refused" in error.message or time.monotonic() > deadline_s:
                return error
