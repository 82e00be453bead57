"""A checkpoint is restored to ps tasks with backups, and every pair fails over: the backups have what was restored."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import worker_client as ss
from ps_cluster import LocalCluster
from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB, TaskId
from ps_protocol.errors import ShardscopeError
from tests.conftest import Eventually
from tests.integration.test_failover import Failover
from tests.unit.worker_client.checkpoints.small_clusters import Model, assert_equal

pytestmark = pytest.mark.integration

NUM_PS = 2


@pytest.fixture
def failover(eventually: Eventually) -> Iterator[Failover]:
    with LocalCluster(NUM_PS, replicas=1, ps_arguments=("--lease", "2")) as cluster:
        yield Failover(cluster, eventually)
        cluster.signal_all_ps(signal.SIGKILL)  # one whose other is gone would wait for it


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


@pytest.mark.parametrize("index", range(NUM_PS))
def test_a_primary_hands_over_in_the_middle(failover: Failover, tmp_path: Path, index: int) -> None:
    """In good order, in the middle of a save and of a restore: what is there afterwards is whole, old or new."""
    ended: list[str] = []

    def end_once(_done: int, _all: int) -> None:
        if not ended:
            ended.append(str(task))
            failover.end(task)

    failover.heal()
    with ss.connect(failover.spec, operation_timeout_s=60.0) as client:
        model = Model(client)
        model.train(0, 2)
        task = TaskId(PS_JOB, index)
        with contextlib.suppress(ShardscopeError):
            client.save(tmp_path, name="x", show_progress=end_once)
        assert ended
        for each in ss.checkpoint.list(tmp_path):
            ss.checkpoint.verify(tmp_path / each.name)
        model.train(2, 1)
        at_save = model.values()
        client.save(tmp_path, name="y")
        model.train(3, 1)
        failover.cluster.restart(task)
        failover.heal()
        task, is_restored = TaskId(BACKUP_JOB, index), False
        ended.clear()
        before = model.values()
        with contextlib.suppress(ShardscopeError):
            client.restore(tmp_path / "y", show_progress=end_once)
            is_restored = True
        assert ended
    with ss.connect(failover.spec, operation_timeout_s=60.0) as client:
        model = Model(client)
        assert_equal(model.values(), at_save if is_restored else before)
        client.restore(tmp_path / "y")
        assert_equal(model.values(), at_save)
