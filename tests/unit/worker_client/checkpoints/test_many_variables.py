"""Checkpoints of more variables than go in one message."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.checkpoints.retention import Retention
from ps_protocol.checkpoints.service import MAX_TARGETS, CheckpointPath, hold_s
from ps_server.checkpoints.service import TaskCheckpoints
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster

NUMBER = 2 * MAX_TARGETS + 100


def imported(folder: Path, names: list[str]) -> Path:
    """A checkpoint of scalars that count from 0."""
    values: dict[str, Any] = {name: np.float32(index) for index, name in enumerate(names)}
    np.savez(folder / "many.npz", **values)
    return Path(ss.checkpoint.import_from(folder / "many.npz", folder / "run", step=1).path)


def test_the_directory_has_all_that_was_restored(tmp_path: Path, cluster: SmallCluster) -> None:
    names = [f"v{index:05}" for index in range(NUMBER)]
    path = imported(tmp_path, names)
    client = cluster.client()
    client.restore(path)
    placements = client._handles[0].service.list_placements(timeout_s=10.0)
    assert sorted([each.spec.name for each in placements]) == names
    # Another worker, which declares them in another order, finds each where it is.
    with cluster.client(1).as_default():
        for name in [names[-1], names[0], names[MAX_TARGETS]]:
            assert ss.get_variable(name, [], dtype=np.float32).read_value() == names.index(name)
    assert sum([len(task.state.parts.store.variables) for task in cluster.tasks]) == NUMBER


def test_a_save_may_hold_many_variables_longer(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases: list[float] = []
    hold = TaskCheckpoints.hold

    def noted(self: TaskCheckpoints, save: Any, lease_s: float, *, timeout_s: float) -> None:
        leases.append(lease_s)
        hold(self, save, lease_s, timeout_s=timeout_s)

    monkeypatch.setattr(TaskCheckpoints, "hold", noted)
    client = cluster.client()
    client.save(tmp_path, name="empty")
    client.restore(imported(tmp_path, [f"v{index:05}" for index in range(NUMBER)]))
    client.save(tmp_path, name="many")
    assert leases == [hold_s(0)] * 2 + [hold_s(NUMBER // 2)] * 2
    assert hold_s(0) < hold_s(NUMBER // 2) < hold_s(100_000) < hold_s(10**9) < 20.0  # what an update may take


def test_a_hold_takes_no_more_than_the_image(tmp_path: Path, cluster: SmallCluster) -> None:
    """What else is to be known of each variable is found out when updates go on."""
    client = cluster.client()
    client.restore(imported(tmp_path, [f"v{index:05}" for index in range(NUMBER)]))
    task = TaskCheckpoints(cluster.tasks[0])
    save = uuid4()
    task.begin(save, CheckpointPath(str(tmp_path), "x"), timeout_s=10.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ps_server.checkpoints.saving.SavedVariable", None)
        task.hold(save, 10.0, timeout_s=10.0)
    assert task.release(save, timeout_s=10.0)
    while not task.write(save, timeout_s=10.0).is_done:
        pass
    task.discard(save, timeout_s=10.0)


def test_a_publication_that_is_repeated_meanwhile_waits_for_the_first(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client asks again when it hears nothing, as when a manifest is large, and the first call is at work still."""
    client = cluster.client()
    client.restore(imported(tmp_path, ["a", "b"]))
    task, again = TaskCheckpoints(cluster.tasks[0]), list[Future[int]]()
    save, path = uuid4(), CheckpointPath(str(tmp_path), "x")
    task.begin(save, path, timeout_s=10.0)
    task.hold(save, 10.0, timeout_s=10.0)
    task.release(save, timeout_s=10.0)
    while not task.write(save, timeout_s=10.0).is_done:
        pass

    def publish() -> int:
        return task.publish(save, path, 1, None, {}, Retention(), timeout_s=10.0)

    def repeat(where: str) -> None:
        if where == "checkpoint.before_visible" and not again:
            again.append(pool.submit(publish))
            wait(again, 0.2)

    monkeypatch.setattr("ps_protocol.checkpoints.folder_store.fault_point", repeat)
    with ThreadPoolExecutor(1) as pool:
        size_bytes = publish()
        assert [each.result(10.0) for each in again] == [size_bytes]
    assert ss.checkpoint.verify(tmp_path / "x").size_bytes == size_bytes
    task.discard(save, timeout_s=10.0)
