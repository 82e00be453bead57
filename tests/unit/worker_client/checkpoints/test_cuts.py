"""The images of all ps tasks are of one moment."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ps_protocol.errors import DeadlineExceededError
from ps_server.checkpoints.service import TaskCheckpoints
from ps_server.core.state import MemoryState
from tests.unit.worker_client.checkpoints.small_clusters import IMPATIENT, Model, SmallCluster

TIMEOUT_S = 30.0


def test_no_task_lets_updates_go_on_before_all_have_their_images(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_have_images = threading.Barrier(len(cluster.tasks), timeout=TIMEOUT_S)
    hold, held = TaskCheckpoints.hold, list[bool]()

    def hold_until_all_do(service: TaskCheckpoints, save: UUID, lease_s: float, **named: Any) -> None:
        hold(service, save, lease_s, **named)
        all_have_images.wait()  # those that have theirs have not returned, so that nobody has released them
        held.extend([task.admission.is_held_by(save) for task in cluster.tasks])

    client = cluster.client()
    Model(client)
    monkeypatch.setattr("worker_client.checkpoints.saving.hold_s", lambda _: 2 * TIMEOUT_S)
    monkeypatch.setattr(TaskCheckpoints, "hold", hold_until_all_do)
    client.save(tmp_path, name="x")
    assert held == [True] * 4


def test_what_a_task_could_lose_in_a_crash_is_in_no_checkpoint(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = cluster.client(settings=IMPATIENT)
    Model(client)
    waited: list[float] = []

    def never_safe(_state: MemoryState, timeout_s: float) -> None:
        waited.append(timeout_s)
        raise DeadlineExceededError("the disk is busy")

    with monkeypatch.context() as busy:
        busy.setattr(MemoryState, "wait_for_all", never_safe)
        with pytest.raises(DeadlineExceededError, match="the disk is busy"):
            client.save(tmp_path, name="x")
    assert min(waited) > 0
    assert list(tmp_path.iterdir()) == []
    cluster.client(1).save(tmp_path, name="x")
