"""A small cluster for the tests of checkpoints."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    with SmallCluster(2) as cluster:
        yield cluster
