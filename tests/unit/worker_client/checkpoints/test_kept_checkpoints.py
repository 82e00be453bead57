"""Which checkpoints of a folder stay after a save: by number, hours, metrics and pins, whoever writes."""

from __future__ import annotations

import json
import logging
import math
import os
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import pytest

import worker_client as ss
from ps_protocol.checkpoints.manifest import MANIFEST_FILE, decode_manifest
from ps_protocol.checkpoints.store import ABANDONED_S, FolderStore
from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from ps_protocol.files.spec_json import encode_checked
from tests.unit.worker_client.checkpoints.small_clusters import Model, SmallCluster, flip

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


@THROUGH
def test_what_killed_saves_have_left_is_removed_when_it_is_old(
    tmp_path: Path, cluster: SmallCluster, through: Through
) -> None:
    client = cluster.client()
    Model(client)
    old, recent = f".old.{uuid4().hex}.tmp", f".recent.{uuid4().hex}.tmp"
    for name in (old, recent, ".x.removed.tmp", ".mine.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").touch()
        long_ago_s = (tmp_path / name).stat().st_mtime - 2 * ABANDONED_S
        os.utime(tmp_path / name, (long_ago_s, long_ago_s))
        if name != recent:
            os.utime(tmp_path / name / "part", (long_ago_s, long_ago_s))
    client.save(tmp_path, name="a", through=through)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([recent, ".mine.tmp", "a"])
