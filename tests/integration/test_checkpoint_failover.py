"""A checkpoint is restored to ps tasks with backups, and every pair fails over: the backups have what was restored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import worker_client as ss
from ps_cluster import LocalCluster
from ps_protocol.cluster_spec import PS_JOB, TaskId
from tests.conftest import Eventually
from tests.integration.test_failover import Failover
from tests.unit.worker_client.checkpoints.small_clusters import Model, assert_equal

pytestmark = pytest.mark.integration

NUM_PS = 2


@pytest.fixture
def failover(eventually: Eventually) -> Iterator[Failover]:
    with LocalCluster(NUM_PS, replicas=1, ps_arguments=("--lease", "2")) as cluster:
        yield Failover(cluster, eventually)


def test_backups_have_what_was_restored(failover: Failover, tmp_path: Path) -> None:
    failover.heal()
    with ss.connect(failover.spec, operation_timeout_s=60.0) as client:
        model = Model(client)
        model.train(0, 2)
        client.save(tmp_path, name="x")
        at_save = model.values()
        model.train(2, 2)
        client.restore(tmp_path / "x")
        for index in range(NUM_PS):
            failover.kill(TaskId(PS_JOB, index))
        # The same connection goes on: the backups have the identity of the restored state too.
        assert_equal(model.values(), at_save)
        model.train(2, 3)
        expected = model.values()
    with ss.connect(failover.spec) as client:
        assert_equal(Model(client).values(), expected)
