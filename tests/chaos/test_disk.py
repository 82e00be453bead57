"""The disk that the journal is on is full, or the directory is taken away from under the ps."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.errors import ShardscopeError
from tests.chaos.ps_processes import PsTask
from tests.chaos.testbed import connected, impatient_settings
from tests.conftest import Eventually

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

TIMEOUT_S: Final = 30.0
PATIENCE_S: Final = 0.3
DISK_BYTES: Final = 16 * 1024**2
ONES: Final = np.ones(100_000, np.float32)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"root may not mount here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_updates_wait_while_the_disk_is_full_and_none_is_lost(
    tmp_path: Path, small_disk: Path, eventually: Eventually
) -> None:
    ballast = small_disk / "ballast"
    with (
        PsTask(tmp_path, "journal", data_dir=small_disk).start() as ps,
        connected([ps.address], "grpc", impatient_settings(PATIENCE_S)),
    ):
        variable = ss.get_variable("variable", ONES.shape, np.float32, initializer=ss.zeros_initializer())
        variable.assign_add(ONES)
        fill(ballast)
        updates = [variable.assign_add(ONES, wait=False) for _ in range(3)]
        eventually(lambda: "updates wait" in ps.log or updates[0].done(), message="the ps says why updates wait")
        assert not any(update.done() for update in updates)
        assert os.strerror(errno.ENOSPC) in ps.log or "full" in ps.log
        ballast.unlink()
        for update in updates:
            update.result(TIMEOUT_S)
        np.testing.assert_array_equal(variable.read_value(), 4 * ONES)
        assert variable.version == 4
        assert "takes records again" in ps.log
        ps.kill()
        ps.start()
        np.testing.assert_array_equal(variable.read_value(), 4 * ONES)
        assert variable.version == 4


def test_a_crash_on_a_full_disk_loses_nothing_that_was_acknowledged(
    tmp_path: Path, small_disk: Path, eventually: Eventually
) -> None:
    ballast = small_disk / "ballast"
    with (
        PsTask(tmp_path, "journal", data_dir=small_disk).start() as ps,
        connected([ps.address], "tcp", impatient_settings(PATIENCE_S)),
    ):
        variable = ss.get_variable("variable", ONES.shape, np.float32, initializer=ss.zeros_initializer())
        variable.assign_add(ONES)
        fill(ballast)
        update = variable.assign_add(ONES, wait=False)
        eventually(lambda: "updates wait" in ps.log or update.done(), message="the ps says why updates wait")
        ps.kill()
        assert not update.done()
        ballast.unlink()
        ps.start()
        update.result(TIMEOUT_S)
        np.testing.assert_array_equal(variable.read_value(), 2 * ONES)
        assert variable.version == 2


@pytest.mark.parametrize("ends", ["killed", "in good order"])
def test_a_ps_starts_and_answers_on_a_full_disk(
    ends: str, tmp_path: Path, small_disk: Path, eventually: Eventually
) -> None:
    ballast = small_disk / "ballast"
    with (
        PsTask(tmp_path, "journal", data_dir=small_disk).start() as ps,
        connected([ps.address], "tcp", impatient_settings(PATIENCE_S)),
    ):
        variable = ss.get_variable("variable", ONES.shape, np.float32, initializer=ss.zeros_initializer())
        variable.assign_add(ONES)
        if ends == "killed":
            ps.kill()
        else:
            ps.signal(signal.SIGTERM)
            assert ps.wait() == 0
        fill(ballast)
        ps.start()
        np.testing.assert_array_equal(variable.read_value(), ONES)
        update = variable.assign_add(ONES, wait=False)
        eventually(lambda: "updates wait" in ps.log or update.done(), message="the ps says why updates wait")
        assert not update.done()
        ballast.unlink()
        update.result(TIMEOUT_S)
        ps.kill()
        ps.start()
        np.testing.assert_array_equal(variable.read_value(), 2 * ONES)
        assert variable.version == 2


@pytest.mark.parametrize("how", ["moved", "replaced by a copy", "hidden by a mount"])
def test_nothing_is_acknowledged_while_the_directory_is_elsewhere(
    how: str, tmp_path: Path, eventually: Eventually
) -> None:
    data, away = tmp_path / "data", tmp_path / "away"
    with (
        PsTask(tmp_path, "journal", data_dir=data).start() as ps,
        connected([ps.address], "grpc", impatient_settings(PATIENCE_S)),
        contextlib.ExitStack() as mounts,
    ):
        variable = ss.get_variable("variable", ONES.shape, np.float32, initializer=ss.zeros_initializer())
        variable.assign_add(ONES)
        if how == "hidden by a mount":
            mount_over(data, mounts)
        else:
            data.rename(away)
        if how == "replaced by a copy":
            shutil.copytree(away, data)
        updates = [variable.assign_add(ONES, wait=False) for _ in range(3)]
        eventually(lambda: "updates wait" in ps.log or updates[0].done(), message="the ps says why updates wait")
        assert not any(update.done() for update in updates)
        assert "has been replaced by another" in ps.log or "cannot be found any more" in ps.log
        assert "move it back to where it was" in ps.log
        if how == "hidden by a mount":
            mounts.close()
        else:
            shutil.rmtree(data, ignore_errors=True)
            away.rename(data)
        for update in updates:
            update.result(TIMEOUT_S)
        np.testing.assert_array_equal(variable.read_value(), 4 * ONES)
        assert "takes records again" in ps.log
        ps.kill()
        ps.start()
        np.testing.assert_array_equal(variable.read_value(), 4 * ONES)
        assert variable.version == 4


def test_an_update_after_the_directory_was_deleted_is_an_error_that_says_so(tmp_path: Path) -> None:
    settings = dataclasses.replace(impatient_settings(PATIENCE_S), operation_timeout_s=2.0, ps_grace_s=4.0)
    with (
        PsTask(tmp_path, "journal").start() as ps,
        connected([ps.address], "unix", settings),
    ):
        variable = ss.get_variable("variable", ONES.shape, np.float32, initializer=ss.zeros_initializer())
        variable.assign_add(ONES)
        shutil.rmtree(tmp_path / "data")
        with pytest.raises(ShardscopeError, match=r"data/ps-0 cannot be found any more"):
            variable.assign_add(ONES)
        assert "it was deleted: read what you still need, end this ps" in ps.log


def mount_over(path: Path, mounts: contextlib.ExitStack) -> None:
    """Mounts an empty file system there, until the stack is closed."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root may mount")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(path)], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"root may not mount here: {mounted.stderr.strip()}")
    mounts.callback(subprocess.run, ["umount", str(path)], check=True)


def fill(path: Path) -> None:
    """Writes until there is no room left at all."""
    with path.open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(bytes(4096)):
            pass
