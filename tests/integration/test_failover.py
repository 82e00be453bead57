"""Failover of replicated ps tasks, of any process in any order: it heals, and workers old and new find their way."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np
import pytest

import worker_client as ss
from ps_cluster.inspection.health_probe import check_health
from ps_cluster.inspection.queries import ps_processes
from ps_cluster.local.local_cluster import LocalCluster
from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB, ClusterSpec, TaskId
from ps_protocol.errors import ShardscopeError, StateLostError
from ps_protocol.liveness import READY
from ps_server.replication.decisions import EXIT_SUPERSEDED
from tests.commands import shardscope
from tests.conftest import Eventually
from tests.etcd_process import EtcdProcess
from tests.integration.test_replication import SIZE, Updates, counter_on, make_progress

pytestmark = pytest.mark.integration

LEASE_S: Final = 2.0
TIMEOUT_S: Final = 60.0
END_GRACE_S: Final = 60.0


class Failover:
    """A cluster with backups whose processes a test ends and starts.

    Args:
        cluster: Started.
        eventually: Waits.
        etcd: Where it is decided who is the primary; None if that is in files.
    """

    def __init__(self, cluster: LocalCluster, eventually: Eventually, etcd: EtcdProcess | None = None):
        self.cluster = cluster
        self.etcd = etcd
        self._eventually = eventually
        self.places = ps_processes(cluster.cluster_spec)

    @property
    def spec(self) -> ClusterSpec:
        return self.cluster.cluster_spec

    def heal(self) -> None:
        """Waits until every pair is complete; processes that have ended themselves are started again."""

        def is_whole() -> bool:
            for task in self.places:
                if self.cluster.process(task).returncode == EXIT_SUPERSEDED:
                    self.cluster.restart(task)
            return all(self.is_ready(task) for task in self.places)

        self._eventually(is_whole, timeout_s=TIMEOUT_S, message="every pair is complete")

    def is_ready(self, task: TaskId) -> bool:
        try:
            return check_health(self.places[task], service=READY, timeout_s=TIMEOUT_S) == "SERVING"
        except ShardscopeError:
            return False

    def kill(self, task: TaskId) -> None:
        """Kills a process; one that a busy machine let run too late for its lease has ended itself before, maybe."""
        process = self.cluster.process(task)
        process.send_signal(signal.SIGKILL)
        assert process.wait(TIMEOUT_S) in (-signal.SIGKILL, EXIT_SUPERSEDED)

    def end(self, task: TaskId) -> None:
        """Ends a process in good order."""
        process = self.cluster.process(task)
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_GRACE_S) == 0, process.tail[-5:]

    def count_in_log(self, task: TaskId, text: str) -> int:
        return sum(text in line for line in self.cluster.process(task).tail)


def started(resources: ExitStack, eventually: Eventually, num_ps: int, etcd_directory: Path | None = None) -> Failover:
    """A cluster whose pairs are complete."""
    etcd = None if etcd_directory is None else resources.enter_context(EtcdProcess(etcd_directory))
    if etcd is not None:
        etcd.wait_until_ready()
    cluster = LocalCluster(
        num_ps, replicas=1, coordinator=None if etcd is None else etcd.url, ps_arguments=("--lease", str(LEASE_S))
    )
    failover = Failover(resources.enter_context(cluster), eventually, etcd)
    resources.callback(cluster.signal_all_ps, signal.SIGKILL)  # one whose other is gone would wait for it
    failover.heal()
    return failover


def _shown(kind: tuple[int, str]) -> str:
    return f"{kind[0]} by {kind[1]}"


@pytest.fixture(params=[(1, "files"), (2, "etcd")], ids=_shown)
def failover(request: pytest.FixtureRequest, resources: ExitStack, tmp_path: Path, eventually: Eventually) -> Failover:
    """Clusters: how many ps tasks, and where it is decided which process of each is the primary."""
    num_ps, coordinator = request.param
    return started(resources, eventually, num_ps, tmp_path / "etcd" if coordinator == "etcd" else None)


def counters(failover: Failover, client: ss.Client) -> list[ss.Variable]:
    """A variable of each ps task."""
    made = []
    for index in range(failover.spec.num_tasks(PS_JOB)):
        with client.as_default(), ss.device(f"/job:ps/task:{index}"):
            variable = ss.get_variable(f"counter_{index}", [SIZE], initializer=ss.zeros_initializer())
        assert isinstance(variable, ss.Variable)
        made.append(variable)
    return made


@pytest.mark.parametrize("failover", [(1, "files"), (2, "files"), (2, "etcd")], indirect=True, ids=_shown)
def test_workers_new_and_old_go_on_after_every_pair_has_failed_over(
    failover: Failover, resources: ExitStack, eventually: Eventually
) -> None:
    old = resources.enter_context(ss.connect(failover.spec))
    variables = counters(failover, old)
    for index, variable in enumerate(variables):
        with Updates(variable) as updates:
            make_progress(updates, eventually)
            failover.kill(TaskId(PS_JOB, index))
            make_progress(updates, eventually)
        failover.cluster.restart_ps(index)
        failover.heal()
        np.testing.assert_array_equal(variable.read_value(), np.full(SIZE, updates.acknowledged))
    # Every place of a ps has its backup now. Workers find the primaries, also with a spec without the other places.
    addresses = failover.spec.ps_addresses()
    for spec in (failover.spec, ClusterSpec({PS_JOB: addresses})):
        with ss.connect(spec, observer=True) as new:
            assert len(new.variables()) == len(variables)
    for variable in variables:
        variable.assign_add(np.ones(SIZE, np.float32))


@pytest.mark.parametrize("failover", [(1, "files"), (2, "files"), (2, "etcd")], indirect=True, ids=_shown)
def test_every_ps_is_lost_at_once(failover: Failover, resources: ExitStack, eventually: Eventually) -> None:
    """Also those that keep the directory and the list of workers."""
    client = resources.enter_context(ss.connect(failover.spec))
    variables = counters(failover, client)
    with ExitStack() as running:
        all_updates = [running.enter_context(Updates(each)) for each in variables]
        for updates in all_updates:
            make_progress(updates, eventually)
        for index in range(len(variables)):
            failover.cluster.signal_ps(index, signal.SIGKILL)
        for updates in all_updates:
            make_progress(updates, eventually)
        with ss.connect(failover.spec) as new:  # while none of them is there
            for updates, variable in zip(all_updates, counters(failover, new), strict=True):
                make_progress(updates, eventually)
                assert variable.read_value()[0] > 0
        for index in range(len(variables)):
            failover.cluster.restart_ps(index)
        failover.heal()
    for updates, variable in zip(all_updates, variables, strict=True):
        np.testing.assert_array_equal(variable.read_value(), np.full(SIZE, updates.acknowledged))


@pytest.mark.parametrize("waits", [False, True], ids=["when it listens", "when all are ready"])
def test_a_rolling_restart_loses_no_primary_and_no_update(
    failover: Failover, waits: bool, resources: ExitStack, eventually: Eventually
) -> None:
    """When the next process is told to end."""
    client = resources.enter_context(ss.connect(failover.spec))
    variables = counters(failover, client)
    with ExitStack() as running:
        all_updates = [running.enter_context(Updates(each)) for each in variables]
        for task in failover.places:
            failover.end(task)
            for updates in all_updates:
                make_progress(updates, eventually, more=1)
            failover.cluster.restart(task)
            if waits:
                failover.heal()
    failover.heal()
    for updates, variable in zip(all_updates, variables, strict=True):
        np.testing.assert_array_equal(variable.read_value(), np.full(SIZE, updates.acknowledged))
    with ss.connect(failover.spec) as new:
        assert len(counters(failover, new)) == len(variables)


def test_the_operator_promotes_a_backup(failover: Failover, resources: ExitStack, eventually: Eventually) -> None:
    client = resources.enter_context(ss.connect(failover.spec))
    variable = counters(failover, client)[0]
    flag = failover.spec.to_flag()
    with Updates(variable) as updates:
        make_progress(updates, eventually)
        promoted = shardscope("promote", "ps:0", "--cluster", flag)
        assert promoted.returncode == 0, promoted.stderr
        assert (
            f"backup:0 at {failover.places[TaskId(BACKUP_JOB, 0)]} is the primary of ps:0, in epoch" in promoted.stdout
        )
        make_progress(updates, eventually)
    eventually(
        lambda: failover.cluster.process(TaskId(PS_JOB, 0)).returncode == EXIT_SUPERSEDED,
        timeout_s=TIMEOUT_S,
        message="the primary that was has ended",
    )
    refused = shardscope("promote", "ps:0", "--cluster", flag)
    assert refused.returncode == 1
    assert "ps:0 has no backup that could become its primary" in refused.stderr
    assert "wait until the pair is complete (`shardscope health --ready`)" in refused.stderr
    assert "give one as in ps:1" in shardscope("promote", "worker:0", "--cluster", flag).stderr
    ready = shardscope("health", "--ready", "--cluster", flag)
    assert ready.returncode == 1
    assert "backup:0" in ready.stderr
    failover.heal()
    assert shardscope("health", "--ready", "--cluster", flag).returncode == 0
    np.testing.assert_array_equal(variable.read_value(), np.full(SIZE, updates.acknowledged))


def test_a_state_that_is_lost_is_given_up_only_by_the_operator(
    failover: Failover, resources: ExitStack, eventually: Eventually
) -> None:
    first, second = TaskId(PS_JOB, 0), TaskId(BACKUP_JOB, 0)
    old = resources.enter_context(ss.connect(failover.spec))
    variable = counters(failover, old)[0]
    for task in (first, second):
        failover.kill(task)
    for task in (first, second):
        failover.cluster.restart(task)
    eventually(
        lambda: failover.count_in_log(second, "shardscope promote ps:0 --accept-loss"),
        timeout_s=TIMEOUT_S,
        message="a process without state says what to do",
    )
    flag = failover.spec.to_flag()
    for command in (("ls",), ("get", "counter0")):
        waits = shardscope(*command, "--cluster", flag, "--timeout", "2")
        assert waits.returncode == 1
        assert "`shardscope promote ps:0 --accept-loss` begins without the state" in waits.stderr, waits.stderr
    refused = shardscope("promote", "ps:0", "--cluster", flag)
    assert "start the process again that has the state, or give the state up with --accept-loss" in refused.stderr
    promoted = shardscope("promote", "ps:0", "--accept-loss", "--cluster", flag)
    assert promoted.returncode == 0, promoted.stderr
    failover.heal()
    with pytest.raises(StateLostError):
        variable.assign_add(np.ones(SIZE, np.float32))
    new = resources.enter_context(ss.connect(failover.spec))
    variable = counter_on(0, new)
    variable.assign_add(np.ones(SIZE, np.float32))
    np.testing.assert_array_equal(variable.read_value(), np.ones(SIZE))


def test_with_etcd_which_is_killed_meanwhile(tmp_path: Path, resources: ExitStack, eventually: Eventually) -> None:
    failover = started(resources, eventually, 1, tmp_path / "etcd")
    assert failover.etcd is not None
    client = resources.enter_context(ss.connect(failover.spec))
    variable = counter_on(0, client)
    with Updates(variable) as updates:
        make_progress(updates, eventually)
        failover.etcd.kill()
        make_progress(updates, eventually)  # a pair needs nobody else
        failover.kill(TaskId(PS_JOB, 0))
        failover.etcd.start()
        make_progress(updates, eventually)
        failover.cluster.restart_ps(0)
        failover.heal()
    np.testing.assert_array_equal(variable.read_value(), np.full(SIZE, updates.acknowledged))


def test_etcd_is_killed_in_the_middle_of_every_takeover(
    tmp_path: Path, resources: ExitStack, eventually: Eventually
) -> None:
    """Both backups have asked for the place, and are not answered yet."""
    failover = started(resources, eventually, 2, tmp_path / "etcd")
    etcd, backups = failover.etcd, [TaskId(BACKUP_JOB, index) for index in range(2)]
    assert etcd is not None
    client = resources.enter_context(ss.connect(failover.spec))
    variables = counters(failover, client)
    with ExitStack() as running:
        all_updates = [running.enter_context(Updates(each)) for each in variables]
        for updates in all_updates:
            make_progress(updates, eventually)
        etcd.stop()
        for index in range(2):
            failover.kill(TaskId(PS_JOB, index))
        eventually(
            lambda: all(failover.count_in_log(task, "the primary has been silent") for task in backups),
            timeout_s=TIMEOUT_S,
            message="both backups ask",
        )
        assert not any(failover.count_in_log(task, "is the primary of") for task in backups)
        etcd.restart()
        for updates in all_updates:
            make_progress(updates, eventually)
        for index in range(2):
            failover.cluster.restart_ps(index)
        failover.heal()
    for updates, variable in zip(all_updates, variables, strict=True):
        np.testing.assert_array_equal(variable.read_value(), np.full(SIZE, updates.acknowledged))
    with ss.connect(failover.spec) as new:
        assert len(counters(failover, new)) == 2


def test_a_backup_dies_when_it_is_handed_the_place(
    tmp_path: Path, resources: ExitStack, eventually: Eventually
) -> None:
    """The operator has promoted it, and it has given its sign of life; the register may name it, or not yet."""
    failover = started(resources, eventually, 1, tmp_path / "etcd")
    etcd = failover.etcd
    assert etcd is not None
    client = resources.enter_context(ss.connect(failover.spec))
    variable = counter_on(0, client)
    with Updates(variable) as updates:
        make_progress(updates, eventually)
        etcd.stop()
        promote = subprocess.Popen(
            [sys.executable, "-m", "ps_cluster", "promote", "ps:0", "--cluster", failover.spec.to_flag()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        resources.callback(promote.wait, TIMEOUT_S)
        resources.callback(promote.kill)
        eventually(
            lambda: failover.count_in_log(TaskId(PS_JOB, 0), "it hands over to its backup"),
            timeout_s=TIMEOUT_S,
            message="the primary hands over",
        )
        failover.kill(TaskId(BACKUP_JOB, 0))
        etcd.wake()
        make_progress(updates, eventually)  # in the process that had handed over
        failover.cluster.restart(TaskId(BACKUP_JOB, 0))
        failover.heal()
    np.testing.assert_array_equal(variable.read_value(), np.full(SIZE, updates.acknowledged))
