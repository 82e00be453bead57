"""Checkpoints whose names alone are more than a ps takes in one message, restored over gRPC."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

import worker_client as ss
from ps_cluster import LocalCluster
from ps_protocol.codec.limits import MAX_TAKEN_BYTES
from tests.unit.worker_client.checkpoints.test_many_variables import imported

pytestmark = pytest.mark.integration

LENGTH = 4000


@pytest.mark.parametrize("through", ["ps", "client"])
def test_a_restore_over_a_running_task(tmp_path: Path, through: Literal["ps", "client"]) -> None:
    names = [f"{index:0{LENGTH}}" for index in range(MAX_TAKEN_BYTES // LENGTH + 10)]
    path = imported(tmp_path, names)
    with LocalCluster(1) as cluster, ss.connect(cluster.cluster_spec) as client:
        client.restore(path, through=through)
        last = client.variable(names[-1])
        last.assign(np.float32(-1))
        client.save(tmp_path / "saved", name="x", through=through)
        client.restore(path, through=through)
        assert last.read_value() == len(names) - 1
        client.restore(tmp_path / "saved" / "x", through=through)
        assert last.read_value() == -1
