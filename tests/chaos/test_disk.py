"""The disk that the journal is on is full."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pytest

import worker_client as ss
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


def fill(path: Path) -> None:
    """Writes until there is no room left at all."""
    with path.open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(bytes(4096)):
            pass
