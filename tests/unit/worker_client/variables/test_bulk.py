"""Many variables at once: one exchange for each ps task; what does not fit together is refused before any."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError, ShapeMismatchError
from tests.unit.worker_client.clusters import TIMEOUT_S, InProcessCluster
from worker_client.client import Client
from worker_client.initializers import zeros_initializer
from worker_client.scopes.variable_scope import get_variable
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.partitioners import fixed_size_partitioner
from worker_client.variables.variable import Variable


@pytest.fixture
def cluster() -> Iterator[InProcessCluster]:
    with InProcessCluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster: InProcessCluster) -> Iterator[Client]:
    with cluster.client() as client:
        yield client


@pytest.fixture
def variables(client: Client) -> list[Any]:
    """One on each ps task, and one that is cut over both."""
    zeros = zeros_initializer()
    cut: PartitionedVariable = get_variable("cut", [4, 2], initializer=zeros, partitioner=fixed_size_partitioner(2))
    whole: list[Variable] = [get_variable(name, [2], initializer=zeros) for name in ("a", "b")]
    return [*whole, cut]


def lists(values: Any) -> list[Any]:
    return [value.tolist() for value in values]


def test_each_ps_task_is_asked_once(client: Client, cluster: InProcessCluster, variables: list[Any]) -> None:
    before = cluster.batches()
    client.assign_add_all([(each, np.full(each.shape, index)) for index, each in enumerate(variables, 1)])
    assert lists(client.read_all(variables)) == [[1, 1], [2, 2], [[3, 3]] * 4]
    client.assign_all([(variables[1], [5, 6]), (variables[0], [7, 8])])
    assert lists(client.gather_all([(variables[0], [1]), (variables[1], [0, 0])])) == [[8], [5, 5]]
    assert [after - each for after, each in zip(cluster.batches(), before, strict=True)] == [4, 4]


def test_one_that_does_not_fit_leaves_all_as_they_are(
    client: Client, cluster: InProcessCluster, variables: list[Any]
) -> None:
    before = cluster.batches()
    with pytest.raises(ShapeMismatchError, match="variable b"):
        client.assign_add_all([(variables[0], [1, 1]), (variables[1], [1, 1, 1])])
    with pytest.raises(InvalidArgumentError, match="3 variables, but 1 versions"):
        client.read_all_if_newer(variables, [None])
    with pytest.raises(InvalidArgumentError, match="3 variables, but 2 arrays"):
        client.read_all(variables, out=[np.empty(2, np.float32)] * 2)
    assert cluster.batches() == before
    assert lists(client.read_all(variables[:2])) == [[0, 0], [0, 0]]


@pytest.mark.parametrize("wire_dtype", ["exact", "int8"])
def test_an_update_that_was_queued_cannot_be_cancelled(client: Client, variables: list[Any], wire_dtype: Any) -> None:
    delta = np.full(2, 127, np.float32)
    futures: list[Future[Any]] = [
        variables[0].assign_add(delta, wait=False, wire_dtype=wire_dtype),
        variables[1].assign(delta, wait=False, wire_dtype=wire_dtype),
        client.assign_add_all([(each, delta) for each in variables[:2]], wait=False, wire_dtype=wire_dtype),
    ]
    cancelled = [future.cancel() for future in futures]
    assert cancelled == [False, False, False]
    for future in futures:
        future.result(TIMEOUT_S)
    assert lists(client.read_all(variables[:2])) == [[254, 254], [254, 254]]


def test_after_the_end_nothing_is_sent(cluster: InProcessCluster, variables: list[Any], client: Client) -> None:
    client.close()
    before = cluster.batches()
    for call in (lambda: client.read_all(variables), lambda: client.assign_all([(variables[0], [1, 1])])):
        with pytest.raises(FailedPreconditionError, match="closed"):
            call()
    assert cluster.batches() == before


def test_buffers_to_push_from_have_the_form_of_their_variables(client: Client, variables: list[Any]) -> None:
    buffers = client.push_buffers(variables)
    assert [each.shape for each in buffers] == [(2,), (2,), (4, 2)]
    assert all(each.dtype == np.float32 and each.flags.writeable for each in buffers)
