"""What a start finds in a data directory, and whose state it takes that to be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Batch, Declare, Read, Result, Update, UpdateRule, VariableSpec
from ps_protocol.service_types import DurabilityMode
from ps_protocol.task_id import TaskId
from ps_server.core.parameter_server import ParameterServer
from ps_server.durability.disk.data_directory import DirectoryInUseError
from ps_server.durability.disk.held_places import DisplacedError
from ps_server.durability.disk.last_run import LastRun, read_last_run
from ps_server.durability.recovery import StateOnDisk
from ps_server.durability.snapshots.files import CorruptSnapshotError
from ps_server.durability.snapshots.policies import WhenJournalIsLong
from ps_server.durability.task import DurableSettings, DurableTask
from ps_server.log.logged_state import LoggedState
from ps_server.log.state_parts import StateParts

TIMEOUT_S = 30.0
COUNTER = VariableSpec("counter", np.dtype(np.float64), ())
NONE, SNAPSHOT, JOURNAL = DurabilityMode
CLUSTER = ClusterSpec({"ps": ["localhost:1"]})
TASK = TaskId("ps", 0)


class Run:
    """One life of ps:0."""

    def __init__(self, core: ParameterServer, task: DurableTask):
        self.core = core
        self.task = task
        self._sequence = 0
        self._client = uuid4()
        core.hello(self._client, "worker:0", timeout_s=TIMEOUT_S)

    @property
    def store(self) -> UUID:
        return self.core.store_incarnation

    def add(self, count: int = 1) -> None:
        for _ in range(count):
            self._sequence += 1
            operations = (
                Declare(COUNTER, InitializerSpec(ConstantKind(0.0))),
                Update("counter", UpdateRule.ASSIGN_ADD, np.array(1.0)),
            )
            self.core.exchange(Batch(self._client, self.store, self._sequence, operations), timeout_s=TIMEOUT_S)

    @property
    def value(self) -> float:
        reply = self.core.exchange(Batch(self._client, self.store, 0, (Read("counter"),)), timeout_s=TIMEOUT_S)
        (result,) = reply.replies
        assert isinstance(result, Result)
        assert result.tensor is not None
        return float(result.tensor)


def state_of(root: Path, mode: DurabilityMode) -> StateOnDisk:
    return StateOnDisk.open(root, task=TASK, num_ps=1, mode=mode)


def empty_state(on_disk: StateOnDisk, memory_limit_bytes: int = 0) -> LoggedState:
    return LoggedState(StateParts(CLUSTER, 0, memory_limit_bytes=memory_limit_bytes), on_disk.store_incarnation)


@contextmanager
def run(root: Path, mode: DurabilityMode, *, in_good_order: bool = True) -> Iterator[Run]:
    """A life that ends in good order, or leaves the disk as a kill would."""

    def fatal(error: BaseException) -> None:
        raise error

    state = state_of(root, mode)
    task = DurableTask(empty_state(state), state, DurableSettings(mode, root, 1e6)).serve(on_fatal=fatal)
    yield Run(ParameterServer(cluster_spec=CLUSTER, task_index=0, state=task.state), task)
    if in_good_order:
        assert task.close(drained=True, timeout_s=TIMEOUT_S)
    else:
        assert task.snapshotter.stop(TIMEOUT_S)
        assert task.log.close(TIMEOUT_S)
        state.close(ended_at=None)


@pytest.mark.parametrize("mode", [SNAPSHOT, JOURNAL])
def test_a_new_directory_begins_empty_and_with_a_store_that_is_kept(mode: DurabilityMode, tmp_path: Path) -> None:
    with run(tmp_path, mode) as first:
        assert (first.task.recovered.position, first.task.recovered.snapshot) == (0, None)
        assert not first.core.state.loss
    with run(tmp_path, mode) as second:
        assert second.store == first.store


@pytest.mark.parametrize(
    ("before", "after", "in_good_order", "keeps"),
    [
        (JOURNAL, JOURNAL, False, True),
        (JOURNAL, SNAPSHOT, False, True),
        (SNAPSHOT, SNAPSHOT, True, True),
        (SNAPSHOT, JOURNAL, True, True),
        (SNAPSHOT, SNAPSHOT, False, False),
        (SNAPSHOT, JOURNAL, False, False),
    ],
)
def test_the_store_is_kept_if_nothing_is_lost(
    before: DurabilityMode, after: DurabilityMode, in_good_order: bool, keeps: bool, tmp_path: Path
) -> None:
    with run(tmp_path, before, in_good_order=in_good_order) as first:
        first.add(2)
        first.task.snapshotter.snapshot()
        first.add()
    with run(tmp_path, after) as second:
        assert (second.store == first.store) is keeps
        assert second.value == (3 if keeps else 2)
        assert bool(second.core.state.loss) is not keeps
        assert second.task.recovered.num_replayed == (1 if before is JOURNAL else 0)


@pytest.mark.parametrize("in_good_order", [True, False])
def test_without_a_journal_that_was_moved_away_what_it_had_is_lost(in_good_order: bool, tmp_path: Path) -> None:
    with run(tmp_path, JOURNAL, in_good_order=in_good_order) as first:
        first.add(2)
        first.task.snapshotter.snapshot()
        first.add()
    for path in [*tmp_path.glob("ps-0/journal-*"), tmp_path / "ps-0" / "acknowledged"]:
        path.rename(tmp_path / path.name)
    with run(tmp_path, JOURNAL) as second:
        assert second.store != first.store
        assert second.value == 2
        assert "has the state of its snapshot" in second.core.state.loss


def test_what_was_lost_stays_lost_whatever_comes_after(tmp_path: Path) -> None:
    with run(tmp_path, JOURNAL) as first:
        first.add()
    with run(tmp_path, SNAPSHOT, in_good_order=False) as second:
        second.add()
    with run(tmp_path, JOURNAL) as third:
        assert third.store != first.store == second.store
        assert third.value == 1
        assert "up to record 3" in third.core.state.loss
        third.add(3)
    with run(tmp_path, JOURNAL) as fourth:
        assert fourth.store == third.store
        assert fourth.value == 4


def test_a_start_that_is_refused_hides_nothing(tmp_path: Path) -> None:
    with run(tmp_path, SNAPSHOT) as first:
        first.add()
    (values,) = tmp_path.rglob("values.safetensors")
    content = values.read_bytes()
    values.write_bytes(content[:-1] + b"\xff")
    state = state_of(tmp_path, SNAPSHOT)
    with pytest.raises(CorruptSnapshotError, match=r"variable counter"):
        DurableTask(empty_state(state), state, DurableSettings(SNAPSHOT, tmp_path, 1.0))
    values.write_bytes(content)
    with run(tmp_path, SNAPSHOT) as second:
        assert second.store == first.store


def test_it_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with run(tmp_path, JOURNAL), pytest.raises(DirectoryInUseError):
        state_of(tmp_path, JOURNAL)
    state_of(tmp_path, JOURNAL).close(ended_at=None)


def test_a_good_end_is_noted_with_its_position_and_only_one(tmp_path: Path) -> None:
    with run(tmp_path, SNAPSHOT) as life:
        life.add()
        assert read_last_run(tmp_path / "ps-0") == LastRun(SNAPSHOT)
    assert read_last_run(tmp_path / "ps-0") == LastRun(SNAPSHOT, life.task.log.last_position)
    with run(tmp_path, SNAPSHOT, in_good_order=False):
        pass
    assert read_last_run(tmp_path / "ps-0") == LastRun(SNAPSHOT)


def test_an_end_that_leaves_batches_unanswered_is_no_good_end(tmp_path: Path) -> None:
    with run(tmp_path, SNAPSHOT, in_good_order=False) as life:
        life.add()
        assert life.task.close(drained=False, timeout_s=TIMEOUT_S)
        assert read_last_run(tmp_path / "ps-0") == LastRun(SNAPSHOT)


def test_the_last_snapshot_may_fail_and_is_then_no_good_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_room(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with run(tmp_path, SNAPSHOT, in_good_order=False) as life:
        life.add()
        monkeypatch.setattr("os.posix_fallocate", no_room)
        assert not life.task.close(drained=True, timeout_s=TIMEOUT_S)
        assert "No space left" in caplog.text
        assert "No space left" in life.task.status().obstacle
    monkeypatch.undo()
    with run(tmp_path, SNAPSHOT) as again:
        assert again.store != life.store


def test_status_tells_what_would_survive(tmp_path: Path) -> None:
    with run(tmp_path, JOURNAL) as life:
        life.add()
        status = life.core.status(timeout_s=TIMEOUT_S).durability
        assert status == life.task.status()
        assert status is not None
        last = life.task.log.last_position
        assert (status.mode, status.last_position, status.committed_position) == (JOURNAL, last, last)
        assert (status.snapshot_position, status.snapshot_taken_at_s, status.obstacle) == (0, 0, "")
        assert status.journal_bytes > 0
        life.task.snapshotter.snapshot()
        status = life.task.status()
        assert (status.snapshot_position, status.snapshot_bytes > 0) == (last, True)
        assert status.snapshot_taken_at_s > 1e9
    with run(tmp_path, SNAPSHOT) as life:
        assert life.task.status().snapshot_position == last
        assert life.task.status().journal_bytes == 0


@pytest.mark.parametrize("name", ["last_run.json", "last_run.copy.json"])
@pytest.mark.parametrize("mode", [SNAPSHOT, JOURNAL])
def test_a_damaged_note_of_the_last_run_is_no_loss(mode: DurabilityMode, name: str, tmp_path: Path) -> None:
    with run(tmp_path, mode) as first:
        first.add(2)
    (tmp_path / "ps-0" / name).write_bytes(b"\x80\0{")
    with run(tmp_path, mode) as second:
        assert second.store == first.store
        assert second.value == 2


def test_a_snapshot_is_not_taken_into_another_directory(tmp_path: Path) -> None:
    with run(tmp_path, SNAPSHOT, in_good_order=False) as life:
        life.add()
        (tmp_path / "ps-0").rename(tmp_path / "away")
        (tmp_path / "ps-0" / "snapshots").mkdir(parents=True)
        with pytest.raises(DisplacedError, match=r"ps-0 has been replaced by another"):
            life.task.snapshotter.snapshot()
        assert "has been replaced" in life.task.status().obstacle
        assert not list(tmp_path.rglob("values.safetensors"))
        assert not life.task.close(drained=True, timeout_s=TIMEOUT_S)
        assert not list(tmp_path.glob("ps-0/*.json"))


def test_what_is_only_declared_lets_no_journal_grow(tmp_path: Path) -> None:
    with run(tmp_path, JOURNAL) as life:
        life.add()
        huge = VariableSpec("huge", np.dtype(np.float32), (2**34,))
        life.core.exchange(Batch(life._client, life.store, 2, (Declare(huge),)), timeout_s=TIMEOUT_S)
        assert life.core.variable_bytes > 2**36
        policy = life.task.snapshotter._policy
        assert isinstance(policy, WhenJournalIsLong)
        assert policy._value_bytes() == 8


@pytest.mark.parametrize("mode", [SNAPSHOT, JOURNAL])
def test_another_batch_under_an_old_number_is_refused_after_a_restart(mode: DurabilityMode, tmp_path: Path) -> None:
    def batch(store: UUID, amount: float, checksum: int) -> Batch:
        return Batch(client, store, 2, (Update("counter", UpdateRule.ASSIGN_ADD, np.array(amount)),), checksum=checksum)

    with run(tmp_path, mode) as first:
        first.add()
        client = first._client
        first.core.exchange(batch(first.store, 1.0, 77), timeout_s=TIMEOUT_S)
    with run(tmp_path, mode) as second:
        assert second.store == first.store
        assert second.task.recovered.num_replayed == (0 if mode is SNAPSHOT else 4)
        with pytest.raises(InvalidArgumentError, match=r"the sequence 2 .* was used before, for another batch"):
            second.core.exchange(batch(second.store, 5.0, 78), timeout_s=TIMEOUT_S)
        second.core.exchange(batch(second.store, 1.0, 77), timeout_s=TIMEOUT_S)
        assert second.value == 2
