"""A state that follows another process and is kept on disk: before the other one is answered, and within bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest

from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Batch, Declare, Update, UpdateRule
from ps_protocol.service_types import DurabilityMode
from ps_server.core.parameter_server import ParameterServer
from ps_server.durability.disk.data_directory import DataDirectory
from ps_server.durability.recovery import StateOnDisk
from ps_server.durability.task import DurableSettings, DurableTask
from ps_server.log.commit_log import SinkUnavailableError
from ps_server.log.logged_state import LoggedState
from ps_server.log.records import LoggedRecord
from ps_server.log.state_image import StateImage
from ps_server.log.state_parts import StateParts
from ps_server.replication.kept_state import KeptState
from ps_server.replication.member import MemberFile, Part
from tests.unit.ps_server.durability.test_recovery import CLUSTER, COUNTER, TASK, TIMEOUT_S

JOURNAL = DurabilityMode.JOURNAL
STORE = UUID(int=7)


class Primary:
    """Makes records, and images of its state."""

    name = "a sink that keeps all"
    is_quick = False

    def __init__(self) -> None:
        self.records: list[LoggedRecord] = []
        self.state = LoggedState(StateParts(CLUSTER, 0), STORE)
        self._log = self.state.start([self], on_fatal=lambda error: pytest.fail(str(error)))
        self._core = ParameterServer(cluster_spec=CLUSTER, task_index=0, state=self.state)
        self._client, self._sequence = uuid4(), 0
        self._core.hello(self._client, "worker:0", timeout_s=TIMEOUT_S)

    def add(self, count: int) -> list[LoggedRecord]:
        """Carries out updates; returns their records."""
        before = len(self.records)
        for _ in range(count):
            self._sequence += 1
            operations = (
                Declare(COUNTER, InitializerSpec(ConstantKind(0.0))),
                Update("counter", UpdateRule.ASSIGN_ADD, np.array(1.0)),
            )
            self._core.exchange(Batch(self._client, STORE, self._sequence, operations), timeout_s=TIMEOUT_S)
        return self.records[before:]

    def image(self) -> StateImage:
        return self.state.take_image(TIMEOUT_S)

    def write(self, records: Sequence[LoggedRecord]) -> None:
        self.records += records

    def close(self) -> None: ...

    def end(self) -> None:
        assert self._log.close(TIMEOUT_S)


@pytest.fixture
def primary() -> Iterator[Primary]:
    made = Primary()
    yield made
    made.end()


def opened(root: Path) -> tuple[DurableTask, MemberFile]:
    on_disk = StateOnDisk.open(root, task=TASK, num_ps=1, mode=JOURNAL)
    state = LoggedState(StateParts(CLUSTER, 0), on_disk.store_incarnation)
    notes = MemberFile(on_disk.directory.path)
    return DurableTask(state, on_disk, DurableSettings(JOURNAL, root, 1e6)), notes


def followed(root: Path) -> tuple[DurableTask, KeptState]:
    task, notes = opened(root)
    if notes.member is None:
        notes.draw()
    return task, KeptState(task, notes, returns=False)


def killed(task: DurableTask) -> None:
    """What a kill leaves."""
    assert task.snapshotter.stop(TIMEOUT_S)
    task.on_disk.close(ended_at=None)


def value_of(task: DurableTask) -> float:
    [variable] = task.state.image().variables
    assert variable.value is not None
    return float(variable.value)


def test_what_was_made_safe_is_there_after_a_kill_with_the_store_of_the_primary(
    tmp_path: Path, primary: Primary
) -> None:
    primary.add(3)
    task, kept = followed(tmp_path)
    kept.adopt(STORE)
    assert kept.member.part is Part.CATCHING_UP
    image = primary.image()
    kept.restore(image)
    later = primary.add(5)
    for record in later[:-1]:
        kept.replay(record)
    assert task.on_disk.journal.last_position == image.position, "records are written as a group"
    assert kept.make_safe() == later[-2].position == task.on_disk.journal.last_position
    kept.replay(later[-1])  # and not made safe
    killed(task)

    again, _ = opened(tmp_path)
    assert again.last_position == later[-2].position
    assert again.state.store_incarnation == STORE
    assert value_of(again) == 7
    killed(again)


def test_it_is_served_with_its_journal_and_another_sink(tmp_path: Path, primary: Primary) -> None:
    task, kept = followed(tmp_path)
    kept.adopt(STORE)
    kept.restore(primary.image())
    for record in primary.add(2):
        kept.replay(record)
    taken: list[LoggedRecord] = []

    class Sink:
        name = "the link"
        is_quick = False

        def write(self, records: Sequence[LoggedRecord]) -> None:
            taken.extend(records)

        def close(self) -> None: ...

    log = kept.serve([Sink()], on_fatal=lambda error: pytest.fail(str(error)), is_given_up=False)
    core = ParameterServer(cluster_spec=CLUSTER, task_index=0, state=task.state)
    core.hello(uuid4(), "worker:1", timeout_s=TIMEOUT_S)
    assert [record.position for record in taken] == [log.last_position]
    assert task.on_disk.journal.last_position == log.last_position
    assert core.store_incarnation == STORE
    assert kept.close(drained=True, timeout_s=TIMEOUT_S)


def test_a_state_that_is_given_up_gets_another_store(tmp_path: Path, primary: Primary) -> None:
    task, kept = followed(tmp_path)
    kept.adopt(STORE)
    primary.add(1)
    kept.restore(primary.image())
    kept.serve([], on_fatal=lambda error: pytest.fail(str(error)), is_given_up=True)
    assert task.state.store_incarnation != STORE
    assert "the operator has let it go on" in task.state.loss
    assert kept.close(drained=True, timeout_s=TIMEOUT_S)


def test_snapshots_bound_its_journal_while_it_follows(tmp_path: Path, primary: Primary) -> None:
    task, kept = followed(tmp_path)
    kept.adopt(STORE)
    kept.restore(primary.image())
    for record in primary.add(4):
        kept.replay(record)
    info = task.snapshotter.snapshot()
    assert info is not None
    assert info.position == kept.replayed_position == task.on_disk.journal.last_position
    for record in primary.add(2):
        kept.replay(record)
    kept.make_safe()
    task.snapshotter.snapshot()
    assert len(list(task.on_disk.directory.path.glob("journal-*.sqlite"))) <= 1
    killed(task)
    again, _ = opened(tmp_path)
    assert value_of(again) == 6
    assert again.recovered.num_replayed == 0
    killed(again)


def test_what_the_disk_does_not_take_is_offered_to_it_again(
    tmp_path: Path, primary: Primary, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, kept = followed(tmp_path)
    kept.adopt(STORE)
    kept.restore(primary.image())
    for record in primary.add(2):
        kept.replay(record)

    def full(_records: object) -> None:
        raise SinkUnavailableError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(task.on_disk.journal, "write", full)
        with pytest.raises(SinkUnavailableError):
            kept.make_safe()
        with pytest.raises(SinkUnavailableError):
            kept.serve([], on_fatal=lambda error: pytest.fail(str(error)), is_given_up=False)
    assert kept.make_safe() == kept.replayed_position == task.on_disk.journal.last_position
    killed(task)


def test_an_image_that_does_not_fit_leaves_the_state_empty_and_frees_what_was_set_aside(
    tmp_path: Path, primary: Primary, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = DataDirectory.open(tmp_path, task=TASK, num_ps=1)
    aside = first.set_aside(keeps=True)
    assert aside is not None
    assert aside.exists()
    task, kept = followed(tmp_path)
    kept.adopt(STORE)
    primary.add(1)

    def full(_image: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(task.on_disk.files, "write", full)
        with pytest.raises(OSError, match="No space"):
            kept.restore(primary.image())
    assert not aside.exists()
    assert kept.replayed_position == 0
    kept.restore(primary.image())
    assert value_of(task) == 1
    killed(task)


def test_only_one_directory_is_set_aside_and_half_a_state_is_not_kept(tmp_path: Path) -> None:
    for number in range(2):
        directory = DataDirectory.open(tmp_path, task=TASK, num_ps=1)
        (directory.path / "number").write_text(str(number))
        before = directory.store_incarnation
        aside = directory.set_aside(keeps=True)
    assert aside == tmp_path / "ps-0.set-aside"
    assert (aside / "number").read_text() == "1"
    assert str(before) not in (aside / "format.json").read_text(), "who goes on with it goes on with another store"
    assert DataDirectory.open(tmp_path, task=TASK, num_ps=1).set_aside(keeps=False) is None
    assert [path.name for path in tmp_path.iterdir()] == ["ps-0.set-aside"]
