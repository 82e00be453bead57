"""Rounds of workers that train together in checkpoints: a save has each of them on all ps tasks or on none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ps_protocol.errors import AbortedError, ResourceExhaustedError
from ps_protocol.operations import Result
from ps_protocol.training.round_operations import Commit
from ps_server.store.round_calls import RoundCalls
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from tests.unit.worker_client.optimizers.together import OPTIMIZERS, Worker, alone, gradients
from worker_client.checkpoints import saving


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    with SmallCluster(2) as cluster:
        yield cluster


def halfway(cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker whose second round is on ps task 0 alone, which it has not gone on to mend."""
    worker, commit = Worker(cluster.client(), OPTIMIZERS["sgd"](name="sgd", sync="bsp")), RoundCalls.commit
    worker.step(gradients(0, 0))

    def refused(calls: RoundCalls, operation: Commit) -> Result:
        if operation.name.endswith("/1"):
            raise ResourceExhaustedError("there is no memory now", retryable=False)
        return commit(calls, operation)

    with monkeypatch.context() as patch:
        patch.setattr(RoundCalls, "commit", refused)
        with pytest.raises(ResourceExhaustedError):
            worker.step(gradients(0, 1))
    return worker


def test_a_save_does_not_cut_a_round_in_two(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    halfway(cluster, monkeypatch)
    saved = cluster.client(1).save(tmp_path / "saved").path
    with SmallCluster(3) as other:
        worker = Worker(other.client(), OPTIMIZERS["sgd"](name="sgd", sync="bsp"))
        worker.client.restore(saved)
        for found, expected in zip(worker.values(), alone(OPTIMIZERS["sgd"], 1, 2), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
        assert worker.step(gradients(0, 2))[:3] == ("applied", 1, 1)
        worker.client.save(tmp_path / "again")


def test_a_save_that_may_not_bring_a_round_gives_up(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = halfway(cluster, monkeypatch)
    monkeypatch.setattr(saving, "MOST_HALFWAY_S", 0.0)
    with pytest.raises(AbortedError, match="no moment at which each round of sgd was on all ps tasks or on none"):
        worker.client.save(tmp_path / "saved")
    assert list((tmp_path / "saved").glob("*")) == []
    worker.step(gradients(0, 2))  # which brings the round as well
    worker.client.save(tmp_path / "saved")
