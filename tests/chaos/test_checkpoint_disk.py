"""The disk that a checkpoint is written to is full, or read-only, really: the ps is named, and the run goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.errors import FailedPreconditionError
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster

pytestmark = pytest.mark.chaos

DISK_BYTES = 4 * 1024**2


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("through", ["ps", "client"])
def test_a_full_disk_ends_the_save_alone(disk: Path, through: str) -> None:
    with SmallCluster(2) as cluster:
        client = cluster.client()
        with client.as_default():
            small = ss.get_variable("small", [10], initializer=ss.zeros_initializer())
            client.save(disk, name="good")
            large = ss.get_variable("large", [DISK_BYTES // 4], initializer=ss.ones_initializer())
        with pytest.raises(FailedPreconditionError, match="No space left on device") as caught:
            client.save(disk, name="bad", through=through)  # type: ignore[call-overload]
        assert caught.value.task == ("ps:1" if through == "ps" else "")
        assert [path.name for path in disk.iterdir()] == ["good"]
        ss.checkpoint.verify(disk / "good")
        small.assign_add(np.ones(10, np.float32))
        large.assign_add(np.ones(DISK_BYTES // 4, np.float32))
        assert small.read_value().tolist() == [1.0] * 10


def test_a_disk_that_cannot_be_written_to(disk: Path) -> None:
    with SmallCluster(2) as cluster:
        client = cluster.client()
        with client.as_default():
            small = ss.get_variable("small", [10], initializer=ss.zeros_initializer())
        client.save(disk, name="good")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(FailedPreconditionError, match="Read-only file system") as caught:
            client.save(disk, name="bad")
        assert caught.value.task == "ps:0"
        small.assign_add(np.ones(10, np.float32))
        client.restore(disk / "good")
        assert small.read_value().tolist() == [0.0] * 10
