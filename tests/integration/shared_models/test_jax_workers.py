"""Three worker processes that train one pytree of JAX, whoever dies meanwhile: as one process alone would."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import shardscope as ss
from ps_cluster import LocalCluster
from tests.conftest import Eventually
from tests.integration.shared_models.jax_worker import alone
from tests.integration.shared_models.test_torch_workers import TIMEOUT_S, training
from tests.integration.shared_models.torch_kinds import Applied

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PROGRAM = "jax_worker"


def assert_as_alone(cluster: LocalCluster, steps: Sequence[Applied]) -> None:
    """What the cluster has is what one process comes to."""
    with ss.connect(cluster.cluster_spec, observer=True) as client:
        for name, expected in alone(steps).items():
            found = client.variable(f"net/{name}").read_value()
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("options", [(), ("--overlap",)])
def test_three_workers_come_to_what_one_does(options: tuple[str, ...]) -> None:
    expected = [Applied(worker, number, number + 1) for worker in range(3) for number in range(10)]
    with training(PROGRAM) as (cluster, workers):
        for index in range(3):
            workers.start(index, "--sync", "bsp(total=3)", *options)
        workers.all_end([0, 0, 0])
        assert options or sorted(workers.steps()) == expected
        assert_as_alone(cluster, expected)


def test_a_worker_is_killed_and_another_one_comes_late_in_its_place(eventually: Eventually) -> None:
    with training(PROGRAM) as (cluster, workers):
        for index in range(2):
            workers.start(index, "--sync", "bsp(total=3)", "--steps", "40")
        killed = workers.start(2, "--sync", "bsp(total=3)", "--die-at", "4")
        assert killed.wait(TIMEOUT_S) == -signal.SIGKILL
        eventually(lambda: max(each.round for each in workers.steps()) > 6, message="the others have gone on alone")
        workers.start(2, "--sync", "bsp(total=3)", "--first", "100", "--steps", "5")
        workers.all_end([0, 0, -signal.SIGKILL, 0])
        steps = workers.steps()
        assert len([each for each in steps if each.worker < 2]) == 80
        assert sorted(each.number for each in steps if each.worker == 2) == [0, 1, 2, 3, 100, 101, 102, 103, 104]
        assert_as_alone(cluster, steps)


@pytest.mark.chaos
@pytest.mark.parametrize("kept_by", ["journal", "backup"])
def test_a_ps_is_killed(kept_by: str, eventually: Eventually) -> None:
    options: dict[str, Any] = {"durability": "journal"} if kept_by == "journal" else {"replicas": 1}
    num_steps = 30
    with training(PROGRAM, **options) as (cluster, workers):
        for each in range(3):
            workers.start(each, "--sync", "bsp(total=3)", "--steps", f"{num_steps}")
        eventually(lambda: len(workers.lines) > 3 * 4, message="some rounds")
        cluster.kill_ps(0)
        assert len(workers.lines) < 3 * num_steps  # in the middle of it
        if kept_by == "journal":
            cluster.restart_ps(0)
        workers.all_end([0, 0, 0])
        steps = workers.steps()
        assert sorted(steps) == [(worker, number, number + 1) for worker in range(3) for number in range(num_steps)]
        assert_as_alone(cluster, steps)


def test_each_alone_counts_every_step() -> None:
    with training(PROGRAM) as (cluster, workers):
        for index in range(3):
            workers.start(index)
        workers.all_end([0, 0, 0])
        with ss.connect(cluster.cluster_spec, observer=True) as client:
            assert client.variable("net/dense/kernel").version == 30
