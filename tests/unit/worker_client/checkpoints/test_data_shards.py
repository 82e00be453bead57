"""Data shards in checkpoints: how far they are and the model are of one cut, on any number of ps tasks."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.errors import AbortedError
from tests.conftest import Eventually
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from tests.unit.worker_client.objects.test_shards import DeadError, die_at
from worker_client.checkpoints import saving
from worker_client.checkpoints.shard_cuts import cut_in_two

TIMEOUT_S = 60.0
SAMPLES = 12


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    with SmallCluster(2) as cluster:
        yield cluster


def histogram(parts: int = 2) -> Any:
    return ss.get_variable(
        "samples",
        [SAMPLES],
        np.int64,
        initializer=ss.zeros_initializer(),
        partitioner=ss.fixed_size_partitioner(parts),
    )


def count(counted: Any, shards: ss.data.Shards, most: int = 1000) -> None:
    """Counts samples, two in a piece, until so many pieces are made."""
    for shard in shards:
        own = np.arange(shard.index, SAMPLES, shards.count)
        for begin in range(shard.resume_at, len(own), 2):
            most -= 1
            if most < 0:
                return
            end = begin + 2
            piece = shard if end >= len(own) else shard.up_to(end)
            counted.scatter_add(own[begin:end], 1, completes=piece)


@pytest.mark.parametrize("num_ps", [1, 2, 3])
@pytest.mark.parametrize("pieces", [4, 5, 11])
def test_an_epoch_goes_on_behind_a_restore_on_any_number_of_ps_tasks(
    tmp_path: Path, cluster: SmallCluster, num_ps: int, pieces: int
) -> None:
    client = cluster.client()
    with client.as_default():
        counted, shards = histogram(), ss.data.Shards("train", 3, 3, shuffle_seed=5)
        count(counted, shards, pieces)
        saved = ss.save(tmp_path / "saved").path
        count(counted, shards, 3)  # which the restore takes back
    with SmallCluster(num_ps) as other, other.client().as_default():
        counted = histogram(num_ps)
        ss.restore(saved)
        progress = ss.data.Shards("train", 3, 3, shuffle_seed=5).progress()
        assert progress.epoch * 3 + progress.done == pieces // 2
        count(counted, ss.data.Shards("train", 3, 3, shuffle_seed=5))
        assert counted.numpy().tolist() == [3] * SAMPLES


def test_workers_go_on_behind_a_restore_of_the_running_cluster(tmp_path: Path, cluster: SmallCluster) -> None:
    first = cluster.client()
    with first.as_default():
        counted, shards = histogram(), ss.data.Shards("train", 3, 2)
        count(counted, shards, 3)
        saved = ss.save(tmp_path / "saved").path
        count(counted, shards, 4)
        ss.restore(saved)
        count(counted, ss.data.Shards("train", 3, 2))
        assert counted.numpy().tolist() == [2] * SAMPLES


def test_a_save_does_not_cut_the_update_of_a_shard_in_two(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    client, dying = cluster.client(), cluster.client(1)
    with client.as_default():
        counted = histogram()
    with dying.as_default(), monkeypatch.context() as patch:
        shards = ss.data.Shards("train", 1)
        shard = next(iter(shards))
        die_at(patch, dying, 2)  # the part on ps task 1 has it, the one on ps task 0 has not
        with pytest.raises(DeadError):
            dying.variable("samples").scatter_add(np.arange(SAMPLES), 1, completes=shard)
    assert counted.numpy().tolist() == [0] * 6 + [1] * 6
    cuts: list[str] = []

    def noting(*given: Any) -> str:
        cuts.append(cut_in_two(*given))
        return cuts[-1]

    monkeypatch.setattr(saving, "cut_in_two", noting)
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(client.save, tmp_path / "saved")
        eventually(lambda: len(cuts) > 2)
        assert not work.done()
        assert set(cuts) == {"the update of worker:1 for shard 0 of train"}
        dying.close()
        with client.as_default():
            for again in ss.data.Shards("train", 1):
                counted.scatter_add(np.arange(SAMPLES), 1, completes=again)
        saved = work.result(TIMEOUT_S).path
    assert cuts[-1] == ""
    with SmallCluster(3) as other, other.client().as_default():
        restored = histogram(3)
        ss.restore(saved)
        assert restored.numpy().tolist() == [1] * SAMPLES
        assert list(ss.data.Shards("train", 1)) == []


def test_a_save_gives_up_if_nobody_goes_on_with_the_shard(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = cluster.client()
    with client.as_default(), monkeypatch.context() as patch:
        counted, shards = histogram(), ss.data.Shards("train", 1)
        shard = next(iter(shards))
        die_at(patch, client, 2)
        with pytest.raises(DeadError):
            counted.scatter_add(np.arange(SAMPLES), 1, completes=shard)
    monkeypatch.setattr(saving, "MOST_HALFWAY_S", 0.0)
    with pytest.raises(AbortedError, match="the update of worker:0 for shard 0 of train has come to some of its ps"):
        client.save(tmp_path / "saved")
    assert list((tmp_path / "saved").glob("*")) == []
    counted.scatter_add(np.arange(SAMPLES), 1, completes=shard)
    client.save(tmp_path / "saved")
    assert counted.numpy().tolist() == [1] * SAMPLES
