"""A ps process has no file descriptor left when a checkpoint is saved: the save ends, and the run goes on."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import psutil
import pytest

import worker_client as ss
from ps_cluster import LocalCluster
from ps_protocol.errors import ResourceExhaustedError

pytestmark = pytest.mark.chaos


def test_descriptors_run_out_in_a_ps(tmp_path: Path) -> None:
    before = {each.pid for each in psutil.Process().children()}
    with LocalCluster(1) as cluster, ss.connect(cluster.cluster_spec) as client:
        with client.as_default():
            variable = ss.get_variable("v", [10], initializer=ss.zeros_initializer())
        client.save(tmp_path, name="good")
        processes = [each for each in psutil.Process().children() if each.pid not in before]
        limits = [each.rlimit(resource.RLIMIT_NOFILE) for each in processes]
        for each, (_, hard) in zip(processes, limits, strict=True):
            each.rlimit(resource.RLIMIT_NOFILE, (3, hard))  # what is open stays so
        with pytest.raises(ResourceExhaustedError, match=r"Too many open files.*ulimit -n") as caught:
            client.save(tmp_path, name="bad")
        assert caught.value.task == "ps:0"
        with pytest.raises(ResourceExhaustedError, match=r"Too many open files.*ulimit -n"):
            client.restore(tmp_path / "good")
        variable.assign_add(np.ones(10, np.float32))
        for each, limit in zip(processes, limits, strict=True):
            each.rlimit(resource.RLIMIT_NOFILE, limit)
        client.save(tmp_path, name="later")
        assert [each.name for each in ss.checkpoint.list(tmp_path)] == ["good", "later"]
        client.restore(tmp_path / "good")
        assert variable.read_value().tolist() == [0.0] * 10
