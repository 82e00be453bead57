"""A small cluster for the tests of shared objects."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    """Two ps tasks, and four workers by the spec."""
    with SmallCluster(2) as cluster:
        yield cluster
