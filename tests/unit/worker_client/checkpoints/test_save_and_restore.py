"""A whole cluster is saved and restored: on other numbers of ps tasks, in other parts, over a running one."""

from __future__ import annotations

import itertools
import signal
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from safetensors.numpy import load_file

import worker_client as ss
from ps_protocol.checkpoints.folder_store import FolderStore
from ps_protocol.checkpoints.manifest import MANIFEST_FILE
from ps_protocol.checkpoints.service import CheckpointPath
from ps_protocol.errors import (
    AbortedError,
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ShardscopeError,
    StateLostError,
    UnavailableError,
)
from ps_protocol.fault_points import Fault, FaultAction, FaultPlan, installed
from ps_protocol.files.synced_files import SyncedWriter
from ps_protocol.interrupts import Begun
from ps_server.checkpoints.fetching import FetchedPart
from ps_server.checkpoints.pace import PIECE_BYTES, Pace
from ps_server.checkpoints.saving import Save
from ps_server.checkpoints.service import TaskCheckpoints
from ps_server.core.parameter_server import ParameterServer
from tests.conftest import Eventually
from tests.unit.worker_client.checkpoints.small_clusters import IMPATIENT, PART, Model, SmallCluster, assert_equal, flip
from worker_client.checkpoints import methods

TIMEOUT_S = 30.0


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 2), (4, 1), (2, 2)])
@pytest.mark.parametrize(("parts", "parts_after"), [(2, 2), (3, 1), (1, 4), (2, 3)])
def test_training_goes_on_bit_for_bit(tmp_path: Path, before: int, after: int, parts: int, parts_after: int) -> None:
    with SmallCluster(before) as cluster:
        model = Model(cluster.client(), parts)
        model.train(0, 5)
        saved = cluster.client(1).save(tmp_path, step=5)
        model.train(5, 10)
        expected = model.values()
    assert saved.path == str(tmp_path / "step-000000005")
    for declares_first in (False, True):
        with SmallCluster(after) as cluster:
            client = cluster.client()
            declared = Model(client, parts_after) if declares_first or parts != parts_after else None
            report = client.restore(tmp_path)
            assert report.step == 5
            assert "layer/divided/Adam/m" in report.names("restored")
            trained = declared or Model(client, parts_after)
            trained.train(5, 10)
            assert_equal(trained.values(), expected)


def test_restores_over_a_running_cluster(tmp_path: Path, cluster: SmallCluster) -> None:
    client, other = cluster.client(), cluster.client(1)
    model = Model(client)
    model.train(0, 3)
    at_save = model.values()
    client.save(tmp_path, name="early")
    model.train(3, 4)
    stores = [task.store_incarnation for task in cluster.tasks]
    newest = model.whole.version
    report = client.restore(tmp_path / "early")
    assert set(report.names("restored")) >= {"layer/whole", "layer/whole/Adam/m", "layer/divided", "steps"}
    assert_equal(model.values(), at_save)
    # Who knows what was there before must not take one for the other.
    assert not set(stores) & {task.store_incarnation for task in cluster.tasks}
    assert model.whole.version > newest
    with pytest.raises(StateLostError, match=r"restored from the checkpoint .*/early"):
        other.variable("steps").read_value()
    assert cluster.client(2).variable("steps").read_value() == 3


def test_a_task_that_has_lost_its_state_gets_back_what_was_placed_there(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    model = Model(client)
    model.train(0, 2)
    client.save(tmp_path, name="x")
    expected, placements = model.values(), cluster.tasks[0].list_placements(timeout_s=TIMEOUT_S)
    cluster.tasks[1] = ParameterServer(cluster_spec=cluster.spec, task_index=1, job_seed=3)
    cluster.tasks[1].learn_cluster(cluster.tasks[0].store_incarnation)
    client = cluster.client()
    client.restore(tmp_path / "x")
    assert repr(cluster.tasks[0].list_placements(timeout_s=TIMEOUT_S)) == repr(placements)
    model = Model(client)
    assert_equal(model.values(), expected)
    model.train(2, 1)


@pytest.mark.parametrize("parts", [2, 3])
def test_a_directory_that_was_lost_gets_back_what_the_other_tasks_have(
    tmp_path: Path, cluster: SmallCluster, parts: int
) -> None:
    """Ps task 0 is started again without its state: the others' variables are found again, not made a second time."""
    client = cluster.client()
    model = Model(client, parts)
    model.train(0, 2)
    client.save(tmp_path, name="x")
    expected, placements = model.values(), cluster.tasks[0].list_placements(timeout_s=TIMEOUT_S)
    for _ in range(2):
        cluster.tasks[0] = ParameterServer(cluster_spec=cluster.spec, task_index=0, job_seed=3)
        cluster.tasks[1].learn_cluster(cluster.tasks[0].store_incarnation)
        client = cluster.client()
        client.restore(tmp_path / "x")
    found = cluster.tasks[0].list_placements(timeout_s=TIMEOUT_S)
    assert [each.spec.name for each in found] == [each.spec.name for each in placements]
    model = Model(client, parts)
    assert_equal(model.values(), expected)
    model.train(2, 1)
    cluster.tasks[1].learn_cluster(cluster.tasks[0].store_incarnation)
    other = cluster.client(1)
    assert_equal(Model(other, parts).values(), model.values())


def test_a_part_can_be_read_by_everybody(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    model = Model(client, parts=1)
    client.save(tmp_path, name="x")
    files = sorted((tmp_path / "x").glob("*.safetensors"))
    assert [path.name for path in files] == ["part-00000-of-00002.safetensors", "part-00001-of-00002.safetensors"]
    tensors = {name: value for path in files for name, value in load_file(path).items()}
    np.testing.assert_array_equal(tensors["layer/whole"], model.whole.read_value())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x"]


def test_other_kinds_of_variables_come_back(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    with client.as_default():
        text = ss.get_variable("text", initializer=np.array([b"one", b"three"]))
        empty = ss.get_variable("empty", [0, 4])
        half = ss.get_variable("half", [3], dtype=np.float16)
    client.save(tmp_path, name="x")
    with SmallCluster(3) as other:
        client = other.client()
        client.restore(tmp_path / "x")
        assert client.variable("text").read_value().tolist() == text.read_value().tolist()
        assert client.variable("empty").read_value().shape == empty.shape
        np.testing.assert_array_equal(client.variable("half").read_value(), half.read_value())


def test_older_checkpoints_are_removed(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    Model(client)
    for step in range(5):
        client.save(tmp_path, step=step, keep=0 if step < 3 else 2)
        names = [each.name for each in ss.checkpoint.list(tmp_path)]
        assert names == [f"step-{each:09}" for each in range(0 if step < 3 else step - 1, step + 1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    with pytest.raises(InvalidArgumentError, match="less than 0"):
        client.save(tmp_path, keep=-1)


def test_what_is_in_a_checkpoint_is_shown_and_verified(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    model = Model(client)
    model.train(0, 1)
    client.save(tmp_path, step=7)
    (found,) = ss.checkpoint.list(tmp_path)
    assert (found.name, found.step, found.num_parts, found.problem) == ("step-000000007", 7, 2, "")
    shown = {each.name: each for each in ss.checkpoint.show(tmp_path)}
    assert shown["layer/whole"].shape == (37, 5)
    assert shown["layer/whole/Adam/m"].slot_of == "layer/whole"
    assert (found.num_variables, found.num_slots) == (3, 6)
    assert len(shown) == 3 + 1 + 3 * 3  # one of the trained ones is in two parts, each with slots
    assert ss.checkpoint.verify(tmp_path) == found
    part = tmp_path / "step-000000007" / PART
    flip(part, part.stat().st_size - 1)
    with pytest.raises(FailedPreconditionError, match="checksum of the bytes"):
        ss.checkpoint.verify(tmp_path)
    flip(tmp_path / "step-000000007" / MANIFEST_FILE, 100)
    (found,) = ss.checkpoint.list(tmp_path)
    assert "cannot be used" in found.problem


def test_a_client_writes_what_the_tasks_send_it(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ps_server.checkpoints.fetching.MAX_PIECE_BYTES", 100)
    client = cluster.client()
    model = Model(client)
    model.train(0, 2)
    client.save(tmp_path / "there", name="x")
    shown: list[tuple[int, int]] = []
    client.save(
        tmp_path / "here", name="x", through="client", show_progress=lambda done, all_: shown.append((done, all_))
    )
    assert shown[-1][0] == shown[-1][1]
    ss.checkpoint.verify(tmp_path / "here")
    for file in ("part-00000-of-00002.safetensors", PART):
        here, there = load_file(tmp_path / "here/x" / file), load_file(tmp_path / "there/x" / file)
        assert {name: each.tobytes() for name, each in here.items()} == {
            name: each.tobytes() for name, each in there.items()
        }
    expected = model.values()
    model.train(2, 1)
    client.restore(tmp_path / "here")
    assert_equal(model.values(), expected)
    with pytest.raises(AlreadyExistsError):
        client.save(tmp_path / "here", name="x", through="client")
    (tmp_path / "file").touch()
    with pytest.raises(FailedPreconditionError, match="this client cannot use the folder"):
        client.save(tmp_path / "file", through="client")
    client.save(tmp_path / "here", name="y", through="client", keep=1)
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["y"]


@pytest.mark.parametrize("num_ps", [1, 3])
def test_a_client_sends_what_the_tasks_do_not_reach(
    tmp_path: Path, cluster: SmallCluster, num_ps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker_client.checkpoints.restoring.MAX_PIECE_BYTES", 100)
    client = cluster.client()
    model = Model(client)
    with client.as_default():
        ss.get_variable("empty", [0, 4])
    model.train(0, 2)
    client.save(tmp_path, name="x")
    model.train(2, 3)
    expected = model.values()
    with SmallCluster(num_ps) as other:
        client = other.client()
        with monkeypatch.context() as unreachable:
            unreachable.setattr("ps_server.checkpoints.service.open_store", None)
            report = client.restore(tmp_path, through="client")
        assert "layer/whole/Adam/v" in report.names("restored")
        assert client.variable("empty").read_value().shape == (0, 4)
        model = Model(client)
        model.train(2, 3)
        assert_equal(model.values(), expected)
        part = tmp_path / "x" / PART
        flip(part, part.stat().st_size - 1)
        with pytest.raises(FailedPreconditionError, match="checksum of the bytes"):
            client.restore(tmp_path, through="client")
        assert_equal(model.values(), expected)
        with pytest.raises(InvalidArgumentError, match="should be 'ps' or 'client'"):
            client.restore(tmp_path, through="chief")  # type: ignore[arg-type]
        with pytest.raises(NotFoundError):
            client.restore(tmp_path / "none", through="client")


@pytest.mark.parametrize("through", ["ps", "client"])
def test_a_task_that_does_not_answer_is_told_as_that(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch, through: Any
) -> None:
    client = cluster.client(settings=IMPATIENT)
    Model(client)
    asked: list[str] = []

    def away(*args: Any, **kwargs: Any) -> Any:
        asked.append("hold")
        raise UnavailableError("it does not answer", task="ps:1")

    monkeypatch.setattr(client._handles[1].service.checkpoints, "hold", away, raising=False)
    with pytest.raises(ShardscopeError, match="it does not answer") as caught:
        client.save(tmp_path, name="x", through=through)
    assert asked
    assert caught.value.task == "ps:1"
    assert "folder" not in caught.value.message


def test_a_task_that_fails_leaves_nothing_at_the_client(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    Model(client)
    plan = FaultPlan((Fault("checkpoint.write", FaultAction.FAIL, 2, 2),))
    with installed(plan), pytest.raises(FailedPreconditionError):
        client.save(tmp_path, name="x", through="client")
    assert plan.fired("checkpoint.write") == 1
    assert list(tmp_path.iterdir()) == []
    client.save(tmp_path, name="x", through="client")


# -- the cut ----------------------------------------------------------------------------------


def test_the_cut_is_causal(tmp_path: Path, cluster: SmallCluster) -> None:
    """Writers count up on ps 0, then on ps 1; a checkpoint never has more of the second than of the first."""
    counters: list[tuple[Any, Any]] = []
    for number in range(4):
        client = cluster.client(number)
        with client.as_default():
            pair = [
                ss.get_variable(f"count_{number}_{place}", [], dtype=np.int64, initializer=ss.zeros_initializer())
                for place in ("first", "second")
            ]
        assert [each.device for each in pair] == ["/job:ps/task:0", "/job:ps/task:1"]
        counters.append((pair[0], pair[1]))
    stop, acknowledged = threading.Event(), [0] * 4

    def write(number: int) -> None:
        first, second = counters[number]
        while not stop.is_set():
            first.assign_add(1)
            second.assign_add(1)
            acknowledged[number] += 1

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    saver, floors = cluster.client(9, observer=True), []
    try:
        for number in range(4):
            floors.append(list(acknowledged))
            saver.save(tmp_path, name=f"cut-{number}")
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    for number, floor in enumerate(floors):
        with SmallCluster(1) as other:
            client = other.client()
            client.restore(tmp_path / f"cut-{number}")
            for writer_number in range(4):
                first = int(client.variable(f"count_{writer_number}_first").read_value())
                second = int(client.variable(f"count_{writer_number}_second").read_value())
                assert floor[writer_number] <= second <= first <= second + 1
    assert floors[-1] != floors[0]


def test_updates_wait_while_they_are_held_back_and_reads_do_not(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    with client.as_default():
        counter = ss.get_variable("counter", [], initializer=ss.zeros_initializer())
    service, save = TaskCheckpoints(cluster.tasks[0]), uuid4()
    service.begin(save, CheckpointPath(str(tmp_path), "x"), timeout_s=TIMEOUT_S)
    service.hold(save, TIMEOUT_S, timeout_s=TIMEOUT_S)
    update = counter.assign_add(1.0, wait=False)
    assert cluster.client(1).variable("counter").read_value() == 0.0
    assert not update.done()
    assert service.release(save, timeout_s=TIMEOUT_S)
    update.result(TIMEOUT_S)
    assert counter.read_value() == 1.0
    service.discard(save, timeout_s=TIMEOUT_S)


def test_a_hold_that_has_run_out_refuses_the_save(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    Model(client)
    plan = FaultPlan((Fault("checkpoint.held", FaultAction.DELAY, 2, 2, 0.2),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker_client.checkpoints.saving.hold_s", lambda _: 0.05)
        with installed(plan), pytest.raises(AbortedError, match="could not be held back"):
            client.save(tmp_path, name="x")
    assert plan.fired("checkpoint.held") == 1
    assert list(tmp_path.iterdir()) == []
    client.save(tmp_path, name="x")


@pytest.mark.parametrize("is_fetched", [False, True])
def test_a_task_rests_after_each_piece_and_pieces_are_small(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch, is_fetched: bool
) -> None:
    client = cluster.client()
    with client.as_default():
        ss.get_variable("large", [5 * PIECE_BYTES // 4 + 1], initializer=ss.ones_initializer())
    steps: list[int | str] = []
    rest, writer = Pace.rest, FetchedPart if is_fetched else SyncedWriter
    write = writer.write

    def note_piece(self: Any, data: Any, crc: int = 0) -> int:
        steps.append(len(data))
        return write(self, data, crc)

    def note_rest(pace: Pace) -> None:
        steps.append("rest")
        rest(pace)

    monkeypatch.setattr(writer, "write", note_piece)
    monkeypatch.setattr(Pace, "rest", note_rest)
    where = CheckpointPath("" if is_fetched else str(tmp_path), "x")
    store = FetchedPart() if is_fetched else FolderStore(tmp_path)
    session = Save(cluster.tasks[0], uuid4(), store, where, 0, 1)
    session.begin()
    session.hold(TIMEOUT_S, TIMEOUT_S)
    session.release()
    offset, is_done = 0, False
    while not is_done:
        if is_fetched:
            piece = session.fetch(offset, TIMEOUT_S)
            offset, is_done = offset + len(piece.content), piece.progress.is_done
        else:
            is_done = session.write(TIMEOUT_S).is_done
    session.give_up()
    start = steps.index(PIECE_BYTES)
    assert steps[start : start + 12] == [PIECE_BYTES, "rest"] * 5 + [4, "rest"]


def test_one_saver_at_a_time(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client(settings=IMPATIENT)
    service = client._handles[0].service.checkpoints
    save = uuid4()
    service.begin(save, CheckpointPath(str(tmp_path), "other"), timeout_s=TIMEOUT_S)
    with pytest.raises(ShardscopeError, match="another save is under way"):
        client.save(tmp_path, name="x")
    service.discard(save, timeout_s=TIMEOUT_S)
    cluster.client(1).save(tmp_path, name="x")


def test_what_nobody_asks_for_any_more_is_dropped(tmp_path: Path, cluster: SmallCluster) -> None:
    now = [0.0]
    service = TaskCheckpoints(cluster.tasks[0], clock=lambda: now[0])
    save = uuid4()
    service.begin(save, CheckpointPath(str(tmp_path), "x"), timeout_s=TIMEOUT_S)
    service.hold(save, TIMEOUT_S, timeout_s=TIMEOUT_S)
    now[0] = 59.0
    service.expire()
    service.release(save, timeout_s=TIMEOUT_S)
    now[0] += 61.0
    service.expire()
    with pytest.raises(FailedPreconditionError, match="knows nothing of the save"):
        service.write(save, timeout_s=TIMEOUT_S)
    assert list(tmp_path.iterdir()) == []


# -- what goes wrong while saving -------------------------------------------------------------


@pytest.mark.parametrize("place", ["checkpoint.held", "checkpoint.write", "checkpoint.part_written"])
def test_a_task_that_cannot_write_is_named_and_nothing_is_left(
    tmp_path: Path, cluster: SmallCluster, place: str
) -> None:
    client = cluster.client()
    model = Model(client)
    model.train(0, 2)
    client.save(tmp_path, name="good")
    expected = model.values()
    plan = FaultPlan((Fault(place, FaultAction.FAIL, 1, 1),))
    with installed(plan), pytest.raises(FailedPreconditionError, match="cannot use the folder") as caught:
        client.save(tmp_path, name="bad")
    assert plan.fired(place) == 1
    assert caught.value.task in ("ps:0", "ps:1")
    assert [path.name for path in tmp_path.iterdir()] == ["good"]
    assert_equal(model.values(), expected)
    model.train(2, 1)
    client.save(tmp_path, name="bad")


def test_a_failure_is_said_again_if_the_answer_was_lost(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    Model(client)
    save, path = uuid4(), CheckpointPath(str(tmp_path), "x")
    service = client._handles[1].service.checkpoints
    service.begin(save, path, timeout_s=TIMEOUT_S)
    service.hold(save, TIMEOUT_S, timeout_s=TIMEOUT_S)
    service.release(save, timeout_s=TIMEOUT_S)
    plan = FaultPlan((Fault("checkpoint.write", FaultAction.FAIL, 1, 1),))
    with installed(plan):
        for _ in range(2):
            with pytest.raises(FailedPreconditionError, match="cannot use the folder"):
                service.write(save, timeout_s=TIMEOUT_S)
    assert plan.fired("checkpoint.write") == 1
    service.discard(save, timeout_s=TIMEOUT_S)  # not before, since other tasks write beside it
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("does", ["save", "restore"])
def test_an_interrupt_ends_it_and_nothing_is_left(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch, eventually: Eventually, does: str
) -> None:
    client = cluster.client()
    model = Model(client)
    model.train(0, 1)
    client.save(tmp_path, name="x")
    model.train(1, 1)
    expected = model.values()
    service = client._handles[0].service.checkpoints
    step = {"save": "write", "restore": "fill"}[does]
    original, told, calls = getattr(service, step), threading.Event(), itertools.count()

    def interrupt_first(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 0:  # a later one would reach whatever runs then
            signal.raise_signal(signal.SIGINT)  # Python runs the handler on the main thread
        assert told.wait(TIMEOUT_S)
        return original(*args, **kwargs)

    monkeypatch.setattr(service, step, interrupt_first, raising=False)
    monkeypatch.setattr(methods, "GIVE_UP_S", 0.01)  # it is held up until then
    with pytest.raises(KeyboardInterrupt):
        client.save(tmp_path, name="y") if does == "save" else client.restore(tmp_path / "x")
    monkeypatch.undo()
    told.set()
    eventually(lambda: [path.name for path in tmp_path.iterdir()] == ["x"], message="what was begun is dropped")
    assert_equal(model.values(), expected)
    model.train(2, 1)
    client.save(tmp_path, name="z")  # waits until the other one has ended
    client.restore(tmp_path / "z")


@pytest.mark.parametrize("does", ["save", "restore"])
def test_an_interrupt_goes_on_when_the_tasks_have_heard_of_it(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    client = cluster.client()
    Model(client)
    client.save(tmp_path, name="x")
    service = client._handles[0].service.checkpoints
    step = {"save": "write", "restore": "fill"}[does]
    original, discard, give_up = getattr(service, step), service.discard, Begun.give_up
    calls, order, is_given_up = itertools.count(), [], threading.Event()

    def interrupt_first(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 0:
            signal.raise_signal(signal.SIGINT)
        assert is_given_up.wait(TIMEOUT_S)
        return original(*args, **kwargs)

    def discarded(*args: Any, **kwargs: Any) -> None:
        discard(*args, **kwargs)
        order.append("undone")

    def given_up(work: Begun[Any], timeout_s: float) -> None:
        is_given_up.set()
        give_up(work, timeout_s)

    monkeypatch.setattr(service, step, interrupt_first, raising=False)
    monkeypatch.setattr(service, "discard", discarded, raising=False)
    monkeypatch.setattr(Begun, "give_up", given_up)
    with pytest.raises(KeyboardInterrupt):
        client.save(tmp_path, name="y") if does == "save" else client.restore(tmp_path / "x")
    order.append("raised")
    assert order == ["undone", "raised"]


def test_an_interrupt_does_not_end_a_switch_that_has_begun(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    client = cluster.client()
    model = Model(client)
    model.train(0, 1)
    client.save(tmp_path, name="x")
    at_save = model.values()
    model.train(1, 1)
    service = client._handles[0].service.checkpoints
    switch, told, calls = service.switch, threading.Event(), itertools.count()

    def interrupt_first(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 0:
            signal.raise_signal(signal.SIGINT)
        assert told.wait(TIMEOUT_S)
        return switch(*args, **kwargs)

    monkeypatch.setattr(service, "switch", interrupt_first, raising=False)
    monkeypatch.setattr(methods, "GIVE_UP_S", 0.01)  # it is held up until then
    with pytest.raises(KeyboardInterrupt):
        client.restore(tmp_path / "x")
    told.set()

    def is_complete() -> bool:
        marks = [task.state.parts.restored for task in cluster.tasks]
        return not [mark for mark in marks if mark is None or not mark.is_complete]

    eventually(is_complete, message="all tasks have switched, and know it")
    other = cluster.client(1)
    assert_equal([other.variable(name).read_value() for name in ("layer/whole", "layer/divided", "steps")], at_save)


def test_progress_is_shown(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    Model(client)
    shown: list[tuple[int, int]] = []
    client.save(tmp_path, name="x", show_progress=lambda done, total: shown.append((done, total)))
    assert shown[-1][0] == shown[-1][1] == sum(task.variable_bytes for task in cluster.tasks)
    client.restore(tmp_path, show_progress=lambda done, total: shown.append((done, total)))
    assert shown[-1][0] == shown[-1][1]
