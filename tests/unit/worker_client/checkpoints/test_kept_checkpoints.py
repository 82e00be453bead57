"""Which checkpoints of a folder stay after a save: by number, hours, metrics and pins, whoever writes."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import time
from pathlib import Path
from typing import Any, Literal

import pytest

import worker_client as ss
from ps_protocol.checkpoints.folder_store import FolderStore
from ps_protocol.checkpoints.manifest import MANIFEST_FILE, CheckpointManifest, decode_manifest
from ps_protocol.checkpoints.store import CheckpointStore, read_manifest
from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from ps_protocol.files.spec_json import encode_checked
from tests.unit.worker_client.checkpoints.small_clusters import Model, SmallCluster, flip
from worker_client.checkpoints import inspection

Through = Literal["ps", "client"]
THROUGH = pytest.mark.parametrize("through", ["ps", "client"])


def names(folder: Path) -> list[str]:
    return [each.name for each in ss.checkpoint.list(folder)]


@THROUGH
def test_the_best_and_the_last_stay(tmp_path: Path, cluster: SmallCluster, through: Through) -> None:
    client = cluster.client()
    Model(client)
    keep = ss.checkpoint.Retention(last=1, best=1, metric="accuracy")
    for name, accuracy in (("a", 0.5), ("b", 0.9), ("c", 0.7), ("d", math.nan), ("e", 0.8)):
        client.save(tmp_path, name=name, metrics={"accuracy": accuracy}, keep=keep, through=through)
    assert names(tmp_path) == ["b", "e"]
    assert [each.metrics for each in ss.checkpoint.list(tmp_path)] == [{"accuracy": 0.9}, {"accuracy": 0.8}]


def test_what_keep_cannot_be_is_said(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    Model(client)
    with pytest.raises(TypeError, match="keep is 'all'; it should be a whole number"):
        client.save(tmp_path, keep="all")  # type: ignore[call-overload]
    assert names(tmp_path) == []


def test_one_that_this_user_may_not_read_is_listed_as_such(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = cluster.client()
    Model(client)
    for name in ("a", "b"):
        client.save(tmp_path, name=name)

    def read_unless_a(store: CheckpointStore, name: str) -> CheckpointManifest:
        if name == "a":
            raise PermissionError(errno.EACCES, "Permission denied", f"{store.path}/a/manifest.json")
        return read_manifest(store, name)

    monkeypatch.setattr(inspection, "read_manifest", read_unless_a)
    assert [(each.name, each.problem) for each in ss.checkpoint.list(tmp_path)] == [
        ("a", "manifest.json: Permission denied"),
        ("b", ""),
    ]


@THROUGH
def test_a_pinned_checkpoint_stays_until_it_is_unpinned(
    tmp_path: Path, cluster: SmallCluster, through: Through
) -> None:
    client = cluster.client()
    Model(client)
    client.save(tmp_path, name="a")
    assert ss.checkpoint.pin(tmp_path / "a").is_pinned
    for name in ("b", "c"):
        client.save(tmp_path, name=name, keep=1, through=through)
    assert names(tmp_path) == ["a", "c"]
    assert [each.is_pinned for each in ss.checkpoint.list(tmp_path)] == [True, False]
    ss.checkpoint.verify(tmp_path / "a")
    client.restore(tmp_path / "a")
    assert not ss.checkpoint.unpin(tmp_path / "a").is_pinned
    ss.checkpoint.unpin(tmp_path / "a")  # once more does nothing
    client.save(tmp_path, name="d", keep=1, through=through)
    assert names(tmp_path) == ["d"]
    with pytest.raises(NotFoundError):
        FolderStore(tmp_path).pin("a", is_pinned=True)
    with pytest.raises(NotFoundError):
        ss.checkpoint.pin(tmp_path / "none")


@THROUGH
def test_the_newest_is_the_one_that_was_made_last_whatever_the_clock_says(
    tmp_path: Path, cluster: SmallCluster, through: Through
) -> None:
    client = cluster.client()
    model = Model(client)
    for name in ("a", "b"):
        client.save(tmp_path, name=name)
        ahead_s = time.time() + 3600.0  # the clock is set back now
        os.utime(tmp_path / name / MANIFEST_FILE, (ahead_s, ahead_s))
    for name in ("c", "d"):
        model.steps.assign_add(1)
        client.save(tmp_path, name=name, keep=2, through=through)
    assert names(tmp_path) == ["c", "d"]
    client.restore(tmp_path)
    assert model.steps.read_value() == 2


def test_a_link_is_another_name_of_a_checkpoint_and_not_one_more(
    tmp_path: Path, cluster: SmallCluster, caplog: pytest.LogCaptureFixture
) -> None:
    client, folder, elsewhere = cluster.client(), tmp_path / "run", tmp_path / "elsewhere"
    Model(client)
    client.save(elsewhere, name="x")
    folder.mkdir()
    (folder / "of-elsewhere").symlink_to(elsewhere / "x")
    client.save(folder, name="a", keep=3)
    client.save(folder, name="b", keep=3)
    (folder / "the-best").symlink_to("b")
    (folder / "loop").symlink_to("loop")
    assert names(folder) == ["of-elsewhere", "a", "b"]
    client.save(folder, name="c", keep=2)
    assert names(folder) == ["b", "c"]
    assert not (folder / "of-elsewhere").is_symlink()
    assert ss.checkpoint.show(folder / "the-best")
    assert names(elsewhere) == ["x"]
    assert ss.checkpoint.clean(folder, older_than_s=1e-9) == []
    assert sorted(path.name for path in folder.iterdir()) == ["b", "c", "loop", "the-best"]
    assert caplog.text == ""


def test_what_the_file_system_keeps_at_its_root_is_no_checkpoint(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    Model(client)
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "lost+found" / MANIFEST_FILE).symlink_to(MANIFEST_FILE)  # nobody can look at it
    for name in ("a", "b"):
        client.save(tmp_path, name=name, keep=1)
    assert names(tmp_path) == ["b"]
    client.restore(tmp_path)


def test_a_folder_in_which_nothing_can_be_pinned_is_an_error(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    Model(client)
    client.save(tmp_path, name="a")
    (tmp_path / "a" / "pinned").mkdir()  # in the way
    with pytest.raises(FailedPreconditionError, match="this client cannot use the folder"):
        ss.checkpoint.unpin(tmp_path / "a")


def test_what_cannot_be_read_does_not_count_and_stays(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    Model(client)
    for name in ("a", "b", "c"):
        client.save(tmp_path, name=name)
    flip(tmp_path / "b" / MANIFEST_FILE, 200)
    client.save(tmp_path, name="d", keep=2)
    assert set(names(tmp_path)) == {"b", "c", "d"}


def test_a_checkpoint_that_cannot_be_removed_is_said_and_the_new_one_is_there(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = cluster.client()
    Model(client)
    client.save(tmp_path, name="a")
    refused: list[str] = []

    def refuse(_: FolderStore, name: str) -> None:
        refused.append(name)
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FolderStore, "remove", refuse)
    with caplog.at_level(logging.WARNING):
        assert client.save(tmp_path, name="b", keep=1).path == str(tmp_path / "b")
    assert refused == ["a"]
    assert f"{tmp_path}/a stays, since it cannot be removed: [Errno 13] Permission denied" in caplog.text
    assert names(tmp_path) == ["a", "b"]


def test_metrics_of_earlier_and_of_later_versions_are_read(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    Model(client)
    client.save(tmp_path, name="a")
    path = tmp_path / "a" / MANIFEST_FILE
    content = json.loads(path.read_bytes())["content"]
    assert "metrics" not in content  # as those who knew none have written it
    assert decode_manifest(path.read_bytes()).metrics == {}
    content["later"] = 1
    assert decode_manifest(encode_checked(content)).name == "a"
    client.save(tmp_path, name="b", metrics={"loss": math.inf, "accuracy": 1})
    assert decode_manifest((tmp_path / "b" / MANIFEST_FILE).read_bytes()).metrics == {"accuracy": 1.0, "loss": math.inf}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"metrics": {"": 1.0}}, "needs a name"),
        ({"metrics": {"a": "high"}}, "give numbers by name"),
        ({"metrics": [0.9]}, "give numbers by name"),
        ({"metrics": {1: 0.9}}, "give numbers by name"),
        ({"metrics": {"a": 10**400}}, "give numbers by name"),
        ({"metrics": {"\ud800": 0.9}}, "give numbers by name"),
        ({"keep": -1}, "keep is -1; it cannot be less than 0"),
        ({"step": -1}, "step is -1"),
        ({"every": 0}, "every is 0; it should be a number of seconds above 0"),
        ({"every_steps": 0}, "every_steps is 0"),
        ({"every": 1.0, "name": "x"}, "leave them out"),
        ({"every": 1.0, "wait": False}, "leave them out"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, cluster: SmallCluster, given: dict[str, Any], message: str
) -> None:
    client = cluster.client()
    Model(client)
    with pytest.raises((InvalidArgumentError, ValueError), match=message):
        client.save(tmp_path, **given)
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_removed_while_all_are_listed_is_not_listed(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = cluster.client()
    Model(client)
    for name in ("a", "b", "c"):
        client.save(tmp_path, name=name)
    of_folder = FolderStore.names

    def names_of_more(self: FolderStore) -> list[str]:
        found = of_folder(self)
        FolderStore(tmp_path).remove("b")
        return found

    monkeypatch.setattr(FolderStore, "names", names_of_more)
    assert names(tmp_path) == ["a", "c"]
    monkeypatch.undo()
    assert names(tmp_path) == ["a", "c"]
