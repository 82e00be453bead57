"""Programs that save in the background, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import worker_client as ss
from ps_cluster import LocalCluster
from ps_protocol.cluster_spec import TfConfig
from ps_protocol.task_id import TaskId
from tests.conftest import Eventually

pytestmark = pytest.mark.integration

TIMEOUT_S = 120.0

PROGRAM = """
import os, signal, sys
import shardscope as ss
how, folder = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)
client = ss.connect()
counter = ss.get_variable("counter", [], initializer=ss.zeros_initializer())
if how == "left open":
    ss.save(folder, every=1e6)
    counter.assign_add(1.0)
elif how == "not waited for":
    counter.assign_add(1.0)
    ss.save(folder, wait=False)
elif how == "failed":
    ss.save(folder, every=1e6)
    raise ZeroDivisionError
elif how == "interrupted":
    with ss.save(folder, every=1e6):
        counter.assign_add(1.0)
        signal.raise_signal(signal.SIGINT)
elif how == "forked":
    with ss.save(folder, every=1e6) as saves:
        counter.assign_add(1.0)
        child = os.fork()
        if not child:
            try:
                saves.stop()
            except ss.errors.FailedPreconditionError as error:
                print("in the child:", error, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(num_ps=2, num_workers=1) as cluster:
        yield cluster


def run(cluster: LocalCluster, how: str, folder: Path) -> subprocess.CompletedProcess[str]:
    config = TfConfig(cluster=cluster.cluster_spec, task=TaskId("worker", 0)).to_json()
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, how, str(folder)],
        env={**os.environ, "TF_CONFIG": config},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize("how", ["left open", "not waited for", "forked"])
def test_what_was_to_be_saved_is_there(cluster: LocalCluster, tmp_path: Path, how: str) -> None:
    done = run(cluster, how, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    [entry] = ss.checkpoint.list(tmp_path)
    ss.checkpoint.verify(entry.path)
    if how == "forked":
        assert "in the child: " in done.stdout
        assert "belongs to the process that opened it" in done.stdout


@pytest.mark.parametrize(("how", "error"), [("failed", "ZeroDivisionError"), ("interrupted", "KeyboardInterrupt")])
def test_after_an_error_nothing_more_is_saved(cluster: LocalCluster, tmp_path: Path, how: str, error: str) -> None:
    done = run(cluster, how, tmp_path)
    assert done.returncode == (-signal.SIGINT if how == "interrupted" else 1)
    assert done.stderr.splitlines()[-1] == error
    assert ss.checkpoint.list(tmp_path) == []


def test_periodic_saves_go_on_when_a_ps_that_was_killed_is_back(
    tmp_path: Path, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        LocalCluster(num_ps=2, durability="journal") as cluster,
        ss.connect(cluster.cluster_spec, observer=True, operation_timeout_s=2, ps_grace_s=2) as impatient,
        ss.connect(cluster.cluster_spec),
    ):
        counters = [ss.get_variable(f"v{index}", [], initializer=ss.zeros_initializer()) for index in range(2)]
        with impatient.save(tmp_path, every=0.05, step=lambda: int(counters[0].read_value())) as saves:
            eventually(lambda: saves.last is not None, message="it saves")
            cluster.kill_ps(1)
            counters[0].assign_add(1.0)
            eventually(lambda: "no checkpoint was saved in" in caplog.text, message="it is said")
            cluster.restart_ps(1)
            for each in counters:
                each.assign_add(1.0)
            eventually(lambda: saves.last is not None and saves.last.step == 2, message="it saves again")
    assert "ps:1" in caplog.text
    for entry in ss.checkpoint.list(tmp_path):
        ss.checkpoint.verify(entry.path)
