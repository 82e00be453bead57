"""What a cluster has, and its variables by their names alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from ps_protocol.operations import Declare, PartitionSlice, VariableSpec
from tests.unit.worker_client.clusters import InProcessCluster
from worker_client.client import Client
from worker_client.initializers import constant_initializer, ones_initializer
from worker_client.optimizers.rules import Momentum
from worker_client.scopes.variable_scope import get_variable, variable_scope
from worker_client.variables.catalog import VariableEntry, VariablePart
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.partitioners import fixed_size_partitioner
from worker_client.variables.variable import Variable

F4 = np.dtype(np.float32)


@pytest.fixture
def worker(cluster: InProcessCluster) -> Client:
    """Has made variables of each kind."""
    client = cluster.client(initialize=False)
    with client.as_default(), variable_scope("scope"):
        get_variable("whole", [2, 3], initializer=ones_initializer()).initialize()
        get_variable("bare", [], dtype=np.int64)
        table = get_variable(
            "table", [3, 2], initializer=constant_initializer(2.0), partitioner=fixed_size_partitioner(2)
        )
        for part in table:
            part.initialize()
    return client


def test_a_cluster_without_variables_has_none(cluster: InProcessCluster) -> None:
    client = cluster.client()
    assert client.variables() == []
    with pytest.raises(NotFoundError, match="it has no variables yet"):
        client.variable("w")


@pytest.mark.usefixtures("worker")
def test_slots_say_whose_they_are(cluster: InProcessCluster) -> None:
    client = cluster.client(1)
    optimizer = Momentum(0.1, 0.9)
    for name in ("scope/table", "scope/whole"):
        optimizer.slots(client.variable(name))
    assert {each.name: each.slot_of for each in client.variables()} == {
        "scope/bare": "",
        "scope/table": "",
        "scope/table/Momentum/momentum": "scope/table",
        "scope/table/part_0/Momentum/step": "scope/table",
        "scope/table/part_1/Momentum/step": "scope/table",
        "scope/whole": "",
        "scope/whole/Momentum/momentum": "scope/whole",
        "scope/whole/Momentum/step": "scope/whole",
    }


@pytest.mark.usefixtures("worker")
def test_what_there_is_is_listed_by_name_and_partitioned_ones_whole(cluster: InProcessCluster) -> None:
    bare, table, whole = cluster.client(1).variables()
    assert bare == VariableEntry("scope/bare", (), np.dtype(np.int64), "ps:1", (), False, 8)
    assert whole == VariableEntry("scope/whole", (2, 3), F4, "ps:0", (), True, 24)
    assert (table.name, table.shape, table.dtype, table.initialized, table.size_bytes) == (
        "scope/table",
        (3, 2),
        F4,
        True,
        24,
    )
    assert table.task == "ps:0,ps:1"
    assert table.parts == (
        VariablePart("scope/table/part_0", "ps:0", (0, 0), (2, 2)),
        VariablePart("scope/table/part_1", "ps:1", (2, 0), (1, 2)),
    )


def test_a_variable_is_found_without_shape_or_dtype(cluster: InProcessCluster, worker: Client) -> None:
    other = cluster.client(1)
    found = other.variable("scope/whole")
    assert isinstance(found, Variable)
    assert (found.name, found.shape, found.dtype, found.device) == ("scope/whole:0", (2, 3), F4, "/job:ps/task:0")
    assert found is other.variable("scope/whole:0")
    found.assign_add(1.0)
    with worker.as_default(), variable_scope("scope", reuse=True):
        np.testing.assert_array_equal(get_variable("whole").numpy(), np.full((2, 3), 2.0))


def test_it_is_no_part_of_the_table_of_names(worker: Client) -> None:
    found = worker.variable("scope/whole")
    with worker.as_default(), variable_scope("scope"):
        with variable_scope("", reuse=True):
            pass
        with pytest.raises(ValueError, match="already exists"):  # as it does without having been looked up
            get_variable("whole", [2, 3])
    fresh = worker.variable("scope/bare")
    assert fresh.graph is found.graph is not worker.graph
    with worker.as_default():
        get_variable("scope2/whole", [1])
    assert worker.graph.get_operations()[-1].name == "scope2/whole"


@pytest.mark.usefixtures("worker")
def test_a_partitioned_variable_is_found_whole_and_by_part(cluster: InProcessCluster) -> None:
    client = cluster.client(1)
    table = client.variable("scope/table")
    assert isinstance(table, PartitionedVariable)
    assert (table.name, table.shape.as_list(), table.partitions) == ("scope/table", [3, 2], [2, 1])
    table.assign(np.arange(6.0).reshape(3, 2))
    np.testing.assert_array_equal(client.variable("scope/table/part_1").numpy(), [[4, 5]])
    assert next(iter(table)) is client.variable("scope/table/part_0")
    assert client.variable("scope/table") is table


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("name", [None, 3, b"scope/whole"])
def test_what_is_no_name_is_refused(cluster: InProcessCluster, name: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="found by its full name"):
        cluster.client(1).variable(name)


@pytest.mark.usefixtures("worker")
def test_a_name_that_is_not_there_is_an_error_that_names_those_that_are_like_it(cluster: InProcessCluster) -> None:
    client = cluster.client(1)
    with pytest.raises(NotFoundError, match="no variable scope/hole in the cluster; did you mean scope/whole"):
        client.variable("scope/hole")
    with pytest.raises(NotFoundError, match="it has 3 others, which `shardscope ls` lists"):
        client.variable("xyz")
    with client.as_default(), variable_scope("a_long_scope/of_a_layer"):
        get_variable("w", [2])
    for part in ("w", "of_a_layer/w", "a_long_scope"):  # too short to be like it
        with pytest.raises(NotFoundError, match="did you mean a_long_scope/of_a_layer/w"):
            client.variable(part)


def test_a_partitioned_variable_of_which_parts_are_missing_is_refused(cluster: InProcessCluster) -> None:
    client = cluster.client()
    spec = VariableSpec("t/part_1", F4, (1, 2), PartitionSlice("t", (3, 2), (2, 0)))
    client.fanout.run(0, Declare(spec), expected_reply_bytes=0)
    with pytest.raises(FailedPreconditionError, match=r"t \[3, 2\] .* only t/part_1"):
        client.variable("t")
    assert client.variables()[0].shape == (3, 2)


def test_what_was_found_by_name_has_no_initializer(worker: Client) -> None:
    with pytest.raises(FailedPreconditionError, match="scope/bare was found by its name alone"):
        worker.variable("scope/bare").initialize()
