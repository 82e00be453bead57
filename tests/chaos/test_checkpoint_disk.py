"""The disk that a checkpoint is written to is full, or read-only, really: the ps is named, and the run goes on."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.errors import FailedPreconditionError, ResourceExhaustedError
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster

pytestmark = pytest.mark.chaos

DISK_BYTES = 4 * 1024**2
ERRORS = dict.fromkeys([errno.EDQUOT, errno.EFBIG, errno.EMFILE], ResourceExhaustedError)


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
        with pytest.raises(ResourceExhaustedError, match=r"No space left on device.*make room") as caught:
            client.save(disk, name="bad", through=through)  # type: ignore[call-overload]
        assert str(disk) in caught.value.message
        assert caught.value.task == ("ps:1" if through == "ps" else "")
        assert [path.name for path in disk.iterdir()] == ["good"]
        ss.checkpoint.verify(disk / "good")
        small.assign_add(np.ones(10, np.float32))
        large.assign_add(np.ones(DISK_BYTES // 4, np.float32))
        assert small.read_value().tolist() == [1.0] * 10


@pytest.mark.parametrize("what", ["size", "nr_inodes"])
@pytest.mark.parametrize("through", ["ps", "client"])
def test_a_disk_that_is_full_at_any_step_of_a_save(disk: Path, through: str, what: str) -> None:
    """There is room for one block, or one file, more each time, until there is enough for all of it."""
    with SmallCluster(2) as cluster:
        client = cluster.client()
        with client.as_default():
            small = ss.get_variable("small", [10], initializer=ss.zeros_initializer())
            ss.get_variable("other", [3000], initializer=ss.ones_initializer())
        client.save(disk, name="good")
        errors: list[ResourceExhaustedError] = []
        for more in range(40):
            used = os.statvfs(disk)
            blocks, files = used.f_blocks - used.f_bfree + more, used.f_files - used.f_ffree + more
            room = f"size={blocks * used.f_bsize}" if what == "size" else f"nr_inodes={files}"
            subprocess.run(["mount", "-o", f"remount,{room}", str(disk)], check=True)
            try:
                client.save(disk, name="new", through=through)  # type: ignore[call-overload]
            except ResourceExhaustedError as error:
                errors.append(error)
                assert [path.name for path in disk.iterdir()] == ["good"]
                small.assign_add(np.ones(10, np.float32))
            else:
                break
        assert len(errors) > 3
        for each in errors:
            assert "No space left on device" in each.message
            assert str(disk) in each.message
            assert bool(each.task) == (through == "ps")
        assert small.read_value().tolist() == [len(errors)] * 10
        for name in ("good", "new"):
            ss.checkpoint.verify(disk / name)


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


def test_a_folder_that_is_removed_during_a_save_ends_the_save_alone(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with SmallCluster(2) as cluster:
        client = cluster.client()
        with client.as_default():
            small = ss.get_variable("small", [10], initializer=ss.zeros_initializer())
            ss.get_variable("other", [10], initializer=ss.ones_initializer())

        def remove(_done: int, _all: int) -> None:
            shutil.rmtree(folder, ignore_errors=True)

        with pytest.raises(FailedPreconditionError, match=r"No such file|do not share") as caught:
            client.save(folder, name="bad", show_progress=remove)
        assert caught.value.task in {"ps:0", "ps:1"}
        assert not ss.checkpoint.list(folder)
        small.assign_add(np.ones(10, np.float32))
        client.save(folder, name="good")
        ss.checkpoint.verify(folder / "good")
        assert small.read_value().tolist() == [1.0] * 10


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("call", ["posix_fallocate", "fsync"])
def test_what_the_system_says_of_a_file_ends_the_save_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    """A quota, a broken disk, a permission that is taken away: when room is made for a part, or when it is synced."""
    with SmallCluster(2) as cluster:
        client = cluster.client()
        with client.as_default():
            small = ss.get_variable("small", [10], initializer=ss.zeros_initializer())
            ss.get_variable("other", [10], initializer=ss.ones_initializer())
        client.save(tmp_path, name="good")
        fired: list[str] = []

        real = getattr(os, call)

        def fail(descriptor: int, *arguments: int) -> None:
            if "part-00001" not in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
                real(descriptor, *arguments)
                return
            fired.append(call)
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as broken:
            broken.setattr(f"ps_protocol.files.synced_files.os.{call}", fail)
            with pytest.raises(ERRORS.get(number, FailedPreconditionError), match=os.strerror(number)) as caught:
                client.save(tmp_path, name="bad")
        assert fired
        assert str(tmp_path) in caught.value.message
        assert caught.value.task == "ps:1"
        assert [path.name for path in tmp_path.iterdir()] == ["good"]
        small.assign_add(np.ones(10, np.float32))
        client.restore(tmp_path / "good")
        assert small.read_value().tolist() == [0.0] * 10


def test_a_folder_without_permission_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, fired = tmp_path / "locked", list[str]()
    make = Path.mkdir

    def refuse(path: Path, *arguments: Any, **named: Any) -> None:
        # As the system does; not by chmod, which counts nothing for root.
        if folder in path.parents:
            fired.append(path.name)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        make(path, *arguments, **named)

    folder.mkdir()
    with SmallCluster(2) as cluster:
        client = cluster.client()
        with client.as_default():
            small = ss.get_variable("small", [10], initializer=ss.zeros_initializer())
        monkeypatch.setattr(Path, "mkdir", refuse)
        with pytest.raises(FailedPreconditionError, match=r"Permission denied .*locked.*permissions") as caught:
            client.save(folder, name="bad")
        assert fired
        assert caught.value.task == "ps:0"
        assert list(folder.iterdir()) == []
        small.assign_add(np.ones(10, np.float32))
        assert small.read_value().tolist() == [1.0] * 10
