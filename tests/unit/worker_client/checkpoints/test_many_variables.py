"""Checkpoints of more variables than go in one message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import worker_client as ss
from ps_protocol.checkpoints.service import MAX_TARGETS
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
