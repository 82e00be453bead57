"""A restore of tasks that keep a log: it is in the log whole or not at all, and survives a restart and a failover."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest

from ps_protocol.errors import FailedPreconditionError, ShardscopeError, StateLostError
from ps_protocol.fault_points import Fault, FaultAction, FaultPlan, installed
from ps_protocol.service_types import DurabilityMode
from ps_protocol.task_id import TaskId
from ps_server.durability.recovery import StateOnDisk
from ps_server.durability.task import DurableSettings, DurableTask
from ps_server.log import record_codec
from ps_server.log.logged_state import LoggedState
from ps_server.log.records import LoggedRecord, Restored, Staged
from ps_server.log.state_parts import StateParts
from tests.unit.worker_client.checkpoints.small_clusters import Model, SmallCluster, assert_equal, spec_of

TIMEOUT_S = 30.0
NUM_PS = 2


class DurableCluster(SmallCluster):
    """Two ps tasks with a journal, which are brought back from what an earlier one has left."""

    def __init__(self, data_dir: Path, mode: DurabilityMode = DurabilityMode.JOURNAL):
        self._durable: list[DurableTask] = []
        for index in range(NUM_PS):
            on_disk = StateOnDisk.open(data_dir, task=TaskId("ps", index), num_ps=NUM_PS, mode=mode)
            state = LoggedState(StateParts(spec_of(NUM_PS), index), on_disk.store_incarnation)
            settings = DurableSettings(mode, data_dir, snapshot_interval_s=1e6)
            task = DurableTask(state, on_disk, settings)
            self._durable.append(task.serve(on_fatal=lambda error: pytest.fail(str(error))))
        super().__init__(NUM_PS, [each.state for each in self._durable])

    def snapshot(self) -> None:
        for each in self._durable:
            each.snapshotter.snapshot()

    def stop(self) -> None:
        """Ends the tasks in good order."""
        self.__exit__(None, None, None)
        for each in self._durable:
            assert each.close(drained=True, timeout_s=TIMEOUT_S)


@pytest.mark.parametrize("snapshots", [False, True], ids=["journal", "snapshot"])
def test_a_restore_survives_a_restart(tmp_path: Path, snapshots: bool) -> None:
    cluster = DurableCluster(tmp_path / "data")
    client = cluster.client()
    model = Model(client)
    model.train(0, 3)
    client.save(tmp_path, name="x")
    at_save = model.values()
    before = [task.store_incarnation for task in cluster.tasks]
    model.train(3, 2)
    client.restore(tmp_path / "x")
    stores = [task.store_incarnation for task in cluster.tasks]
    assert not set(before) & set(stores)
    if snapshots:
        cluster.snapshot()
    model.train(3, 4)
    expected = model.values()
    cluster.stop()
    again = DurableCluster(tmp_path / "data")
    assert [task.store_incarnation for task in again.tasks] == stores
    client = again.client()
    model = Model(client)
    assert_equal(model.values(), expected)
    client.restore(tmp_path / "x")
    assert_equal(model.values(), at_save)
    again.stop()


def test_a_restore_into_an_empty_cluster_survives_a_restart(tmp_path: Path) -> None:
    with SmallCluster(3) as first:
        model = Model(first.client())
        model.train(0, 3)
        first.client(1).save(tmp_path, name="x")
        expected = model.values()
    cluster = DurableCluster(tmp_path / "data")
    cluster.client().restore(tmp_path / "x")
    placements = cluster.tasks[0].list_placements(timeout_s=TIMEOUT_S)
    cluster.stop()
    again = DurableCluster(tmp_path / "data")
    assert repr(again.tasks[0].list_placements(timeout_s=TIMEOUT_S)) == repr(placements)
    assert_equal(Model(again.client()).values(), expected)
    again.stop()


@pytest.mark.parametrize("place", ["restore.before_switch", "restore.staged_in_log"])
def test_what_was_staged_for_nothing_has_no_effect(tmp_path: Path, place: str) -> None:
    cluster = DurableCluster(tmp_path / "data")
    client = cluster.client()
    model = Model(client)
    model.train(0, 2)
    client.save(tmp_path, name="x")
    model.train(2, 1)
    expected = model.values()
    plan = FaultPlan((Fault(place, FaultAction.FAIL, 1, 2),))
    with installed(plan), pytest.raises(FailedPreconditionError, match="could not be restored"):
        client.restore(tmp_path / "x")
    assert plan.fired(place) == 2
    assert_equal(model.values(), expected)
    model.train(3, 1)
    expected = model.values()
    cluster.stop()
    again = DurableCluster(tmp_path / "data")
    model = Model(again.client())
    assert_equal(model.values(), expected)
    again.client(1).restore(tmp_path / "x")
    again.stop()


def test_an_incomplete_restore_is_known_after_a_restart(tmp_path: Path) -> None:
    cluster = DurableCluster(tmp_path / "data")
    client = cluster.client()
    model = Model(client)
    model.train(0, 2)
    client.save(tmp_path, name="x")
    at_save = model.values()
    plan = FaultPlan((Fault("restore.before_finish", FaultAction.FAIL, 1, 2),))
    with installed(plan), pytest.raises(FailedPreconditionError, match="restore again"):
        client.restore(tmp_path / "x")
    assert plan.fired("restore.before_finish") == 2
    cluster.stop()
    again = DurableCluster(tmp_path / "data")
    client = again.client()
    with pytest.raises(ShardscopeError, match="whether all others have is not known"):
        client.variable("steps").read_value()
    client.restore(tmp_path / "x")
    assert_equal(Model(client).values(), at_save)
    again.stop()


class _Sink:
    """Keeps the records as a journal or a backup would get them."""

    name = "a list"
    is_quick = False

    def __init__(self) -> None:
        self.records: list[LoggedRecord] = []

    def write(self, group: Sequence[LoggedRecord]) -> None:
        for record in group:
            header, buffers = record_codec.encode_record(record)
            data = memoryview(b"".join([bytes(each) for each in buffers]))
            parsed = record_codec.parse_record(header.SerializeToString())
            layouts = record_codec.record_layouts(parsed)
            assert sum([each.size_bytes for each in layouts]) == len(data)
            self.records.append(record_codec.decode_record_of(parsed, data))

    def close(self) -> None:
        """Nothing is open."""


def test_a_backup_that_carries_out_the_records_has_the_same_state(tmp_path: Path) -> None:
    sinks = [_Sink() for _ in range(NUM_PS)]
    states = [LoggedState(StateParts(spec_of(NUM_PS), index), UUID(int=index + 1)) for index in range(NUM_PS)]
    logs = [
        state.start([sink], on_fatal=lambda error: pytest.fail(str(error)))
        for state, sink in zip(states, sinks, strict=True)
    ]
    with SmallCluster(NUM_PS, list(states)) as cluster:
        client, other = cluster.client(), cluster.client(1)
        model = Model(client)
        model.train(0, 2)
        client.save(tmp_path, name="x")
        model.train(2, 1)
        client.restore(tmp_path / "x")
        model.train(2, 2)
        expected = model.values()
        with pytest.raises(StateLostError):
            other.variable("steps").read_value()
        kinds = [type(each.record) for each in sinks[0].records]
        assert kinds.count(Restored) == 2
        assert Staged in kinds
        backups: list[LoggedState] = []
        for index, sink in enumerate(sinks):
            backup = LoggedState(StateParts(spec_of(NUM_PS), index), UUID(int=index + 1))
            for record in sink.records:
                backup.replay(record)
            backups.append(backup)
        assert [each.store_incarnation for each in backups] == [each.store_incarnation for each in states]
        for backup, state in zip(backups, states, strict=True):
            assert backup.parts.store.variable_bytes == state.parts.store.variable_bytes
            found, there = (
                {each.spec.name: (repr(each.spec), each.version) for each in one.parts.store.variables.images()}
                for one in (backup, state)
            )
            assert found == there
    logs += [backup.start([], on_fatal=lambda error: pytest.fail(str(error))) for backup in backups]
    with SmallCluster(NUM_PS, list(backups)) as cluster:
        assert_equal(Model(cluster.client()).values(), expected)
    for log in logs:
        assert log.close(TIMEOUT_S)
