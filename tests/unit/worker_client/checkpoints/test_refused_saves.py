"""Saves that are refused: by name, and with nothing changed or left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ps_protocol.checkpoints.service import CheckpointPath
from ps_protocol.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
)
from tests.unit.worker_client.checkpoints.small_clusters import Model, SmallCluster

TIMEOUT_S = 30.0


def test_no_permission(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    Model(client)
    (tmp_path / "file").touch()
    with pytest.raises(
        FailedPreconditionError, match=r"Not a directory.*correct the path or its permissions"
    ) as caught:
        client.save(tmp_path / "file")
    assert caught.value.task == "ps:0"


def test_tasks_that_do_not_share_the_folder_are_named(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = cluster.client()
    Model(client)
    service = client._handles[1].service.checkpoints
    begin: Callable[..., Any] = service.begin

    def elsewhere(save: Any, path: CheckpointPath, **kwargs: Any) -> Any:
        return begin(save, CheckpointPath(f"{path.store}-of-ps-1", path.name), **kwargs)

    monkeypatch.setattr(service, "begin", elsewhere, raising=False)
    with pytest.raises(FailedPreconditionError, match=r"ps:1 has written .* do not share that folder"):
        client.save(tmp_path / "folder", name="x")
    assert not (tmp_path / "folder" / "x").exists()


def test_a_name_is_taken_once(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    Model(client)
    client.save(tmp_path, name="x")
    with pytest.raises(AlreadyExistsError, match="there is a checkpoint x in"):
        client.save(tmp_path, name="x")
    with pytest.raises(InvalidArgumentError, match="cannot be the name"):
        client.save(tmp_path, name="../x")
    with pytest.raises(InvalidArgumentError, match="cannot be kept at ftp://"):
        client._handles[0].service.checkpoints.begin(uuid4(), CheckpointPath("ftp://b", "x"), timeout_s=TIMEOUT_S)


def test_nothing_is_saved_inside_another_checkpoint(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    Model(client)
    first = client.save(tmp_path, name="x")
    with pytest.raises(FailedPreconditionError, match="/x is a checkpoint, in which no other one can be saved"):
        client.save(first.path, name="y")
    assert sorted(path.name for path in (tmp_path / "x").iterdir() if path.is_dir()) == []
    with pytest.raises(InvalidArgumentError, match="the path of a checkpoint is ''"):
        client.save("")
    with pytest.raises(InvalidArgumentError, match="the path of a checkpoint is ''"):
        client.restore("")


# -- what goes wrong while restoring ----------------------------------------------------------


def test_where_there_is_no_checkpoint(tmp_path: Path, cluster: SmallCluster) -> None:
    with pytest.raises(NotFoundError, match="there is no checkpoint at"):
        cluster.client().restore(tmp_path)


def test_an_observer_saves_and_does_not_restore(tmp_path: Path, cluster: SmallCluster) -> None:
    Model(cluster.client())
    observer = cluster.client(observer=True)
    observer.save(tmp_path, name="x")
    with pytest.raises(PermissionDeniedError, match="observer"):
        observer.restore(tmp_path)
