"""Programs as users write them: with processes that load data, under torchrun, and one that a terminal shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from ps_cluster import LocalCluster
from tests.integration.shared_models.test_torch_workers import assert_as_alone
from tests.integration.shared_models.torch_kinds import Applied

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT: Final = Path(__file__).parents[3]
TIMEOUT_S: Final = 120.0


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(num_ps=2) as started:
        yield started


def run(*command: str) -> subprocess.CompletedProcess[str]:
    outside = ("TF_CONFIG", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_", "TORCHELASTIC_")
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(outside)},
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def load(cluster: LocalCluster, mode: str, method: str) -> str:
    done = run("-m", "tests.integration.shared_models.loader_programs", mode, method, cluster.cluster_spec.to_flag())
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_loader_with_processes_feeds_the_loop(cluster: LocalCluster, method: str) -> None:
    assert load(cluster, "plain", method) == "8 steps, better: True\n"


def test_a_loader_that_forks_must_not_use_the_model(cluster: LocalCluster) -> None:
    said = load(cluster, "asking", "fork")
    assert said.startswith("FailedPreconditionError: Caught FailedPreconditionError in DataLoader worker process")
    assert (
        "the connection belongs to the process that opened it, from which this one was forked; call connect()" in said
    )


def test_a_loader_that_spawns_cannot_take_the_model_along(cluster: LocalCluster) -> None:
    said = load(cluster, "holding", "spawn")
    assert said.startswith(
        "TypeError: SharedModule 'net' is bound to a connection of this process and cannot be pickled"
    )
    assert said.endswith("connect in the other process, make the model there and share it under the same name\n")


def test_ranks_of_torchrun_train_one_model(cluster: LocalCluster) -> None:
    done = run(
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"),
        *("tests.integration.shared_models.torch_worker", cluster.cluster_spec.to_flag()),
        *("--sync", "bsp(total=2)", "--steps", "5"),
    )
    assert done.returncode == 0, done.stderr
    steps = [Applied(*map(int, each)) for each in re.findall(r"step applied (\d+) (\d+) (\d+)", done.stdout)]
    assert sorted(steps) == [(rank, number, number + 1) for rank in range(2) for number in range(5)]
    assert_as_alone(cluster, steps)


def test_what_is_shared_is_listed_by_its_names(cluster: LocalCluster) -> None:
    load(cluster, "plain", "fork")
    done = run("-m", "ps_cluster", "ls", "--cluster", cluster.cluster_spec.to_flag())
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("net/") and "/Gradient" not in line]
    assert [row[0] for row in rows] == ["net/bias", "net/weight"]
