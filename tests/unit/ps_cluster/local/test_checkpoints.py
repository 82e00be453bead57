"""What a launch says of its checkpoints, and how they end."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import numpy as np
import pytest

import worker_client as ss
import worker_client.compat.v1 as tf
from ps_cluster.local import checkpoints as module
from ps_cluster.local.checkpoints import ClusterCheckpoints, NotRestoredError
from ps_protocol.checkpoints.retention import Retention
from ps_protocol.errors import UnavailableError
from tests.unit.worker_client.checkpoints.small_clusters import Model, SmallCluster

RARELY_S = 1e6


class Told:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.failures: list[str] = []
        self.now_s = 0.0

    def checkpoints(self, folder: Path) -> ClusterCheckpoints:
        return ClusterCheckpoints(
            folder,
            every_s=RARELY_S,
            retention=Retention(last=2),
            tell=self.lines.append,
            tell_failure=self.failures.append,
            clock=lambda: self.now_s,
        )


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> SmallCluster:
    cluster = SmallCluster(2)
    monkeypatch.setattr(module, "connect", lambda _, observer, **__: cluster.client(observer=observer))
    return cluster


def test_one_line_for_each_restore_and_save(tmp_path: Path, cluster: SmallCluster) -> None:
    told = Told()
    first = told.checkpoints(tmp_path / "run")
    first.restore(cluster.spec)
    first.start(cluster.spec)
    with cluster:
        model = Model(cluster.client())
        model.train(0, 1)
        assert first.finish() is None
    [entry] = ss.checkpoint.list(tmp_path / "run")
    assert told.lines == [
        f"no checkpoint in {tmp_path}/run yet: starting from nothing",
        f"saved {entry.path}, 4.2 KiB",
    ]
    assert told.failures == []


@pytest.mark.parametrize("has_checkpoint", [False, True])
def test_a_folder_is_one_clusters_until_its_end(tmp_path: Path, cluster: SmallCluster, has_checkpoint: bool) -> None:
    folder = tmp_path / "run"
    with cluster:
        client = cluster.client()
        Model(client)
        if has_checkpoint:
            client.save(folder)
        first, second, third = [Told().checkpoints(folder) for _ in range(3)]
        first.restore(cluster.spec)
        with pytest.raises(NotRestoredError, match=rf"another cluster keeps its checkpoints in {folder}"):
            second.restore(cluster.spec)
        assert first.finish() is None
        second.restore(cluster.spec)
        second.give_up()
        third.restore(cluster.spec)
        third.give_up()


def test_a_file_system_that_cannot_lock_holds_nobody_up(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def flock(_descriptor: int, operation: int) -> None:
        asked.append(operation)
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with cluster:
        for _ in range(2):
            checkpoints = Told().checkpoints(tmp_path)
            checkpoints.restore(cluster.spec)
    assert asked == [fcntl.LOCK_EX | fcntl.LOCK_NB] * 2


def test_where_no_checkpoint_can_be_saved_nothing_is_started(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    (tmp_path / "model.npz").touch()
    for folder in (tmp_path / "model.npz", tmp_path / "model.npz" / "run"):
        with pytest.raises(
            NotRestoredError, match=rf"in {folder}: {tmp_path}/model\.npz is a file; .*checkpoint import"
        ):
            told.checkpoints(folder).restore(cluster.spec)
    refused: list[Path] = []

    def access(path: Path, mode: int) -> bool:
        assert mode == os.W_OK | os.X_OK
        refused.append(path)
        return False

    monkeypatch.setattr(os, "access", access)
    with pytest.raises(NotRestoredError, match=rf"in {tmp_path}/a/b: this user may not write to {tmp_path};"):
        told.checkpoints(tmp_path / "a" / "b").restore(cluster.spec)
    assert refused == [tmp_path]
    assert told.lines == []


def test_checkpoints_of_another_form_are_named(tmp_path: Path, cluster: SmallCluster) -> None:
    told = Told()
    ss.checkpoint.write_tensorflow(tmp_path / "model.ckpt-1", {"v": np.zeros(2)})
    first = told.checkpoints(tmp_path)
    first.restore(cluster.spec)  # a prefix is not the folder
    first.give_up()
    tf.train.update_checkpoint_state(str(tmp_path), str(tmp_path / "model.ckpt-1"))
    told.checkpoints(tmp_path).restore(cluster.spec)
    plain = f"no checkpoint in {tmp_path} yet: starting from nothing"
    hint = f" (one of another form is there: `shardscope checkpoint import {tmp_path} FOLDER` takes it)"
    assert told.lines == [plain, plain + hint]


def test_the_newest_or_the_one_that_is_given_is_restored(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster:
        model = Model(cluster.client())
        for step in (1, 2):
            model.train(step, 1)
            cluster.client().save(tmp_path, step=step)
    for source, restored in ((tmp_path, 2), (tmp_path / "step-000000001", 1)):
        with SmallCluster(1) as other:
            monkeypatch.setattr(
                module, "connect", lambda _, observer, other=other, **__: other.client(observer=observer)
            )
            told = Told()
            checkpoints = told.checkpoints(source)
            checkpoints.restore(other.spec)
            assert told.lines == [f"restored {tmp_path}/step-00000000{restored}: 3 variables, 6 slots, 3.0 KiB read"]
            checkpoints.start(other.spec)
            checkpoints.finish()
            assert told.lines[1:] == [f"nothing has changed since {tmp_path}/step-00000000{restored}"]
            told = Told()
            checkpoints = told.checkpoints(source)
            checkpoints.restore(other.spec)
            checkpoints.give_up()
            assert told.lines == [
                f"the ps tasks have kept their variables: {tmp_path}/step-00000000{restored} is not needed"
            ]
    assert len(ss.checkpoint.list(tmp_path)) == 2


def test_what_cannot_be_restored_says_why(tmp_path: Path, cluster: SmallCluster) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "manifest.json").write_text("{}")
    with pytest.raises(NotRestoredError, match=rf"cannot go on from {tmp_path}: .*manifest.json"):
        Told().checkpoints(tmp_path).restore(cluster.spec)


def test_a_last_save_that_fails_is_said_and_given_up_ones_are_not(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()

    def away(*_: object, **__: object) -> None:
        raise UnavailableError("it does not answer", task="ps:1")

    monkeypatch.setattr(module, "connect", away)
    checkpoints = told.checkpoints(tmp_path)
    checkpoints.start(cluster.spec)
    assert isinstance(checkpoints.finish(), UnavailableError)
    assert told.failures == [
        f"the last state is not saved: no checkpoint was saved in {tmp_path}: [ps:1] it does not answer"
    ]
    checkpoints = told.checkpoints(tmp_path)
    checkpoints.start(cluster.spec)
    checkpoints.give_up()
    checkpoints.finish()
    assert len(told.failures) == 1


def test_a_long_save_says_how_far_it_is(tmp_path: Path) -> None:
    told = Told()
    show = told.checkpoints(tmp_path)._progress("saving")
    for now_s, done in ((0.0, 0), (2.9, 10), (3.0, 30), (12.0, 60), (13.0, 70), (30.0, 100)):
        told.now_s = now_s
        show(done * 2**20, 100 * 2**20)
    assert told.lines == ["saving 100.0 MiB: 30 %", "saving 100.0 MiB: 70 %"]
