"""Interrupts of a worker's main thread at random instants: each comes out, none wedges, loses or doubles anything."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ps_cluster import LocalCluster

pytestmark = pytest.mark.chaos

TIMEOUT_S = 150.0
FEW_DESCRIPTORS = 150  # a mapped segment has none; grows without bound if connections leak


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(num_ps=2) as started:
        yield started


def found_by_worker(cluster: LocalCluster, transport: str, num_interrupts: int, kind: str) -> dict[str, int]:
    spec = json.dumps({"ps": list(cluster.cluster_spec.ps_addresses())})
    worker = subprocess.run(
        [sys.executable, "-m", "tests.chaos.interrupted_worker", spec, transport, "1", str(num_interrupts), kind],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert worker.returncode == 0, worker.stderr
    found: dict[str, int] = json.loads(worker.stdout)
    assert "Exception ignored" not in worker.stderr
    assert found["delivered"] == num_interrupts
    assert found["threads"] <= found["threads_before"]
    assert found["descriptors"] < FEW_DESCRIPTORS
    return found


@pytest.mark.parametrize("transport", ["tcp", "unix", "shm", "grpc", "in process"])
def test_interrupted_operations_count_once_or_never_and_later_ones_work(cluster: LocalCluster, transport: str) -> None:
    found_by_worker(cluster, transport, 600, "operations")


@pytest.mark.parametrize("transport", ["tcp", "shm", "grpc"])
def test_connecting_and_closing_can_be_interrupted_and_repeated(cluster: LocalCluster, transport: str) -> None:
    found_by_worker(cluster, transport, 60, "connections")
