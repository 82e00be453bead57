"""The recorded programs on a cluster of two ps tasks: every variable that they make holds what it should."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from ps_cluster import LocalCluster
from ps_protocol.initial_values import initial_value
from ps_protocol.operations import Array
from tests.conformance import replay
from worker_client.client import Client, connect
from worker_client.graph import Graph
from worker_client.graph_variable import GraphVariable
from worker_client.session import Session

pytestmark = pytest.mark.integration

NUM_PS = 2
RECORDS = replay.records(replay.TRACES / "scopes.jsonl")[::10]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(num_ps=NUM_PS, num_workers=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Client]:
    client = connect(cluster.cluster_spec)
    yield client
    client.close()


@pytest.fixture(scope="module")
def other_worker(cluster: LocalCluster) -> Iterator[Client]:
    client = connect(cluster.cluster_spec, task_index=1)
    yield client
    client.close()


def on_this_cluster(statement: Any) -> Any:
    """Returns a statement that spreads variables over no more ps tasks than there are."""
    if isinstance(statement, dict):
        return {
            key: min(value, NUM_PS) if key == "ps_tasks" else on_this_cluster(value) for key, value in statement.items()
        }
    return [on_this_cluster(each) for each in statement] if isinstance(statement, list) else statement


def built(record: dict[str, Any]) -> tuple[Graph, list[GraphVariable]]:
    """Runs a program in a scope of its own, so that its names are not another program's; returns its variables."""
    own_scope = {"do": "variable_scope", "name": f"seed{record['seed']}", "as": "all", "body": record["program"]}
    interpreter = replay.scope_programs.Interpreter(tf)
    with tf.Graph().as_default() as graph:
        interpreter.block([on_this_cluster(own_scope)])
    collected = [member for key in graph.get_all_collection_keys() for member in graph.get_collection(key)]
    variables = [each for each in [*interpreter.variables.values(), *collected] if isinstance(each, tf.Variable)]
    return graph, list(dict.fromkeys(variables))


def expected(variable: GraphVariable, job_seed: int) -> Array:
    return initial_value(variable.spec, variable.initializer_spec(job_seed))


def placed_on_ps(variable: GraphVariable) -> bool:
    return "/job:worker" not in variable.device


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"seed{record['seed']}")
def test_variables_hold_their_initial_values_and_count_an_update_once(
    record: dict[str, Any], client: Client, other_worker: Client
) -> None:
    graph, variables = built(record)
    numeric = [variable for variable in variables if variable.dtype.is_floating]
    with graph.as_default():
        updates = [tf.assign_add(variable, np.ones(variable.shape, variable.dtype)) for variable in numeric]
    with Session(client, graph) as session:
        session.run([variable.initializer for variable in variables])
        values = session.run(variables)
        for variable, value in zip(variables, values, strict=True):
            np.testing.assert_array_equal(value, expected(variable, client.job_seed), err_msg=variable.name)
            assert value.dtype == variable.dtype
        session.run([update.op for update in updates])
        updated = session.run(numeric)
    before = dict(zip(variables, values, strict=True))
    for variable, value in zip(numeric, updated, strict=True):
        np.testing.assert_array_equal(value, before[variable] + 1, err_msg=variable.name)
    shared = [variable for variable in numeric if placed_on_ps(variable)]
    with Session(other_worker, graph) as session:
        seen = session.run(shared)
    for variable, value in zip(shared, seen, strict=True):
        np.testing.assert_array_equal(value, before[variable] + 1, err_msg=variable.name)


def test_the_sample_has_variables_on_both_tasks_and_of_all_kinds() -> None:
    variables = [variable for record in RECORDS for variable in built(record)[1]]
    assert len(variables) > 10 * len(RECORDS) / 4
    assert {"/job:ps/task:0", "/job:ps/task:1"} <= {variable.device for variable in variables}
    assert {"float32", "float64", "int32"} <= {variable.dtype.name for variable in variables}
    assert any(variable.spec.slice is not None for variable in variables)
