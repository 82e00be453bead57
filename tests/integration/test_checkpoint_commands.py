"""Checkpoints from a shell, of a cluster of real processes; and its workers find each other after a restore."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import worker_client as ss
from ps_cluster import LocalCluster
from tests.commands import shardscope

pytestmark = pytest.mark.integration


def test_a_checkpoint_is_saved_shown_verified_and_restored(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with LocalCluster(num_ps=2, num_workers=1) as cluster:
        spec = f"ps={','.join(cluster.cluster_spec.ps_addresses())}"
        with ss.connect(cluster.cluster_spec) as client:
            values = [ss.get_variable(f"v{index}", [3], initializer=ss.ones_initializer()) for index in range(2)]
            options = ("--step", "7", "--keep", "2", "--metric", "loss=0.5")
            done = shardscope("save", str(folder), *options, "--cluster", spec)
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith(f"saved {folder / 'step-000000007'}: ")
            client.assign_add_all([(each, np.ones(3, np.float32)) for each in values])
        read_end, unread = os.pipe()
        os.close(read_end)
        for what in ("ls", "show", "verify"):
            arguments = [sys.executable, "-m", "ps_cluster", "checkpoint", what, str(folder)]
            ended = subprocess.run(arguments, stdout=unread, stderr=subprocess.PIPE, timeout=60.0, check=False)
            assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, b"")
        os.close(unread)
        done = shardscope("checkpoint", "ls", str(folder))
        assert "step-000000007" in done.stdout
        assert re.search(r" 2 +0 +\d+ B +2  loss 0\.5\n", done.stdout)
        assert done.stdout.endswith("  loss 0.5\n")
        assert shardscope("checkpoint", "show", str(folder)).stdout.splitlines()[1:] == [
            "v0  float32 [3]  ps:0",
            "v1  float32 [3]  ps:1",
        ]
        assert "is whole: 2 variables" in shardscope("checkpoint", "verify", str(folder)).stdout
        done = shardscope("checkpoint", "pin", str(folder))
        assert done.stdout == f"{folder / 'step-000000007'} is pinned, and stays\n"
        assert shardscope("checkpoint", "ls", str(folder)).stdout.endswith(" 2  loss 0.5  pinned\n")
        done = shardscope("checkpoint", "unpin", str(folder / "step-000000007"))
        assert "is no longer pinned" in done.stdout
        assert "pinned" not in shardscope("checkpoint", "ls", str(folder)).stdout
        done = shardscope("restore", str(folder), "--cluster", spec)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[:2] == ["restored   v0", "restored   v1"]
        with ss.connect(cluster.cluster_spec) as client:
            assert [client.variable(f"v{index}").read_value().tolist() for index in range(2)] == [[1.0] * 3] * 2
        done = shardscope("save", str(tmp_path / "here"), "--name", "x", "--through-client", "--cluster", spec)
        assert done.returncode == 0, done.stderr
        done = shardscope("restore", str(tmp_path / "here"), "--through-client", "--cluster", spec)
        assert done.returncode == 0, done.stderr
        done = shardscope("restore", str(folder), "--names", "w*=v*", "--cluster", spec)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[:2] == ["restored   w0  from v0", "restored   w1  from v1"]
        misfit = shardscope("restore", str(folder), "--cluster", spec)
        assert misfit.returncode == 1
        assert {"fresh      w0  float32[3]", "fresh      w1  float32[3]"} <= {*misfit.stderr.splitlines()}
        done = shardscope("save", str(folder), "--step", "7", "--cluster", spec)
        assert done.returncode == 1
        assert "there is a checkpoint step-000000007" in done.stderr
        assert shardscope("save", "/proc/nothing", "--cluster", spec).returncode == 1
    assert "there is no checkpoint" in shardscope("checkpoint", "verify", str(tmp_path / "none")).stderr
    left = folder / f".step-000000008.{'0f' * 16}.tmp"
    left.mkdir()
    unchanged = shardscope("checkpoint", "clean", str(folder)).stdout
    assert unchanged == f"nothing in {folder} was left behind more than 86400 s ago\n"
    assert "there is no folder" in shardscope("checkpoint", "clean", str(tmp_path / "none")).stderr
    done = shardscope("checkpoint", "clean", f"file://{folder}", "--older-than", "0.001")
    assert done.stdout == f"removed {left.name}\n"
    assert [path.name for path in folder.iterdir()] == ["step-000000007"]
    assert shardscope("checkpoint", "clean", str(folder), "--older-than", "0").returncode == 2
    assert shardscope("save", str(folder), "--keep", "0").returncode == 2
    done = shardscope("save", str(folder), "--metric", "high", "--cluster", "127.0.0.1:1")
    assert done.returncode == 2
    assert "it should be a name and a number, as accuracy=0.9" in " ".join(done.stderr.split())
