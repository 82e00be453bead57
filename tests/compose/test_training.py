"""`docker compose up` is all that is needed, and its exit code is the workers'."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.compose.engine import ComposeProject

pytestmark = [pytest.mark.compose, pytest.mark.slow, pytest.mark.timeout(1500)]

PS_TASKS = ("ps0", "ps1")
WORKERS = ("worker0", "worker1", "worker2")
TRAINED = 0.95
UP_TIMEOUT = 300.0
LONG_TRAINING = {"EPOCHS": "120"}
"""Long enough for a worker to be killed in the middle of it."""


def held_out_accuracy(output: str) -> float:
    """Returns the last accuracy that a worker has printed."""
    found = re.findall(r"held-out accuracy\D+(0\.\d+|1\.0+)", output)
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


def test_others_finish_when_a_worker_is_killed(cluster: ComposeProject, tmp_path: Path) -> None:
    with replace(cluster, environment=cluster.environment | LONG_TRAINING).up(tmp_path / "up.log") as up:
        up.wait_until(lambda: "step" in cluster.logs("worker1"), timeout=UP_TIMEOUT, what="worker1 trains")
        cluster.kill("worker1")
        others_were_training = cluster.is_running("worker0") and cluster.is_running("worker2")
        assert up.wait(timeout=UP_TIMEOUT) == 1, up.output

    assert others_were_training
    for worker in ("worker0", "worker2"):
        assert held_out_accuracy(cluster.logs(worker)) >= TRAINED
    codes = {service: cluster.exit_code(service) for service in PS_TASKS + WORKERS}
    assert codes == {"ps0": 0, "ps1": 0, "worker0": 0, "worker1": 137, "worker2": 0}
