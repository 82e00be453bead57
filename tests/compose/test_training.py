"""`docker compose up` is all that is needed, and its exit code is the workers'."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.compose.engine import ComposeProject

pytestmark = [pytest.mark.compose, pytest.mark.slow, pytest.mark.timeout(1500)]

PS_TASKS = ("ps0", "ps1")
WORKERS = ("worker0", "worker1", "worker2")
TRAINED = 0.95
UP_TIMEOUT = 300.0
LONG_TRAINING = {"EPOCHS": "1000"}
"""Of which a tenth is shown at the first line: the rest takes longer than to have the engine pause a container."""


def held_out_accuracy(output: str) -> float:
    """Returns the last accuracy, on images that it has not seen, that a worker has printed."""
    found = re.findall(r"(?:held-out|test) accuracy\D+(0\.\d+|1\.0+)", output)
    assert found, f"no accuracy in:\n{output}"
    return float(found[-1])


def test_trains_and_returns_by_itself(cluster: ComposeProject, tmp_path: Path) -> None:
    with cluster.up(tmp_path / "up.log") as up:
        assert up.wait(timeout=UP_TIMEOUT) == 0, up.output

    for worker in WORKERS:
        assert held_out_accuracy(cluster.logs(worker)) >= TRAINED
    assert {service: cluster.exit_code(service) for service in PS_TASKS + WORKERS} == dict.fromkeys(
        PS_TASKS + WORKERS, 0
    )


def test_a_program_for_tensorflow_1_trains_and_returns_by_itself(cluster: ComposeProject, tmp_path: Path) -> None:
    program = {"PROGRAM": "python examples/tf1/mnist_replica.py --train_steps=1000"}
    with replace(cluster, environment=cluster.environment | program).up(tmp_path / "up.log") as up:
        assert up.wait(timeout=UP_TIMEOUT) == 0, up.output

    for worker in WORKERS:
        assert held_out_accuracy(cluster.logs(worker)) >= 0.9


def test_others_finish_when_a_worker_is_killed(cluster: ComposeProject, tmp_path: Path) -> None:
    with replace(cluster, environment=cluster.environment | LONG_TRAINING).up(tmp_path / "up.log") as up:
        for worker in WORKERS:
            up.wait_until(partial(up.shows, worker, "step"), timeout=UP_TIMEOUT, what=f"{worker} trains")
        # However fast they are and however slow the engine is, they are not through before worker1 is gone.
        with cluster.paused("worker0", "worker2"):
            cluster.kill("worker1")
            up.wait_until(lambda: cluster.exit_code("worker1") == 137, timeout=UP_TIMEOUT, what="worker1 is gone")
        assert up.wait(timeout=UP_TIMEOUT) == 1, up.output

    for worker in ("worker0", "worker2"):
        assert held_out_accuracy(cluster.logs(worker)) >= TRAINED
    codes = {service: cluster.exit_code(service) for service in PS_TASKS + WORKERS}
    assert codes == {"ps0": 0, "ps1": 0, "worker0": 0, "worker1": 137, "worker2": 0}
