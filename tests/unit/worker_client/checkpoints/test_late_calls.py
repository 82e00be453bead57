"""Calls of a save or a restore that are carried out while it is given up, or when it was: they leave nothing behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import worker_client as ss
from ps_protocol.checkpoints.service import CheckpointPath, Target, names_sha256
from ps_protocol.errors import FailedPreconditionError, StateLostError
from ps_server.checkpoints.restoring import Restore
from ps_server.checkpoints.saving import Save
from ps_server.checkpoints.service import TaskCheckpoints
from ps_server.core.parameter_server import ParameterServer
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster

TIMEOUT_S = 30.0
LEASE_S = 1e6
ELEMENTS = 64 * 1024  # lent to a save, not copied


@pytest.fixture
def task() -> Iterator[ParameterServer]:
    with SmallCluster(1) as cluster:
        with cluster.client().as_default():
            ss.get_variable("v", [ELEMENTS], initializer=ss.zeros_initializer())
        yield cluster.tasks[0]


class GivenUpWhileHeld:
    """Has the next hold wait until somebody who gives up has let go what there was."""

    def __init__(self, task: ParameterServer, checkpoints: TaskCheckpoints, monkeypatch: pytest.MonkeyPatch):
        self._pool = ThreadPoolExecutor(1)
        self._given_up: Future[None] | None = None
        released = threading.Event()
        hold, release = task.admission.hold, task.admission.release

        def hold_late(session: Any, *args: Any) -> None:
            self._given_up = self._pool.submit(checkpoints.discard, session, timeout_s=TIMEOUT_S)
            assert released.wait(TIMEOUT_S)
            hold(session, *args)

        def release_and_say(*args: Any) -> bool:
            was_held = release(*args)
            released.set()
            return was_held

        monkeypatch.setattr(task.admission, "hold", hold_late)
        monkeypatch.setattr(task.admission, "release", release_and_say)

    def wait(self) -> None:
        assert self._given_up is not None
        self._given_up.result(TIMEOUT_S)
        self._pool.shutdown()


def test_a_save_that_is_given_up_while_it_waits_to_hold(
    tmp_path: Path, task: ParameterServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, save = TaskCheckpoints(task), uuid4()
    checkpoints.begin(save, CheckpointPath(str(tmp_path), "x"), timeout_s=TIMEOUT_S)
    given_up = GivenUpWhileHeld(task, checkpoints, monkeypatch)
    checkpoints.hold(save, LEASE_S, timeout_s=TIMEOUT_S)
    given_up.wait()
    assert not task.admission.is_held_by(save)
    assert not task.state.parts.store.second_values.is_open
    assert list(tmp_path.iterdir()) == []


def test_a_restore_that_is_given_up_while_it_waits_to_hold(
    task: ParameterServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, restore = TaskCheckpoints(task), uuid4()
    checkpoints.stage(restore, CheckpointPath("", "x"), 0, [], [], timeout_s=TIMEOUT_S)
    given_up = GivenUpWhileHeld(task, checkpoints, monkeypatch)
    checkpoints.prepare(restore, names_sha256(["v"]), LEASE_S, timeout_s=TIMEOUT_S)
    given_up.wait()
    assert not task.admission.is_held_by(restore)


def test_a_hold_that_comes_after_its_save_was_given_up(tmp_path: Path, task: ParameterServer) -> None:
    save, path = uuid4(), CheckpointPath(str(tmp_path), "x")
    checkpoints = TaskCheckpoints(task)
    checkpoints.begin(save, path, timeout_s=TIMEOUT_S)
    session = checkpoints._found(save, Save)  # as a call does that then waits for the lock
    assert session is not None
    checkpoints.discard(save, timeout_s=TIMEOUT_S)
    with pytest.raises(FailedPreconditionError, match="was given up before it had an image"):
        session.hold(LEASE_S, TIMEOUT_S)
    assert not task.admission.is_held_by(save)
    assert not task.state.parts.store.second_values.is_open


def test_what_comes_after_its_restore_was_given_up(task: ParameterServer) -> None:
    restore, checkpoints = uuid4(), TaskCheckpoints(task)
    checkpoints.stage(restore, CheckpointPath("", "x"), 0, [], [], timeout_s=TIMEOUT_S)
    session = checkpoints._found(restore, Restore)
    assert session is not None
    checkpoints.discard(restore, timeout_s=TIMEOUT_S)
    memory = task.state.parts.store.variables.memory
    (variable,) = task.list_variables(timeout_s=TIMEOUT_S)
    used_bytes = memory.used_bytes
    with pytest.raises(FailedPreconditionError, match="the restore of x was given up"):
        session.stage([Target(variable.spec, 1, ())], [])
    with pytest.raises(FailedPreconditionError, match="the restore of x was given up"):
        session.prepare(names_sha256(["v"]), LEASE_S, TIMEOUT_S)
    assert memory.used_bytes == used_bytes
    assert not task.admission.is_held_by(restore)


def test_a_switch_that_comes_when_updates_go_on_again(task: ParameterServer) -> None:
    restore, checkpoints, store = uuid4(), TaskCheckpoints(task), task.store_incarnation
    checkpoints.stage(restore, CheckpointPath("", "x"), 0, [], [], timeout_s=TIMEOUT_S)
    checkpoints.fill(restore, timeout_s=TIMEOUT_S)
    checkpoints.prepare(restore, names_sha256(["v"]), 1e-9, timeout_s=TIMEOUT_S)
    with pytest.raises(FailedPreconditionError, match=r"no longer held back for restoring x, .*nothing was changed"):
        checkpoints.switch(restore, timeout_s=TIMEOUT_S)
    assert task.store_incarnation == store
    assert task.state.parts.restored is None
    checkpoints.prepare(restore, names_sha256(["v"]), LEASE_S, timeout_s=TIMEOUT_S)
    checkpoints.switch(restore, timeout_s=TIMEOUT_S)
    assert task.store_incarnation != store


def test_an_update_that_a_restore_has_held_back_is_not_carried_out_on_what_was_restored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with SmallCluster(1) as cluster:
        client, task = cluster.client(), cluster.tasks[0]
        with client.as_default():
            counter = ss.get_variable("counter", [], initializer=ss.zeros_initializer())
        restore, checkpoints = uuid4(), TaskCheckpoints(task)
        checkpoints.stage(restore, CheckpointPath("", "x"), 0, [], [], timeout_s=TIMEOUT_S)
        checkpoints.prepare(restore, names_sha256(["counter"]), LEASE_S, timeout_s=TIMEOUT_S)
        at_the_door, enter = threading.Event(), task.admission.enter

        def enter_seen(*args: Any, **named: Any) -> bool:
            at_the_door.set()
            return enter(*args, **named)

        monkeypatch.setattr(task.admission, "enter", enter_seen)
        update = counter.assign_add(1.0, wait=False)
        assert at_the_door.wait(TIMEOUT_S)
        checkpoints.switch(restore, timeout_s=TIMEOUT_S)
        checkpoints.finish(restore, timeout_s=TIMEOUT_S)
        with pytest.raises(StateLostError, match="were restored from the checkpoint x"):
            update.result(TIMEOUT_S)
        assert cluster.client(1).variable("counter").read_value() == 0.0
