"""A program for TensorFlow 1 is killed, and its cluster ends; started again it goes on from its newest checkpoint."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

import shardscope as ss
import worker_client.compat.v1 as tf
from ps_cluster.local.local_cluster import LocalCluster

pytestmark = pytest.mark.integration

ROOT: Final = Path(__file__).parents[2]
TIMEOUT_S: Final = 120.0


def run(num_ps: int, *arguments: object) -> tuple[int, str]:
    """Runs the program on a cluster of its own; returns its exit code and what it printed."""
    with LocalCluster(num_ps=num_ps, num_workers=1) as cluster:
        done = subprocess.run(
            [sys.executable, "-m", "tests.integration.tf1_checkpoint_program", *map(str, arguments)],
            cwd=ROOT,
            env=cluster.task_environment("worker", 0),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        return done.returncode, done.stdout


def values_in(folder: Path) -> dict[str, Any]:
    with ss.checkpoint.open_tensorflow(folder) as checkpoint:
        return {name: tensor.read() for name, tensor in checkpoint.items()}


def test_a_killed_program_goes_on_from_its_last_checkpoint_on_other_ps_tasks_as_if_nothing_had_been(
    tmp_path: Path,
) -> None:
    exit_code, output = run(2, tmp_path / "whole", 40)
    assert exit_code == 0, output
    exit_code, output = run(2, tmp_path / "killed", 40, 25)
    assert exit_code == -signal.SIGKILL, output
    assert tf.train.latest_checkpoint(str(tmp_path / "killed")) == str(tmp_path / "killed" / "model.ckpt-20")
    exit_code, output = run(3, tmp_path / "killed", 40)
    assert exit_code == 0, output
    assert "begins after step 20\nends after step 40\n" in output
    whole, killed = values_in(tmp_path / "whole"), values_in(tmp_path / "killed")
    assert (
        whole.keys()
        == killed.keys()
        == {
            *("global_step", "beta1_power", "beta2_power"),
            *(f"model/{name}{slot}" for name in ("table", "weights") for slot in ("", "/Adam", "/Adam_1")),
        }
    )
    for name, value in whole.items():
        np.testing.assert_array_equal(killed[name], value, strict=True, err_msg=name)
    shards = sorted(each.name for each in (tmp_path / "killed").glob("model.ckpt-40.data*"))
    assert len(shards) == 3
