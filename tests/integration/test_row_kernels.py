"""A ps goes over to compiled kernels while it serves, and nobody can tell from the values."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import worker_client as ss
from ps_cluster import LocalCluster
from tests.conftest import Eventually

pytestmark = pytest.mark.integration

NUM_ROWS, WIDTH, BATCH = 200, 32, 512


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba, of the extra `fast`, is not installed")
def test_scatters_before_and_after_the_kernel_is_there_are_exact(eventually: Eventually) -> None:
    random = np.random.default_rng(3)
    expected = np.zeros((NUM_ROWS, WIDTH), np.float32)

    def scatter(table: ss.Variable) -> None:
        indices = (random.zipf(1.3, BATCH) - 1) % NUM_ROWS
        updates = random.standard_normal((BATCH, WIDTH), np.float32)
        table.scatter_add(indices, updates)
        for row, update in zip(indices, updates, strict=True):
            expected[row] += update

    def is_compiled() -> bool:
        return any("scatter_add for float32 ready" in line for line in cluster.ps_log(0))

    with LocalCluster(num_ps=1) as cluster, ss.connect(cluster.cluster_spec):
        table = ss.get_variable("table", [NUM_ROWS, WIDTH], initializer=ss.zeros_initializer())
        for _ in range(5):
            scatter(table)
        eventually(is_compiled, message="the kernel is compiled")
        for _ in range(5):
            scatter(table)
        np.testing.assert_array_equal(table.read_value(), expected)
