"""Clients that read at backups too: on every transport, with either process lost, stopped or in the other's place."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest

import worker_client as ss
from ps_cluster import LocalCluster
from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB, ClusterSpec
from ps_protocol.errors import UnavailableError
from ps_protocol.memory.segment_mapping import IS_SUPPORTED
from ps_protocol.operations import Batch, Read
from tests.conftest import Eventually
from worker_client.client import Client
from worker_client.transport import grpc as grpc_transport

pytestmark = pytest.mark.integration

LEASE_S = 3.0
TIMEOUT_S = 60.0
ROWS, WIDTH = 300, 256
WAYS = ["grpc", "tcp", "unix", pytest.param("shm", marks=pytest.mark.skipif(not IS_SUPPORTED, reason="no memfds"))]


class Cluster:
    """Pairs, and what their processes have printed."""

    def __init__(self, local: LocalCluster, lines: list[tuple[str, str]], eventually: Eventually):
        self.local = local
        self._lines = lines
        self.eventually = eventually

    @property
    def spec(self) -> ClusterSpec:
        return self.local.cluster_spec

    def wait_until(self, task: str, text: str, *, times: int = 1) -> None:
        self.eventually(
            lambda: sum(each == task and text in line for each, line in list(self._lines)) >= times,
            timeout_s=TIMEOUT_S,
            message=f"{task} says {text!r}",
        )

    def batches(self, job: str, index: int = 0) -> int:
        """How many a process has carried out."""
        service = grpc_transport.connect(self.spec.task_address(job, index), task=f"ps:{index}")
        try:
            return service.status(timeout_s=TIMEOUT_S).batches
        finally:
            service.close()

    def wait_until_read(self, job: str, read: Callable[[], object], index: int = 0) -> None:
        """Reads until a process has answered one of the reads."""
        before = self.batches(job, index)

        def is_read() -> bool:
            for _ in range(4):
                read()
            return self.batches(job, index) > before

        self.eventually(is_read, timeout_s=TIMEOUT_S, message=f"{job}:{index} is read")


@contextmanager
def pairs(num_ps: int, eventually: Eventually) -> Iterator[Cluster]:
    lines: list[tuple[str, str]] = []
    with LocalCluster(
        num_ps, replicas=1, ps_arguments=("--lease", str(LEASE_S)), log=lambda *line: lines.append(line)
    ) as local:
        cluster = Cluster(local, lines, eventually)
        for index in range(num_ps):
            cluster.wait_until(f"ps:{index}", "is the backup now")
        yield cluster
        local.signal_all_ps(signal.SIGKILL)  # one whose other is gone would wait for it


@pytest.fixture(scope="module")
def two_pairs(eventually: Eventually) -> Iterator[Cluster]:
    with pairs(2, eventually) as cluster:
        yield cluster


@pytest.fixture
def pair(eventually: Eventually) -> Iterator[Cluster]:
    with pairs(1, eventually) as cluster:
        yield cluster


def variable_of(client: Client, name: str, index: int = 0, *, rows: int = ROWS) -> ss.Variable:
    with client.as_default(), ss.device(f"/job:ps/task:{index}"):
        variable = ss.get_variable(name, [rows, WIDTH], initializer=ss.zeros_initializer())
    assert isinstance(variable, ss.Variable)
    return variable


@pytest.mark.parametrize("way", WAYS)
def test_every_kind_of_read_shows_what_this_client_has_just_written(
    two_pairs: Cluster, resources: ExitStack, way: str
) -> None:
    client = resources.enter_context(ss.connect(two_pairs.spec, transport=way, read_from="any"))
    small, large = variable_of(client, f"small-{way}", 0, rows=2), variable_of(client, f"large-{way}", 1)
    mirror = client.mirror([small, large])
    two_pairs.wait_until_read(BACKUP_JOB, small.read_value)
    two_pairs.wait_until_read(BACKUP_JOB, large.read_value, 1)
    before = [two_pairs.batches(BACKUP_JOB, index) for index in range(2)]
    for number in range(1, 21):
        for variable in (small, large):
            variable.assign_add(np.ones(variable.shape, np.float32))
        assert [variable.read_value().min() for variable in (small, large)] == [number, number]
        assert large.gather([0, 7]).min() == number
        assert small.max() == large.sum() / large.size == number
        assert [value.min() for value in client.read_all([small, large])] == [number, number]
        large.assign_add(np.zeros(large.shape, np.float32), wait=False)  # reads stay behind it
        assert large.read_value().max() == number
        mirror.pull()
        assert [value.max() for value in mirror.values] == [number, number]
    after = [two_pairs.batches(BACKUP_JOB, index) for index in range(2)]
    counts = [now - then for then, now in zip(before, after, strict=True)]
    assert all(counts), f"a backup was not read: {counts}"


def test_two_clients_see_each_others_updates_at_either_process(two_pairs: Cluster, resources: ExitStack) -> None:
    """What one was acknowledged, the other sees at once; and neither goes back."""
    writer, reader = (resources.enter_context(ss.connect(two_pairs.spec, "worker", i, read_from="any")) for i in (0, 1))
    written, read = variable_of(writer, "shared", rows=2), variable_of(reader, "shared", rows=2)
    two_pairs.wait_until_read(BACKUP_JOB, read.read_value)
    ended = threading.Event()
    seen: list[float] = []

    def watch() -> None:
        while not ended.is_set():
            seen.append(float(read.read_value().min()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for number in range(1, 101):
            written.assign_add(np.ones((2, WIDTH), np.float32))
            assert read.read_value().min() == number
    finally:
        ended.set()
        watcher.join(TIMEOUT_S)
    assert seen == sorted(seen)


def test_by_default_and_by_setting(two_pairs: Cluster, resources: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    client = resources.enter_context(ss.connect(two_pairs.spec))
    variable = variable_of(client, "by_default", rows=2)
    before = two_pairs.batches(BACKUP_JOB)
    for _ in range(20):
        variable.read_value()
    assert two_pairs.batches(BACKUP_JOB) == before

    monkeypatch.setenv("SHARDSCOPE_READ_FROM", "any")
    other = resources.enter_context(ss.connect(two_pairs.spec, "worker", 1))
    two_pairs.wait_until_read(BACKUP_JOB, variable_of(other, "by_default", rows=2).read_value)
    with pytest.raises(ValueError, match="one of primary, any"):
        ss.connect(two_pairs.spec, read_from="the backup")


def test_reads_go_on_while_the_processes_die_and_take_each_others_place(pair: Cluster, resources: ExitStack) -> None:
    client = resources.enter_context(ss.connect(pair.spec, read_from="any"))
    variable = variable_of(client, "v", rows=2)
    variable.assign(np.ones((2, WIDTH), np.float32))
    pair.wait_until_read(BACKUP_JOB, variable.read_value)

    def read() -> None:
        np.testing.assert_array_equal(variable.read_value(), np.ones((2, WIDTH)))

    pair.local.kill_ps(0)
    for _ in range(50):
        read()
    pair.wait_until("backup:0", "is the primary of ps:0 now")
    pair.local.restart_ps(0)
    pair.wait_until("backup:0", "is the backup now")
    pair.wait_until_read(PS_JOB, read)  # the roles have swapped
    pair.local.signal_backup(0, signal.SIGKILL)
    for _ in range(50):
        read()
    pair.wait_until("ps:0", "is the primary of ps:0 now", times=2)


def test_a_backup_that_is_stopped_holds_nobody_up_and_shows_nothing_old_when_it_goes_on(
    pair: Cluster, resources: ExitStack
) -> None:
    client = resources.enter_context(ss.connect(pair.spec, read_from="any"))
    variable = variable_of(client, "v", rows=2)
    pair.wait_until_read(BACKUP_JOB, variable.read_value)
    backup = grpc_transport.connect(pair.spec.task_address(BACKUP_JOB, 0), task="ps:0")
    resources.callback(backup.close)
    store = client.fanout.store(0)
    read = Batch(client.incarnation, store, 0, (Read("v"),), expected_reply_bytes=2 * WIDTH * 4)
    assert backup.exchange(read, timeout_s=TIMEOUT_S).replies[0] is not None

    pair.local.signal_backup(0, signal.SIGSTOP)
    stopped = threading.Event()
    answers: list[object] = []

    def ask_the_stopped_one() -> None:
        stopped.set()
        try:
            answers.append(backup.exchange(read, timeout_s=TIMEOUT_S))
        except UnavailableError as error:
            answers.append(error)

    asker = threading.Thread(target=ask_the_stopped_one)
    asker.start()  # it lies in the socket of the stopped process, behind the tokens of the primary
    assert stopped.wait(TIMEOUT_S)
    for _ in range(10):  # one of them has to find out; none waits for the lease
        assert variable.read_value().min() == 0
    variable.assign_add(np.ones((2, WIDTH), np.float32))  # when the primary goes on alone
    pair.wait_until("ps:0", "goes on without a backup")
    pair.local.signal_backup(0, signal.SIGCONT)
    asker.join(TIMEOUT_S)
    assert isinstance(answers[0], UnavailableError), "it has shown a value from before the update"
    assert variable.read_value().min() == 1


def test_a_process_without_the_state_is_not_read(pair: Cluster, resources: ExitStack) -> None:
    """Killed and started again, it refuses until it is the backup; then it is read."""
    client = resources.enter_context(ss.connect(pair.spec, read_from="any"))
    variable = variable_of(client, "v")
    variable.assign(np.ones((ROWS, WIDTH), np.float32))
    pair.wait_until_read(BACKUP_JOB, variable.read_value)
    pair.local.signal_backup(0, signal.SIGKILL)
    pair.local.restart_backup(0)
    backup = grpc_transport.connect(pair.spec.task_address(BACKUP_JOB, 0), task="ps:0")
    resources.callback(backup.close)
    refusals = set()

    def is_welcome() -> bool:
        try:
            backup.hello(client.incarnation, "worker:0", for_reads=True, timeout_s=TIMEOUT_S)
        except UnavailableError as error:
            refusals.add(error.message.partition(".")[0])
            return False
        return True

    while not is_welcome():
        assert variable.read_value().min() == 1
    assert any("not the primary" in each for each in refusals)
    pair.wait_until_read(BACKUP_JOB, variable.read_value)
    assert variable.read_value().min() == 1
