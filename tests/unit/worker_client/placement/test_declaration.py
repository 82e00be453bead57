"""Declaring: one exchange with each task for all, patience with other clients, devices that make sense."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import AbortedError, InvalidArgumentError, ShapeMismatchError
from ps_protocol.operations import Declare, Result, VariableSpec
from ps_protocol.service_types import Placement, Proposal
from ps_protocol.task_id import TaskId
from worker_client.connection.fanout import Fanout, Routed
from worker_client.connection.retry import RetryPolicy
from worker_client.graph.graph import Graph
from worker_client.placement.declaration import Declaration, Declarer


class FakeCluster:
    """A fan-out and a directory that keep what they are asked; the directory puts everything on ps 1."""

    def __init__(self) -> None:
        self.proposals: list[Proposal] = []
        self.rounds: list[list[Routed]] = []
        self.errors: list[Exception] = []

    def handle(self, ps_task: int) -> FakeCluster:
        assert ps_task == 0
        return self

    def call(self, method: Callable[..., object], *, what: str) -> object:
        del what
        return method(self, 1.0)

    @property
    def welcome(self) -> FakeCluster:
        return self

    store = None

    def place(self, proposals: Sequence[Proposal], *, store: object, timeout_s: float) -> list[Placement]:
        del store, timeout_s
        self.proposals += proposals
        return [Placement(each.spec, 1) for each in proposals]

    def run_all(self, routed: Sequence[Routed]) -> list[Result]:
        self.rounds.append(list(routed))
        if self.errors:
            raise self.errors.pop(0)
        return [Result(0, True) for _ in routed]


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def declarer(cluster: FakeCluster) -> Declarer:
    return Declarer(
        cast(Fanout, cluster),
        cluster_spec=ClusterSpec({"ps": ["h:1", "h:2"], "worker": ["h:3"]}),
        task=TaskId("worker", 0),
        ps_strategy=lambda op: len(op.name) % 2,
        retry=RetryPolicy(random=random.Random(0), sleep=lambda _: None),
        timeout_s=5,
    )


def declaration(name: str, device: str = "") -> Declaration:
    with (graph := Graph()).device(device or None):
        op = graph.create_op("VariableV2", name=name)
    return Declaration(VariableSpec(name, np.dtype("float32"), (2,)), op, None)


def test_all_are_placed_and_declared_together(declarer: Declarer, cluster: FakeCluster) -> None:
    names = ["a", "bb", "c"]
    assert declarer.declare([declaration(name) for name in names]) == [1, 1, 1]
    assert [(each.spec.name, each.ps_task) for each in cluster.proposals] == [("a", 1), ("bb", 0), ("c", 1)]
    (declared,) = cluster.rounds
    assert [(each.ps_task, each.operation.name) for each in declared] == [(1, name) for name in names]
    assert all(isinstance(each.operation, Declare) for each in declared)


def test_a_device_scope_is_proposed(declarer: Declarer, cluster: FakeCluster) -> None:
    declarer.declare([declaration("a", "/job:ps/task:0"), declaration("bb", "/job:ps")])
    assert [each.ps_task for each in cluster.proposals] == [0, 0]


def test_another_client_that_is_initialising_is_waited_for(declarer: Declarer, cluster: FakeCluster) -> None:
    cluster.errors = [AbortedError("another client was still initialising a"), AbortedError("again")]
    assert declarer.declare([declaration("a")]) == [1]
    assert cluster.errors == []
    assert len(cluster.rounds) == 3


def test_a_disagreement_is_final(declarer: Declarer, cluster: FakeCluster) -> None:
    cluster.errors = [ShapeMismatchError("a differs")]
    with pytest.raises(ShapeMismatchError):
        declarer.declare([declaration("a")])
    assert len(cluster.rounds) == 1


@pytest.mark.parametrize("device", ["/job:ps/task:2", "/job:worker/task:1", "/job:evaluator"])
def test_a_device_that_is_not_of_the_cluster_is_refused(declarer: Declarer, cluster: FakeCluster, device: str) -> None:
    with pytest.raises(InvalidArgumentError, match="variable a is placed on"):
        declarer.declare([declaration("a", device)])
    assert cluster.rounds == []


def test_a_variable_on_this_worker_is_allowed_with_one_warning(
    declarer: Declarer, cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert declarer.declare([declaration("a", "/job:worker/task:0")]) == [None]
    assert cluster.proposals == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]
