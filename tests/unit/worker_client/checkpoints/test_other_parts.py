"""A program that cuts its variables by the number of ps tasks goes on where that number is another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.errors import ShapeMismatchError
from tests.unit.worker_client.checkpoints.small_clusters import Model, SmallCluster, assert_equal
from worker_client.client import Client


def cut(client: Client, parts: int, rows: int = 7, dtype: Any = np.float32) -> Any:
    with client.as_default(), ss.variable_scope("layer"):
        return ss.get_variable("weights", [rows, 2], dtype=dtype, partitioner=ss.fixed_size_partitioner(parts))


@pytest.mark.parametrize(("before", "after"), [(3, 2), (2, 3), (1, 2), (2, 1), (4, 3)])
def test_a_restored_variable_stays_in_its_parts(tmp_path: Path, before: int, after: int) -> None:
    with SmallCluster(before) as cluster:
        client = cluster.client()
        model = Model(client, parts=max(2, before))
        expected = cut(client, before).read_value()
        model.train(0, 2)
        client.save(tmp_path, name="x")
        model.train(2, 2)
        trained = model.values()
    with SmallCluster(after) as cluster:
        client = cluster.client()
        client.restore(tmp_path)
        found = cut(client, after)
        assert len(found) == before
        np.testing.assert_array_equal(found.read_value(), expected)
        with client.as_default(), ss.variable_scope("layer", reuse=True):
            assert ss.get_variable("weights", [7, 2], partitioner=ss.fixed_size_partitioner(after)) is found
        other = cluster.client(1)
        np.testing.assert_array_equal(cut(other, after).read_value(), expected)
        model = Model(client, parts=max(2, after))
        model.train(2, 2)
        assert_equal(model.values(), trained)


@pytest.mark.parametrize(
    "optimizer",
    [
        ss.train.Adadelta(0.1),
        ss.train.Adagrad(0.1),
        ss.train.AdagradDA(0.1),
        ss.train.Adam(0.1),
        ss.train.AdamW(0.1),
        ss.train.Ftrl(0.1, l1_regularization_strength=0.01),
        ss.train.GroupFtrl(0.1),
        ss.train.Lion(0.1),
        ss.train.Momentum(0.1, 0.9),
        ss.train.ProximalAdagrad(0.1),
        ss.train.RMSProp(0.1, momentum=0.5, centered=True),
        ss.train.RowWiseAdagrad(0.1),
    ],
    ids=lambda each: type(each).__name__,
)
def test_slots_are_cut_as_their_variables_are(tmp_path: Path, optimizer: ss.train.Optimizer) -> None:
    def train(client: Client, weights: Any, first: int) -> None:
        with client.as_default():
            for step in range(first, first + 3):
                gradient = np.random.default_rng(step).standard_normal((7, 2)).astype(np.float32)
                optimizer.apply_gradients([(gradient, weights)])

    with SmallCluster(3) as cluster:
        client = cluster.client()
        weights = cut(client, 3)
        train(client, weights, 0)
        client.save(tmp_path, name="x")
        train(client, weights, 3)
        expected = weights.read_value()
    for number, parts in ((2, 2), (1, 1), (2, 5)):
        with SmallCluster(number) as cluster:
            client = cluster.client()
            weights = cut(client, parts)
            assert not [row for row in client.restore(tmp_path).variables if row.outcome != "restored"]
            train(client, weights, 3)
            assert_equal([weights.read_value()], [expected])


def test_what_is_not_alike_is_an_error_still(cluster: SmallCluster) -> None:
    cut(cluster.client(), 3)
    with pytest.raises(ShapeMismatchError):
        cut(cluster.client(1), 2, rows=8)
    with pytest.raises(ss.errors.DTypeMismatchError):
        cut(cluster.client(2), 2, dtype=np.float64)


def test_a_variable_that_only_has_the_name_of_a_part_is_an_error_still(cluster: SmallCluster) -> None:
    with cluster.client().as_default():
        ss.get_variable("layer/weights/part_0", [3, 2])
    with pytest.raises(ShapeMismatchError):
        cut(cluster.client(1), 2)


def test_a_part_that_was_not_trained_has_no_slots_after_a_restore(tmp_path: Path) -> None:
    def train(client: Client, step: int, number: int) -> None:
        with client.as_default():
            parts = list(client.variable("layer/weights"))[:number]
            optimizer = ss.train.Adam(0.1)
            optimizer.apply_gradients([(np.full(part.shape, step + 1.0, np.float32), part) for part in parts])

    values, slots = [], []
    with SmallCluster(2) as cluster:
        client = cluster.client()
        cut(client, 3)
        train(client, 0, 1)  # as when a save comes between the ps tasks' first steps
        client.save(tmp_path, name="x")
        slots.append(sorted(each.name for each in client.variables() if each.slot_of))
        train(client, 1, 3)
        values.append(client.variable("layer/weights").read_value())
    with SmallCluster(3) as cluster:
        client = cluster.client()
        client.restore(tmp_path)
        slots.append(sorted(each.name for each in client.variables() if each.slot_of))
        train(client, 1, 3)
        values.append(client.variable("layer/weights").read_value())
    assert slots[0] == slots[1] != []
    assert_equal(values[:1], values[1:])
