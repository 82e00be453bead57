"""``shardscope up`` with workers that fail, stop or are not needed: who is let go, started again or ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_up import Up, launching

pytestmark = pytest.mark.integration

FAILS_ONCE = """
import json, os, pathlib, signal, sys
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
print(f"this is worker {index}", flush=True)
mark = pathlib.Path(sys.argv[1])
if index == 1 and not mark.exists():
    mark.touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""

STOPPED = """
import os, signal
import worker_client as ss
with ss.connect(lease_s=100.0) as client:  # who is slow is not to be missed at the barrier
    client.barrier("all are there", timeout_s=100.0)
if client.task.index == 1:
    with ss.connect(lease_s=1.0):
        os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    with launching(tmp_path) as launch:
        yield launch


def test_workers_that_are_not_needed_are_let_go(up: Up) -> None:
    launch = up("0:die", "1:exit3", "all:exit0", options="--ps 1 --workers 3 --min-workers 1")
    assert launch.wait() == 0
    errors = "\n".join(launch.errors)
    assert "worker:0 failed with signal SIGKILL; going on without it" in errors
    assert "worker:1 failed with exit code 3; going on without it" in errors


def test_a_worker_that_fails_is_started_again(up: Up, tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(FAILS_ONCE)
    launch = up(str(tmp_path / "was here"), options="--ps 1 --workers 2 --worker-restarts 1")
    assert launch.wait() == 0, launch.errors
    assert launch.errors == ["shardscope | worker:1 failed with signal SIGKILL; starting it again (1 of 1)"]
    assert launch.output.count("worker:1   | this is worker 1") == 2


def test_a_stopped_worker_is_ended_when_the_others_are_done(up: Up, tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(STOPPED)
    launch = up(options="--ps 1 --workers 2 --min-workers 1")
    assert launch.wait() == 0, launch.errors
    assert any("worker:1 is silent beyond the lease" in line for line in launch.errors), launch.errors
    assert "worker:1 ended" in launch.output[-1]
