"""``shardscope workers`` and ``ls --tasks`` of a cluster whose workers train together, one of which is missing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

import worker_client as ss
from ps_cluster import LocalCluster
from tests import commands
from tests.conftest import Eventually
from tests.unit.worker_client.optimizers.together import Worker, gradients

pytestmark = pytest.mark.integration

TIMEOUT_S = 60.0


def of(cluster: LocalCluster) -> tuple[str, str]:
    return "--cluster", cluster.cluster_spec.ps_addresses()[0]


def command(cluster: LocalCluster, *arguments: str) -> list[str]:
    """What to start as a process of its own."""
    return [sys.executable, "-m", "ps_cluster", *arguments, *of(cluster)]


def shardscope(cluster: LocalCluster, *arguments: str, exit_code: int = 0) -> str:
    done = commands.shardscope(*arguments, *of(cluster))
    assert done.returncode == exit_code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(num_ps=2, num_workers=2) as started:
        yield started


def test_a_cluster_in_which_nobody_trains_together_has_no_groups(cluster: LocalCluster) -> None:
    assert "Nobody trains together in this cluster" in shardscope(cluster, "workers")
    assert json.loads(shardscope(cluster, "workers", "--json")) == []
    assert "nobody trains together as 'adam'" in shardscope(cluster, "workers", "adam", exit_code=2)
    assert json.loads(shardscope(cluster, "ls", "--tasks", "--json"))["groups"] == []


def test_rounds_and_verdicts_are_shown_and_who_is_missing(cluster: LocalCluster, eventually: Eventually) -> None:
    with ExitStack() as resources:
        clients = [resources.enter_context(ss.connect(cluster.cluster_spec, task_index=index)) for index in range(2)]
        workers = [Worker(each, ss.train.GradientDescent(0.25, name="sgd", sync="bsp(total=2)")) for each in clients]
        pool = resources.enter_context(ThreadPoolExecutor(2))
        first = pool.submit(workers[0].step, gradients(0, 0))
        workers[1].step(gradients(1, 0))
        first.result(TIMEOUT_S)
        second = pool.submit(workers[0].step, gradients(0, 1))  # worker 1 is not there for it yet
        (group,) = eventually(
            lambda: [
                each
                for each in json.loads(shardscope(cluster, "workers", "sgd", "--json"))
                if [one["worker"] for one in each["awaited"]] == ["worker:1"]
            ],
            timeout_s=TIMEOUT_S,
        )
        assert (group["group"], group["policy"], group["round"], group["quorum"]) == ("sgd", "bsp(total=2)", 1, 2)
        assert {each["worker"]: each["applied"] for each in group["workers"]} == {"worker:0": 1, "worker:1": 1}
        text = shardscope(cluster, "workers")
        assert re.match(r"sgd: bsp\(total=2\), round 1, 2 live, waits for worker:1 \(last seen \d+\.\d s ago\)", text)
        assert re.search(r"worker:0 +live +1 +0 +0 +0 +0 of 0 +0 of 0 +\d+ s ago +waits for worker:1", text)
        tasks = shardscope(cluster, "ls", "--tasks")
        assert re.search(r"^sgd: round 2 waits for worker:1 \(last seen \d+\.\d s ago\)$", tasks, re.MULTILINE)
        command = [sys.executable, "-m", "ps_cluster", "workers", "--watch", "--json", *of(cluster)]
        watching = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        with watching:
            try:
                assert watching.stdout is not None
                assert json.loads(watching.stdout.readline())[0]["round"] == 1
                workers[1].step(gradients(1, 1))
                second.result(TIMEOUT_S)
                while json.loads(watching.stdout.readline())[0]["round"] == 1:
                    pass
            finally:
                watching.kill()


def test_ps_0_alone_is_enough(cluster: LocalCluster) -> None:
    with ss.connect(cluster.cluster_spec) as client:
        Worker(client, ss.train.GradientDescent(0.25, name="sgd", sync="bsp")).step(gradients(0, 0))
    cluster.kill_ps(1)
    spec = "--cluster", ",".join(cluster.cluster_spec.ps_addresses())
    shown = commands.shardscope("workers", *spec)
    assert shown.returncode == 0, shown.stderr
    assert re.match(r"sgd: bsp, round 1, 0 live\n", shown.stdout)
    tasks = commands.shardscope("ls", "--tasks", "--json", *spec)
    assert tasks.returncode == 1, "a ps task does not answer"
    (group,) = json.loads(tasks.stdout)["groups"]
    assert group["workers"][0]["applied"] == 1
