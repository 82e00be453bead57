"""Replicated ps tasks with a journal in each process: whatever dies, and in whatever order it comes back."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

import worker_client as ss
from ps_cluster.local.local_cluster import LocalCluster
from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB, TaskId
from ps_protocol.errors import ClusterStartError, StateLostError
from ps_server.process.start import EXIT_CANNOT_START, EXIT_STATE_REFUSED
from ps_server.replication.decisions import EXIT_SUPERSEDED
from ps_server.replication.member import MEMBER_FILE
from tests.commands import shardscope
from tests.conftest import Eventually
from tests.integration.test_failover import LEASE_S, TIMEOUT_S, Failover, counters
from tests.integration.test_replication import SIZE, Updates, make_progress

pytestmark = pytest.mark.integration

FIRST: Final = TaskId(PS_JOB, 0)
SECOND: Final = TaskId(BACKUP_JOB, 0)


class KeptPair(Failover):
    """A pair whose processes keep their state in ``root``."""

    def __init__(self, cluster: LocalCluster, eventually: Eventually, root: Path):
        super().__init__(cluster, eventually)
        self.root = root

    def start(self, *tasks: TaskId) -> None:
        for task in tasks:
            self.cluster.restart(task)

    def kill_all(self) -> None:
        """Kills both at once, as a power loss does, but for what the system still writes."""
        for task in (FIRST, SECOND):
            self.cluster.process(task).send_signal(signal.SIGKILL)
        for task in (FIRST, SECOND):
            assert self.cluster.process(task).wait(TIMEOUT_S) == -signal.SIGKILL

    def directory(self, task: TaskId) -> Path:
        return self.root / f"{task.job}-{task.index}"

    def part(self, task: TaskId) -> str:
        """What the process has noted on its disk that it is."""
        note: dict[str, Any] = json.loads((self.directory(task) / MEMBER_FILE).read_bytes())
        return str(note["part"])

    def wait_for_log(self, task: TaskId, text: str) -> None:
        self._eventually(lambda: self.count_in_log(task, text), timeout_s=TIMEOUT_S, message=f"{task} says {text!r}")

    def wait_for_exit(self, task: TaskId, code: int) -> None:
        assert self.cluster.process(task).wait(TIMEOUT_S) == code, self.cluster.process(task).tail[-5:]


@pytest.fixture
def pair(tmp_path: Path, eventually: Eventually) -> Iterator[KeptPair]:
    with LocalCluster(
        1, replicas=1, durability="journal", data_dir=tmp_path, ps_arguments=("--lease", str(LEASE_S))
    ) as cluster:
        made = KeptPair(cluster, eventually, tmp_path)
        made.heal()
        yield made
        cluster.signal_all_ps(signal.SIGKILL)  # one whose other is gone would wait for it


@pytest.fixture
def counter(pair: KeptPair, resources: ExitStack) -> ss.Variable:
    """A variable of a client that stays connected."""
    (variable,) = counters(pair, resources.enter_context(ss.connect(pair.spec)))
    return variable


def assert_sum(variable: ss.Variable, expected: int) -> None:
    np.testing.assert_array_equal(variable.read_value(), np.full(SIZE, expected))


@pytest.mark.parametrize("order", [(FIRST, SECOND), (SECOND, FIRST)], ids=["primary first", "backup first"])
def test_nothing_is_lost_when_all_processes_are_killed_at_once(
    pair: KeptPair, counter: ss.Variable, order: tuple[TaskId, TaskId], eventually: Eventually
) -> None:
    with Updates(counter) as updates:
        for _ in range(2):
            make_progress(updates, eventually)
            pair.kill_all()
            pair.start(*order)
            make_progress(updates, eventually)
            pair.heal()
    # The client has never been told of another store, and has gone on with its numbers.
    assert_sum(counter, updates.acknowledged)
    # Only what was acknowledged is in it: it can be told apart since each update is waited for.
    with ss.connect(pair.spec) as new:
        assert_sum(counters(pair, new)[0], updates.acknowledged)


@pytest.mark.parametrize("first", [FIRST, SECOND])
def test_one_that_is_killed_comes_back_and_then_all_are(
    pair: KeptPair, counter: ss.Variable, first: TaskId, eventually: Eventually
) -> None:
    with Updates(counter) as updates:
        make_progress(updates, eventually)
        pair.kill(first)
        make_progress(updates, eventually)
        pair.start(first)
        pair.heal()
        make_progress(updates, eventually)
        pair.kill_all()
        pair.start(SECOND, FIRST)
        make_progress(updates, eventually)
    pair.heal()
    assert_sum(counter, updates.acknowledged)


def test_a_backup_whose_primary_does_not_come_back_takes_over_with_what_is_on_its_disk(
    pair: KeptPair, counter: ss.Variable, eventually: Eventually
) -> None:
    with Updates(counter) as updates:
        make_progress(updates, eventually)
        pair.kill_all()
        pair.start(SECOND)
        make_progress(updates, eventually)
    assert pair.part(SECOND) == "primary"
    # What the other one has on its disk is older now. It is put aside, and the newest is fetched.
    pair.start(FIRST)
    pair.heal()
    assert pair.count_in_log(FIRST, "its state is set aside")
    aside = pair.directory(FIRST).with_name("ps-0.set-aside")
    assert json.loads((aside / MEMBER_FILE).read_bytes())["part"] == "primary"
    assert_sum(counter, updates.acknowledged)
    # Only one is kept.
    pair.kill(SECOND)
    counter.assign_add(np.ones(SIZE, np.float32))
    pair.start(SECOND)
    pair.heal()
    pair.kill(FIRST)
    counter.assign_add(np.ones(SIZE, np.float32))
    pair.start(FIRST)
    pair.heal()
    assert json.loads((aside / MEMBER_FILE).read_bytes())["part"] == "primary"
    assert sorted(path.name for path in pair.root.iterdir()) == [
        "backup-0", "backup-0.set-aside", "coordination", "ps-0", "ps-0.set-aside",
    ]  # fmt: skip
    assert_sum(counter, updates.acknowledged + 2)


def test_a_backup_that_is_back_within_the_lease_goes_on_where_it_was(
    tmp_path: Path, resources: ExitStack, eventually: Eventually
) -> None:
    arguments = ("--lease", "60")
    cluster = resources.enter_context(
        LocalCluster(1, replicas=1, durability="journal", data_dir=tmp_path, ps_arguments=arguments)
    )
    pair = KeptPair(cluster, eventually, tmp_path)
    pair.heal()
    (variable,) = counters(pair, resources.enter_context(ss.connect(pair.spec)))
    with Updates(variable) as updates:
        make_progress(updates, eventually)
        pair.kill(SECOND)
        pair.start(SECOND)
        make_progress(updates, eventually)
    pair.heal()
    assert pair.count_in_log(SECOND, "is the backup of ps:0 again")
    assert not pair.count_in_log(SECOND, "has the primary's state")
    assert_sum(variable, updates.acknowledged)


def test_a_process_whose_disk_was_lost_does_not_claim_what_it_had(
    pair: KeptPair, counter: ss.Variable, eventually: Eventually
) -> None:
    with Updates(counter) as updates:
        make_progress(updates, eventually)
        pair.kill_all()
        shutil.rmtree(pair.directory(FIRST))
        pair.start(FIRST, SECOND)
        make_progress(updates, eventually)
    assert pair.part(SECOND) == "primary"
    pair.heal()
    assert_sum(counter, updates.acknowledged)


def test_a_task_without_backup_gets_one(tmp_path: Path, eventually: Eventually) -> None:
    """Its state is in the directory of the ps, and the task goes on with it."""
    with LocalCluster(1, durability="journal", data_dir=tmp_path) as alone, ss.connect(alone.cluster_spec) as client:
        (variable,) = counters(KeptPair(alone, eventually, tmp_path), client)
        variable.assign_add(np.ones(SIZE, np.float32))
    options: Any = {"durability": "journal", "data_dir": tmp_path, "ps_arguments": ("--lease", str(LEASE_S))}
    for _ in range(2):
        with LocalCluster(1, replicas=1, **options) as cluster, ss.connect(cluster.cluster_spec) as client:
            pair = KeptPair(cluster, eventually, tmp_path)
            pair.heal()
            (variable,) = counters(pair, client)
            variable.assign_add(np.ones(SIZE, np.float32))
    assert_is_refused_without_backup(tmp_path)
    with LocalCluster(1, replicas=1, **options) as cluster, ss.connect(cluster.cluster_spec) as client:
        pair = KeptPair(cluster, eventually, tmp_path)
        assert_sum(counters(pair, client)[0], 3)


def assert_is_refused_without_backup(root: Path) -> None:
    """The other process may have the newest state."""
    arguments = ["--cluster", "ps=127.0.0.1:1", "--task-index", "0", "--port", "0"]
    arguments += ["--durability", "journal", "--data-dir", str(root)]
    refused = subprocess.run(
        [sys.executable, "-m", "ps_server", *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert refused.returncode == EXIT_STATE_REFUSED
    assert "is of one of two processes of ps:0" in refused.stderr


def test_state_of_a_task_that_has_begun_without_it_is_refused(
    pair: KeptPair, counter: ss.Variable, tmp_path: Path, eventually: Eventually
) -> None:
    counter.assign_add(np.ones(SIZE, np.float32))
    pair.kill(FIRST)
    other = tmp_path / "other"
    with LocalCluster(1, durability="journal", data_dir=other) as alone, ss.connect(alone.cluster_spec) as client:
        counters(KeptPair(alone, eventually, other), client)
    shutil.rmtree(pair.directory(FIRST))
    shutil.copytree(other / "ps-0", pair.directory(FIRST))
    with pytest.raises(ClusterStartError, match="has the state of ps:0 from when it had no backup"):
        pair.start(FIRST)
    pair.wait_for_exit(FIRST, EXIT_CANNOT_START)
    assert (pair.directory(FIRST) / "format.json").exists()


def test_with_a_store_that_was_emptied_the_operator_has_the_newest_state_go_on(
    pair: KeptPair, counter: ss.Variable, resources: ExitStack, eventually: Eventually
) -> None:
    """Nobody begins anew by itself; both say what to do."""
    counter.assign_add(np.ones(SIZE, np.float32))
    pair.kill(FIRST)  # what is on its disk is of an older epoch from here on
    for _ in range(3):
        counter.assign_add(np.ones(SIZE, np.float32))
    pair.kill(SECOND)
    shutil.rmtree(pair.root / "coordination")
    pair.start(FIRST, SECOND)
    for task in (FIRST, SECOND):
        pair.wait_for_log(task, "the coordination store has no entry of this task, but this process has state of")
    refused = shardscope("promote", "ps:0", "--cluster", pair.spec.to_flag())
    assert refused.returncode == 1
    promoted = shardscope("promote", "ps:0", "--accept-loss", "--cluster", pair.spec.to_flag())
    assert promoted.returncode == 0, promoted.stderr
    assert "backup:0" in promoted.stdout
    pair.heal()
    new = resources.enter_context(ss.connect(pair.spec))
    assert_sum(counters(pair, new)[0], 4)
    with pytest.raises(StateLostError, match="the operator has let it go on"):
        counter.assign_add(np.ones(SIZE, np.float32))


def test_damaged_state_is_refused_and_fetched_when_it_is_moved_away(
    pair: KeptPair, counter: ss.Variable, eventually: Eventually
) -> None:
    counter.assign_add(np.ones(SIZE, np.float32))
    pair.kill_all()
    for path in pair.directory(FIRST).glob("journal-*"):
        path.unlink()
    with pytest.raises(ClusterStartError):
        pair.start(FIRST)
    pair.wait_for_exit(FIRST, EXIT_STATE_REFUSED)
    pair.directory(FIRST).rename(pair.root / "moved")
    pair.start(FIRST, SECOND)
    pair.heal()
    assert_sum(counter, 1)


def test_what_was_set_aside_is_gone_on_with_when_nothing_newer_is_left(
    pair: KeptPair, counter: ss.Variable, resources: ExitStack
) -> None:
    counter.assign_add(np.ones(SIZE, np.float32))
    pair.kill(FIRST)
    counter.assign_add(np.ones(SIZE, np.float32))  # at the other one alone
    pair.start(FIRST)
    pair.heal()
    pair.kill_all()
    for task in (FIRST, SECOND):
        shutil.rmtree(pair.directory(task))
    pair.directory(FIRST).with_name("ps-0.set-aside").rename(pair.directory(FIRST))
    (pair.directory(FIRST) / MEMBER_FILE).unlink()
    for task in (FIRST, SECOND):
        pair.cluster.restart(task, arguments=("--cluster-name", "another"))
    pair.heal()
    new = resources.enter_context(ss.connect(pair.spec))
    assert_sum(counters(pair, new)[0], 1)
    with pytest.raises(StateLostError):
        counter.assign_add(np.ones(SIZE, np.float32))


def test_a_full_disk_at_the_backup_holds_nothing_up_for_good(
    pair: KeptPair, resources: ExitStack, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", small], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a file system needs root")
    resources.callback(lambda: subprocess.run(["umount", "--lazy", small], check=True))
    pair.cluster.restart(SECOND, arguments=("--data-dir", str(small)))
    pair.heal()
    client = resources.enter_context(ss.connect(pair.spec))
    with client.as_default():
        large = ss.get_variable("large", [65_536], initializer=ss.zeros_initializer())
    count = 0
    while pair.cluster.process(SECOND).returncode is None and count < 200:
        large.assign_add(np.ones(65_536, np.float32))
        count += 1
    pair.wait_for_exit(SECOND, EXIT_SUPERSEDED)
    assert pair.part(FIRST) == "primary"
    assert any(
        "its disk takes no records" in line
        for line in pair.cluster.process(SECOND).tail + pair.cluster.process(FIRST).tail
    )
    # There is no room for the state either; it is tried again, and the task goes on without a backup meanwhile.
    pair.cluster.restart(SECOND, arguments=("--data-dir", str(small)))
    large.assign_add(np.ones(65_536, np.float32))
    # With another disk all is well.
    pair.cluster.restart(SECOND)
    pair.heal()
    np.testing.assert_array_equal(large.read_value(), np.full(65_536, count + 1))
