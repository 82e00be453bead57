"""Saves that go on by themselves: when, by whom, of what, and how they end."""

from __future__ import annotations

import functools
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.errors import FailedPreconditionError, ShardscopeError
from ps_protocol.operations import Declare
from tests.conftest import Eventually
from tests.unit.worker_client.checkpoints.small_clusters import Model, SmallCluster
from worker_client.checkpoints.background import Wanted
from worker_client.checkpoints.methods import ConnectionSaver
from worker_client.checkpoints.periodic import Pace, PeriodicSaves, SavesOfChanges
from worker_client.checkpoints.report import SavedCheckpoint
from worker_client.client import Client
from worker_client.connection.ending import Ending
from worker_client.connection.fanout import Routed

OFTEN_S = 0.01
RARELY_S = 1e6
TIMEOUT_S = 30.0


def names(folder: Path) -> list[str]:
    return [each.name for each in ss.checkpoint.list(folder)]


# -- when -------------------------------------------------------------------------------------


def test_seconds_count_from_the_start_and_from_each_save() -> None:
    pace = Pace(60.0, 0, 1000.0)
    assert not pace.counts_steps
    assert [pace.is_due(now_s, None) for now_s in (1000.0, 1059.9, 1060.0)] == [False, False, True]
    assert pace.wait_s(1010.0) == 50.0
    pace.begun(1063.0, None)
    assert [pace.is_due(now_s, None) for now_s in (1122.9, 1123.0)] == [False, True]
    assert pace.wait_s(2000.0) == 0.0


def test_steps_count_from_where_they_began() -> None:
    pace = Pace(0.0, 100, 0.0)
    assert pace.counts_steps
    assert not pace.is_due(0.0, None)  # nothing counts yet
    assert [pace.is_due(0.0, step) for step in (1000, 1099, 1100, 1250)] == [False, False, True, True]
    pace.begun(0.0, 1250)
    assert [pace.is_due(0.0, step) for step in (1349, 1350)] == [False, True]
    assert [pace.is_due(0.0, step) for step in (500, 599, 600)] == [False, False, True]  # an older one was restored
    assert pace.wait_s(1e9) == 1.0


def test_whichever_comes_first() -> None:
    pace = Pace(60.0, 100, 0.0)
    assert [pace.is_due(1.0, 0), pace.is_due(2.0, 100), pace.is_due(60.0, 1)] == [False, True, True]
    assert pace.wait_s(0.0) == 1.0
    assert pace.wait_s(59.5) == 0.5


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_failure_is_told_and_the_next_turn_tries_again(caplog: pytest.LogCaptureFixture) -> None:
    outcomes: list[Any] = [
        FailedPreconditionError("No space left on device"),
        SavedCheckpoint("/f/x", 1, 0.0),
        None,
        ZeroDivisionError("a metric"),
    ]

    def take(_: Wanted) -> SavedCheckpoint | None:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        saved: SavedCheckpoint | None = outcome
        return saved

    clock, told = Clock(), list[str]()
    saves = PeriodicSaves(
        take, lambda: None, "/f", every_s=60.0, on_saved=lambda each: told.append(each.path), clock=clock
    )
    assert not saves.turn()
    for now_s in (60.0, 120.0, 180.0, 240.0):
        clock.now_s = now_s
        assert saves.turn()
        assert not saves.turn()
    assert told == ["/f/x"]
    assert str(saves.last) == "/f/x"
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "no checkpoint was saved in /f, and the next one is tried at its time: No space left" in caplog.text
    assert "ZeroDivisionError: a metric" in caplog.text


def test_a_step_that_cannot_be_read_is_no_reason_to_hurry() -> None:
    def read_step() -> int:
        raise FailedPreconditionError("away", task="ps:0")

    clock, told = Clock(), list[Exception]()
    saves = PeriodicSaves(
        lambda _: None, read_step, "/f", every_s=60.0, every_steps=5, on_failure=told.append, clock=clock
    )
    clock.now_s = 100.0
    assert saves.turn()
    assert len(told) == 1
    assert saves._pace.wait_s(clock.now_s) > 0.0


def test_failures_alike_are_told_now_and_then() -> None:
    outcomes: list[Exception | None] = [FailedPreconditionError("full", task="ps:1")] * 4
    outcomes += [FailedPreconditionError("full", task="ps:0"), None, FailedPreconditionError("full", task="ps:0")]

    def take(_: Wanted) -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    clock, told = Clock(), list[float]()
    saves = PeriodicSaves(
        take, lambda: None, "/f", every_s=1.0, on_failure=lambda _: told.append(clock.now_s), clock=clock
    )
    for now_s in (1.0, 2.0, 31.0, 32.0, 33.0, 34.0, 35.0):
        clock.now_s = now_s
        assert saves.turn()
    assert told == [1.0, 31.0, 33.0, 35.0]


# -- of what ----------------------------------------------------------------------------------


@pytest.fixture
def client(cluster: SmallCluster) -> Iterator[Client]:
    client = cluster.client()
    yield client
    client.close()


def test_what_has_not_changed_is_not_saved_again(tmp_path: Path, client: Client) -> None:
    model, saver, changes = Model(client), ConnectionSaver(client), SavesOfChanges(str(tmp_path))
    assert changes.take(saver, Wanted()) is not None
    assert changes.take(saver, Wanted()) is None
    model.steps.assign_add(1)
    assert changes.take(saver, Wanted()) is not None
    with client.as_default():
        ss.get_variable("new", [1])
    assert changes.take(saver, Wanted()) is not None
    client.restore(tmp_path)
    changes.note(saver)
    assert changes.take(saver, Wanted()) is None
    assert len(names(tmp_path)) == 3


def test_half_a_model_is_not_saved(tmp_path: Path, cluster: SmallCluster, client: Client) -> None:
    saver, changes = ConnectionSaver(client), SavesOfChanges(str(tmp_path))
    assert changes.take(saver, Wanted()) is None  # no variables yet
    with client.as_default():
        ss.get_variable("whole", [2])
        table = ss.get_variable("table", [4, 2], partitioner=ss.fixed_size_partitioner(2))
    assert [part.device for part in table] == ["/job:ps/task:1", "/job:ps/task:0"]
    with SmallCluster(2) as other:
        (part,) = [each for each in cluster.tasks[1].list_variables(timeout_s=TIMEOUT_S) if each.spec.slice]
        half = other.client()
        declaration = Declare(part.spec, None)
        half.fanout.run_all([Routed(1, declaration)])
        half_saver = ConnectionSaver(half)
        assert not half_saver.look().is_whole
        assert changes.take(half_saver, Wanted()) is None
    assert names(tmp_path) == []
    assert changes.take(saver, Wanted()) is not None


def test_the_global_step_gives_the_name(tmp_path: Path, client: Client) -> None:
    model, saver, changes = Model(client), ConnectionSaver(client), SavesOfChanges(str(tmp_path))
    with client.as_default():
        step = ss.get_variable("global_step", [], dtype=np.int64, initializer=ss.zeros_initializer())
    step.assign_add(7)
    saved = changes.take(saver, Wanted())
    assert saved is not None
    assert (saved.step, names(tmp_path)) == (7, ["step-000000007"])
    model.steps.assign_add(1)  # which counts no global step
    saved = changes.take(saver, Wanted())
    assert saved is not None
    assert saved.step == 7
    assert len(names(tmp_path)) == 2
    assert names(tmp_path)[1].startswith("step-000000007-")


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_a_variable_of_that_name_that_counts_nothing_is_none(tmp_path: Path, client: Client, dtype: Any) -> None:
    with client.as_default():
        ss.get_variable("global_step", [2], dtype=dtype, initializer=ss.zeros_initializer())
    saved = SavesOfChanges(str(tmp_path)).take(ConnectionSaver(client), Wanted())
    assert saved is not None
    assert saved.step is None


def test_steps_and_metrics_may_be_functions_and_variables(tmp_path: Path, client: Client) -> None:
    model = Model(client)
    model.steps.assign_add(3)
    client.save(tmp_path, step=model.steps, metrics=lambda: {"accuracy": 0.5})
    client.save(tmp_path, step=lambda: 4)
    assert [(each.step, each.metrics) for each in ss.checkpoint.list(tmp_path)] == [(3, {"accuracy": 0.5}), (4, {})]


# -- in a connection --------------------------------------------------------------------------


def _has_saved(saves: PeriodicSaves, step: int) -> bool:
    return saves.last is not None and saves.last.step == step


def test_every_few_moments_and_once_more_at_the_end(tmp_path: Path, client: Client, eventually: Eventually) -> None:
    model = Model(client)
    with client.save(tmp_path, every=OFTEN_S, step=model.steps, keep=2) as saves:
        for step in range(1, 4):
            model.steps.assign_add(1)
            eventually(functools.partial(_has_saved, saves, step), message="it is saved")
    assert names(tmp_path) == ["step-000000002", "step-000000003"]
    with client.save(tmp_path, every=RARELY_S, step=model.steps) as saves:
        model.steps.assign_add(1)
    assert saves.last is not None
    assert saves.last.step == 4
    saves.stop()
    assert names(tmp_path)[-1] == "step-000000004"
    assert "stopped" in repr(saves)


def test_every_few_steps(
    tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    monkeypatch.setattr("worker_client.checkpoints.periodic._LOOK_AT_STEP_S", OFTEN_S)
    model = Model(client)
    looked = threading.Event()

    def step() -> int:
        looked.set()
        return int(model.steps.read_value())

    with client.save(tmp_path, every_steps=5, step=step) as saves:
        assert looked.wait(TIMEOUT_S)
        model.steps.assign_add(5)
        eventually(lambda: saves.last is not None and saves.last.step == 5, message="it is saved")
        model.steps.assign_add(4)
    assert names(tmp_path) == ["step-000000005", "step-000000009"]


def test_after_an_error_it_stops_without_another_save(tmp_path: Path, client: Client) -> None:
    model = Model(client)

    def train_and_fail() -> None:
        model.steps.assign_add(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), client.save(tmp_path, every=RARELY_S):
        train_and_fail()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("ending", "saves_once_more"),
    [
        (lambda: None, True),
        (lambda: Ending(there_s=TIMEOUT_S, away_s=TIMEOUT_S, is_good=True), True),
        (lambda: Ending(there_s=1.0, away_s=1.0), False),
    ],
    ids=["closed", "the program has ended", "after an error"],
)
def test_it_ends_with_its_connection(
    tmp_path: Path, cluster: SmallCluster, ending: Callable[[], Ending | None], saves_once_more: bool
) -> None:
    client = cluster.client()
    Model(client)
    saves = client.save(tmp_path, every=RARELY_S, step=1)
    client.end(ending())
    assert names(tmp_path) == (["step-000000001"] if saves_once_more else [])
    assert saves._thread is not None
    assert not saves._thread.is_alive()


def test_a_closed_connection_saves_nothing(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    client.close()
    with pytest.raises(FailedPreconditionError, match="is closed; connect again"):
        client.save(tmp_path, every=OFTEN_S)
    with pytest.raises(FailedPreconditionError, match="is closed"):
        client.save(tmp_path, wait=False)


def test_a_last_save_that_fails_is_raised_or_said(
    tmp_path: Path, cluster: SmallCluster, caplog: pytest.LogCaptureFixture
) -> None:
    client = cluster.client()
    Model(client)
    (tmp_path / "file").touch()
    with pytest.raises(ShardscopeError, match="cannot use the folder"), client.save(tmp_path / "file", every=RARELY_S):
        pass
    assert caplog.text == ""
    client.save(tmp_path / "file", every=RARELY_S)
    client.close()
    assert "no checkpoint was saved" in caplog.text


def test_it_goes_on_when_the_folder_can_be_used_again(
    tmp_path: Path, client: Client, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    model, folder = Model(client), tmp_path / "folder"
    folder.touch()  # a file in its place
    with client.save(folder, every=OFTEN_S, step=model.steps) as saves:
        eventually(lambda: "Not a directory" in caplog.text, message="it has failed")
        assert saves.last is None
        folder.unlink()
        eventually(lambda: saves.last is not None, message="it saves")
        shutil.rmtree(folder)
        model.steps.assign_add(1)
        eventually(lambda: saves.last is not None and saves.last.step == 1, message="it saves again")
    assert names(folder) == ["step-000000001"]


def test_the_chief_saves_and_other_workers_do_not(tmp_path: Path, cluster: SmallCluster) -> None:
    Model(cluster.client(0))
    with cluster.client(1) as other, other.save(tmp_path, every=OFTEN_S) as saves:
        assert not saves.is_active
        assert saves._thread is None
        assert "the chief saves, not this process" in repr(saves)
    assert names(tmp_path) == []
    with cluster.client(observer=True) as observer, observer.save(tmp_path, every=RARELY_S) as saves:
        assert saves.is_active
    assert len(names(tmp_path)) == 1


@pytest.mark.parametrize("is_good", [True, False])
def test_a_save_under_way_is_given_up_in_haste(
    tmp_path: Path,
    cluster: SmallCluster,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_good: bool,
) -> None:
    client = cluster.client()
    Model(client)
    waiting, told = threading.Event(), threading.Event()
    service = client._handles[0].service.checkpoints
    write = service.write

    def wait_and_write(*args: Any, **kwargs: Any) -> Any:
        waiting.set()
        assert told.wait(TIMEOUT_S)
        return write(*args, **kwargs)

    monkeypatch.setattr(service, "write", wait_and_write, raising=False)
    give_up = PeriodicSaves.give_up

    def give_up_and_go_on(saves: PeriodicSaves) -> None:
        give_up(saves)
        told.set()

    monkeypatch.setattr(PeriodicSaves, "give_up", give_up_and_go_on)
    saves = client.save(tmp_path, every=OFTEN_S)
    assert waiting.wait(TIMEOUT_S)
    client.end(Ending(there_s=0.0, away_s=0.0, is_good=is_good))
    assert saves.last is None
    assert list(tmp_path.iterdir()) == []
    assert f"a save in {tmp_path} is given up" in caplog.text
    assert "no checkpoint was saved" not in caplog.text
