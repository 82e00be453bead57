"""The recorded programs on a cluster of two ps tasks: every variable that they make holds what it should."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from ps_cluster import LocalCluster
from ps_protocol.initial_values.compute import initial_value
from ps_protocol.operations import Array
from tests.conformance import replay
from worker_client.client import Client, connect
from worker_client.deferred.variable import DeferredVariable
from worker_client.graph.graph import Graph
from worker_client.sessions.session import Session

pytestmark = pytest.mark.integration

NUM_PS = 2
RECORDS = replay.records(replay.TRACES / "scopes.jsonl")[::10]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(num_ps=NUM_PS, num_workers=2) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with connect(cluster.cluster_spec) as client:
        yield client


@pytest.fixture
def other_worker(cluster: LocalCluster) -> Iterator[Client]:
    with connect(cluster.cluster_spec, task_index=1) as client:
        yield client


def on_this_cluster(statement: Any, own_scope: str) -> Any:
    """Returns a statement for this cluster: no more ps tasks than there are, and no names of other programs.

    Threads begin at the root, so that what they do has to be put into the program's own scope once more, or into the
    scope that they capture; if there is none, it is left out.
    """
    if isinstance(statement, list):
        return [on_this_cluster(each, own_scope) for each in statement]
    if not isinstance(statement, dict):
        return statement
    adapted = {key: on_this_cluster(value, own_scope) for key, value in statement.items()}
    if "ps_tasks" in adapted:
        adapted["ps_tasks"] = min(adapted["ps_tasks"], NUM_PS)
    if adapted.get("do") == "thread":
        captured, body = adapted.pop("captured", None), adapted["body"]
        entered = {"do": "enter_scope", "scope": captured, "body": body} if captured else in_scope(own_scope, body)
        adapted["body"] = [entered]
    return adapted


def in_scope(name: str, body: list[Any]) -> dict[str, Any]:
    return {"do": "variable_scope", "name": name, "as": "own", "body": body}


def built(record: dict[str, Any]) -> tuple[Graph, list[DeferredVariable]]:
    """Runs a program in a scope of its own; returns its variables."""
    own_scope = f"seed{record['seed']}"
    interpreter = replay.scope_programs.Interpreter(tf)
    with tf.Graph().as_default() as graph:
        interpreter.block([in_scope(own_scope, on_this_cluster(record["program"], own_scope))])
    collected = [member for key in graph.get_all_collection_keys() for member in graph.get_collection(key)]
    variables = [each for each in [*interpreter.variables.values(), *collected] if isinstance(each, tf.Variable)]
    return graph, list(dict.fromkeys(variables))


def expected(variable: DeferredVariable, job_seed: int) -> Array:
    return initial_value(variable.spec, variable.initializer_spec(job_seed))


def is_shared(variable: DeferredVariable) -> bool:
    return not variable.definition.is_local and "/job:worker" not in variable.device


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
    shared = [variable for variable in numeric if is_shared(variable)]
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


def test_a_program_that_builds_outside_of_all_blocks_runs_on_the_connection(cluster: LocalCluster) -> None:
    with contextlib.ExitStack() as stack:
        stack.callback(tf.reset_default_graph)
        stack.enter_context(contextlib.closing(connect(cluster.cluster_spec)))
        with tf.device(tf.train.replica_device_setter(cluster=cluster.cluster_spec)), tf.variable_scope("program"):
            step = tf.train.get_or_create_global_step()
            weights = tf.get_variable("weights", [20, 20], initializer=tf.ones_initializer())
        train = tf.group(tf.assign_add(weights, 2 * weights), tf.assign_add(step, 1))
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            session.run(train)
            assert tf.train.global_step(session, step) == 1
        with connect(cluster.cluster_spec, task_index=1) as other:
            with tf.Session(other, weights.graph) as session:
                np.testing.assert_array_equal(session.run(weights), np.full([20, 20], 3, np.float32))
            with tf.variable_scope("program"):
                np.testing.assert_array_equal(tf.get_variable("weights", [20, 20]), np.full([20, 20], 3, np.float32))
