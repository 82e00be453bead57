"""Which receipts of shards a worker has a ps task drop: those of the epoch that its update is of, and each once."""

from __future__ import annotations

from typing import Any

import pytest

from ps_protocol.shared_objects import Act, decode_json
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from worker_client.objects.shard_taking import Taking

SHARD: Any = None


@pytest.fixture
def taking(cluster: SmallCluster) -> Taking:
    return cluster.client().taking_shards("train", {"count": 9, "epochs": 3, "shuffle_seed": None})


def dropped(taking: Taking, epoch: int, ps_task: int = 1) -> Any:
    operation = taking.receipt(ps_task, {"do": "update", "epoch": epoch}).operation
    assert isinstance(operation, Act)
    return decode_json(operation.event.tobytes(), "it").get("dropped")


def test_a_receipt_is_dropped_once_and_where_it_is(taking: Taking) -> None:
    taking.completed(SHARD, 0, 3, [1])
    taking.completed(SHARD, 0, 5, [1])
    assert dropped(taking, 0, 0) is None
    assert dropped(taking, 0) == [3, 5]
    assert dropped(taking, 0) is None


def test_receipts_of_an_earlier_epoch_are_not_taken_for_those_of_the_next(taking: Taking) -> None:
    taking.completed(SHARD, 0, 3, [1])
    assert dropped(taking, 1) is None
    assert dropped(taking, 0) is None


def test_of_two_epochs_the_receipts_of_the_newer_one_are_dropped(taking: Taking) -> None:
    taking.completed(SHARD, 0, 3, [1])
    taking.completed(SHARD, 1, 4, [1])
    assert dropped(taking, 1) == [4]
