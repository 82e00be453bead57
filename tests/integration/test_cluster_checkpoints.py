"""``LocalCluster(checkpoint=...)``: restores the newest at its start, saves meanwhile, and once more at its end."""

from __future__ import annotations

import functools
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shardscope as ss
from ps_protocol.errors import ClusterStartError, FailedPreconditionError, InvalidArgumentError, UnavailableError
from tests.conftest import Eventually
from tests.unit.worker_client.checkpoints.small_clusters import flip

pytestmark = pytest.mark.integration

TIMEOUT_S = 120.0


def trained(cluster: ss.LocalCluster, steps: int) -> list[float]:
    """Counts steps in a variable in parts and in the global step; returns what the first then has."""
    with ss.connect(cluster.cluster_spec):
        cut = ss.fixed_size_partitioner(cluster.cluster_spec.num_tasks("ps"))
        table = ss.get_variable("table", [6], initializer=ss.zeros_initializer(), partitioner=cut)
        count = ss.get_variable("global_step", [], dtype=np.int64, initializer=ss.zeros_initializer())
        for _ in range(steps):
            table.assign_add(np.ones(6, np.float32))
            count.assign_add(1)
        return [float(each) for each in np.unique(table.read_value())]


def fail() -> None:
    raise ZeroDivisionError


def fail_after_steps(cluster: ss.LocalCluster, steps: int, in_the_way: Path | None = None) -> None:
    """Runs a block that ends in an error; a file may be put in the place of the folder of checkpoints before."""
    with cluster:
        trained(cluster, steps)
        if in_the_way is not None:
            in_the_way.touch()
        fail()


def names(folder: Path) -> list[str]:
    return [each.name for each in ss.checkpoint.list(folder)]


def test_it_goes_on_with_another_number_of_ps_tasks(tmp_path: Path) -> None:
    for num_ps, steps, expected in ((3, 2, 2.0), (2, 1, 3.0), (1, 0, 3.0)):
        with ss.LocalCluster(num_ps, checkpoint=tmp_path / "run") as cluster:
            assert trained(cluster, steps) == [expected]
    assert names(tmp_path / "run") == ["step-000000002", "step-000000003"]  # nothing had changed in the last one


def test_it_saves_meanwhile_and_keeps_some(tmp_path: Path, eventually: Eventually) -> None:
    cluster = ss.LocalCluster(1, checkpoint=str(tmp_path), save_every=0.05, keep=ss.checkpoint.Retention(last=2))
    with cluster:
        for step in (1, 2, 3):
            trained(cluster, 1)
            name = f"step-{step:09}"
            eventually(functools.partial(is_there, tmp_path, name), timeout_s=TIMEOUT_S, message=f"{name} is there")
    assert names(tmp_path) == ["step-000000002", "step-000000003"]


def is_there(folder: Path, name: str) -> bool:
    return name in names(folder)


def test_after_an_error_in_the_block_the_last_state_is_saved(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fail_after_steps(ss.LocalCluster(1, checkpoint=tmp_path), 2)
    assert names(tmp_path) == ["step-000000002"]


def test_a_last_save_that_fails_is_raised_when_all_has_ended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "run"
    cluster = ss.LocalCluster(1, checkpoint=run).start()
    trained(cluster, 1)
    run.rmdir()
    run.touch()  # a file in the place of the folder
    with pytest.raises(FailedPreconditionError, match="Not a directory"):
        cluster.stop()
    assert cluster.ps_exit_code(0) == 0
    assert "the last state is not saved: no checkpoint was saved in" in caplog.text
    cluster.stop()
    other = tmp_path / "other"
    with pytest.raises(ZeroDivisionError):  # which it does not hide
        fail_after_steps(ss.LocalCluster(1, checkpoint=other), 1, in_the_way=other)


FORGETFUL = """
import os, sys
import shardscope as ss

cluster = ss.LocalCluster(1, checkpoint=sys.argv[1]).start()
with ss.connect(cluster.cluster_spec):
    ss.get_variable("v", [2], initializer=ss.zeros_initializer())
child = os.fork()
if not child:
    sys.exit(0)  # says nothing
os.waitpid(child, 0)
if sys.argv[2] == "stop":
    cluster.stop()
"""


@pytest.mark.parametrize("end", ["none", "stop"])
def test_a_program_that_does_not_stop_its_cluster_is_told_what_it_loses(tmp_path: Path, end: str) -> None:
    folder = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", FORGETFUL, str(folder), end],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, len(names(folder))) == (0, 1 if end == "stop" else 0)
    assert done.stderr.count(f"what has changed since the last save in {folder} is lost") == (end == "none")


def test_a_damaged_checkpoint_ends_the_start(tmp_path: Path) -> None:
    with ss.LocalCluster(1, checkpoint=tmp_path) as cluster:
        trained(cluster, 1)
    [part] = (tmp_path / "step-000000001").glob("*.safetensors")
    flip(part, part.stat().st_size - 1)
    cluster = ss.LocalCluster(1, checkpoint=tmp_path)
    with pytest.raises(ClusterStartError, match=rf"cannot go on from {tmp_path}: .*checksum"):
        cluster.start()
    assert cluster.ps_exit_code(0) is not None
    assert names(tmp_path) == ["step-000000001"]


def test_a_ps_that_has_lost_its_variables_ends_the_saves(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with ss.LocalCluster(2, checkpoint=tmp_path) as cluster:
        trained(cluster, 1)
        cluster.kill_ps(1)
        cluster.restart_ps(1)
        assert "ps:1 is started again without its variables: no more checkpoints are saved" in caplog.text
    assert names(tmp_path) == []


def test_what_is_restored_and_saved_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="ps_cluster")
    for _ in range(2):
        with ss.LocalCluster(1, checkpoint=tmp_path) as cluster:
            trained(cluster, 1)
    for said in (
        "starting from nothing",
        f"saved {tmp_path}/step-000000001, ",
        f"restored {tmp_path}/step-000000001: ",
    ):
        assert said in caplog.text


def test_a_ps_that_is_gone_is_named_when_nothing_can_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ps_cluster.local.checkpoints._CONNECT_TIMEOUT_S", 0.5)
    cluster = ss.LocalCluster(1, checkpoint=tmp_path).start()
    trained(cluster, 1)
    cluster.kill_ps(0)
    with pytest.raises(UnavailableError, match="ps:0"):
        cluster.stop()


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"save_every": 10.0}, ValueError, "save_every says how checkpoints are saved, but not where"),
        ({"keep": 3}, ValueError, "keep says how"),
        ({"checkpoint": ""}, ValueError, "should be the path of a folder"),
        ({"checkpoint": "ftp://models/run"}, InvalidArgumentError, "checkpoints cannot be kept at ftp://"),
        ({"checkpoint": "x", "save_every": 0.0}, ValueError, "save_every"),
        ({"checkpoint": "x", "keep": -1}, InvalidArgumentError, "it cannot be less than 0"),
        ({"checkpoint": "x", "keep": "3"}, TypeError, "it should be a whole number"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ss.LocalCluster(1, **given)
