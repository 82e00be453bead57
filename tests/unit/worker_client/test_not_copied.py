"""What is bound to this process refuses to be pickled and copied; what is a plain value can be."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest

import shardscope as ss
import worker_client.compat.v1 as tf
from ps_protocol import errors
from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import InvalidValueError, SettingError, ValueRangeError
from ps_protocol.operations import VariableSpec
from tests.unit.worker_client.clusters import SPEC, InProcessCluster
from worker_client.graph.definition import VariableDefinition

COPIERS = [pickle.dumps, copy.copy, copy.deepcopy]


@pytest.fixture
def client() -> Iterator[ss.Client]:
    with InProcessCluster() as cluster, cluster.client() as worker:
        yield worker


def whole() -> ss.Variable:
    with ss.variable_scope("scope", reuse=ss.AUTO_REUSE):
        variable: ss.Variable = ss.get_variable("whole", [4], initializer=ss.zeros_initializer())
    return variable


def in_parts() -> ss.PartitionedVariable:
    halves = ss.fixed_size_partitioner(2)
    with ss.variable_scope("scope", reuse=ss.AUTO_REUSE, partitioner=halves):
        variable: ss.PartitionedVariable = ss.get_variable("parts", [4], initializer=ss.zeros_initializer())
    return variable


BOUND_TO_A_CONNECTION: dict[str, tuple[Callable[[ss.Client], Any], str]] = {
    "variable": (lambda _: whole(), r"Variable 'scope/whole:0' .* by its name there, or pass .* numpy\(\)"),
    "partitioned": (lambda _: in_parts(), r"PartitionedVariable 'scope/parts' .* get it by its name there"),
    "found by name": (lambda client: client.variable(whole().spec.name), "'scope/whole:0' .* by its name"),
    "client": (lambda client: client, "Client .* cluster_spec"),
    "future": (lambda _: whole().assign_add([0.0] * 4, wait=False), r"result\(\)"),
    "future of parts": (lambda _: in_parts().assign_add([0.0] * 4, wait=False), r"result\(\)"),
    "mirror": (lambda _: ss.mirror([whole()]), "Mirror .* make one there"),
    "graph": (lambda client: client.graph, "Graph"),
    "operation": (lambda _: whole().op, "Operation 'scope/whole'"),
    "round robin": (lambda _: ss.RoundRobinStrategy(2), "RoundRobinStrategy .* make one for the other process"),
    "greedy": (lambda _: ss.GreedyLoadBalancingStrategy(2, ss.byte_size_load_fn), "GreedyLoadBalancingStrategy"),
    "cluster": (lambda _: ss.LocalCluster(), "LocalCluster .* cluster_spec"),
}


@pytest.mark.parametrize("copier", COPIERS)
@pytest.mark.parametrize("name", BOUND_TO_A_CONNECTION)
def test_what_a_connection_holds_is_not_copied(client: ss.Client, name: str, copier: Callable[[Any], Any]) -> None:
    make, words = BOUND_TO_A_CONNECTION[name]
    with client.as_default():
        bound = make(client)
        with pytest.raises(TypeError, match=f"(?s){words}"):
            copier(bound)


@pytest.mark.parametrize("copier", [pickle.dumps, copy.deepcopy])
def test_an_object_that_holds_a_variable_is_told_of_the_variable(
    client: ss.Client, copier: Callable[[Any], Any]
) -> None:
    with client.as_default():
        model = {"weights": [whole()]}
    with pytest.raises(TypeError, match=r"'scope/whole:0' is bound to a connection of this process"):
        copier(model)


def test_an_observer_and_its_variables_are_not_copied() -> None:
    with InProcessCluster() as cluster:
        with cluster.client().as_default():
            whole()
        observer = cluster.client(observer=True)
        for bound in (observer, observer.variable("scope/whole")):
            with pytest.raises(TypeError, match="bound to"):
                pickle.dumps(bound)


def in_graph() -> dict[str, Any]:
    variable = tf.get_variable("scope/whole", [4], initializer=ss.zeros_initializer())
    return {
        "Variable 'scope/whole:0'": variable,
        "Variable 'scope/parts'": tf.get_variable(
            "scope/parts", [4], initializer=ss.zeros_initializer(), partitioner=ss.fixed_size_partitioner(2)
        ),
        "Tensor 'added:0'": tf.add(variable, 1.0, name="added"),
        "Tensor 'fed:0'": tf.placeholder(tf.float32, [2], name="fed"),
        "Operation 'scope/whole'": variable.op,
        "Tensor 'sparse/indices:0'": tf.SparseTensor(
            tf.constant([[0]], tf.int64, name="sparse/indices"), tf.constant([1.0]), tf.constant([2], tf.int64)
        ),
    }


@pytest.mark.parametrize("copier", [pickle.dumps, copy.deepcopy])
def test_what_belongs_to_a_graph_is_not_copied(copier: Callable[[Any], Any]) -> None:
    with tf.Graph().as_default() as graph, closing(tf.Session()) as session:
        for words, bound in in_graph().items():
            with pytest.raises(TypeError, match=f"{words} is bound to a graph of this process"):
                copier(bound)
        for bound in (graph, session):
            with pytest.raises(TypeError, match="is bound to"):
                copier(bound)


def a_definition() -> VariableDefinition:
    with tf.Graph().as_default():
        definition: VariableDefinition = tf.get_variable("v", [2]).definition
        return definition


def test_plain_parts_of_what_is_bound_are_refused_for_what_they_hold() -> None:
    with pytest.raises(TypeError, match="is bound to a graph of this process"):
        pickle.dumps(a_definition())


PLAIN: dict[str, Any] = {
    "cluster spec": SPEC,
    "task": ss.TaskId("ps", 1),
    "TF_CONFIG": ss.TfConfig(SPEC, ss.TaskId("worker", 0)),
    "device": ss.DeviceSpec(job="ps", task=1),
    "variable spec": VariableSpec("v", np.dtype(np.float32), (2, 3)),
    "dtype": tf.bfloat16,
    "shape": tf.TensorShape([None, 2]),
    "dimension": tf.Dimension(3),
    "reuse": ss.AUTO_REUSE,
    "config": tf.ConfigProto(),
}

WITHOUT_EQUALITY = ["config"]


@pytest.mark.parametrize("name", PLAIN)
def test_plain_values_are_copied(name: str) -> None:
    value = PLAIN[name]
    for again in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):
        assert type(again) is type(value)
        assert repr(again) == repr(value)
        assert name in WITHOUT_EQUALITY or again == value


@pytest.mark.parametrize(
    "partitioner",
    [ss.fixed_size_partitioner(3), ss.variable_axis_size_partitioner(40), ss.min_max_variable_partitioner(3, 0, 40)],
    ids=["fixed size", "axis size", "least size"],
)
def test_a_partitioner_is_passed_on_to_other_processes(partitioner: Any) -> None:
    wanted = {"shape": tf.TensorShape([10, 4]), "dtype": tf.float32}
    for again in (pickle.loads(pickle.dumps(partitioner)), copy.copy(partitioner), copy.deepcopy(partitioner)):
        assert again(**wanted) == partitioner(**wanted) != [1, 1]


INITIALIZERS: dict[str, Any] = {
    "zeros": ss.zeros_initializer(),
    "constant": ss.constant_initializer([1.0, 2.0, 3.0, 4.0]),
    "random_uniform": ss.random_uniform_initializer(-1.0, 1.0, seed=3),
    "random_normal": ss.random_normal_initializer(seed=3),
    "truncated_normal": ss.truncated_normal_initializer(seed=3),
    "glorot_uniform": ss.glorot_uniform_initializer(seed=3),
    "he_normal": ss.he_normal(seed=3),
    "orthogonal": ss.orthogonal_initializer(seed=3),
    "identity": ss.identity_initializer(2.0),
}


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers_are_copied(name: str) -> None:
    initializer = INITIALIZERS[name]
    for again in (pickle.loads(pickle.dumps(initializer)), copy.copy(initializer), copy.deepcopy(initializer)):
        assert type(again) is type(initializer)
        assert again.get_config() == initializer.get_config()
        np.testing.assert_array_equal(again([2, 2]), initializer([2, 2]))


def test_values_of_a_variable_are_copied(client: ss.Client) -> None:
    with client.as_default():
        variable = whole()
        values = (variable.numpy(), variable.push_buffer(), variable.read_value(copy=False), client.variables())
    for value in values:
        for again in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):
            assert type(again) is type(value)
            np.testing.assert_array_equal(again, value)


ERRORS = [*errors.ERROR_TYPES.values(), errors.ShardscopeError, InvalidValueError, ValueRangeError]


@pytest.mark.parametrize("error_type", ERRORS)
def test_errors_are_copied_with_what_they_say(error_type: type[errors.ShardscopeError]) -> None:
    error = error_type("gone", variable="w", task="ps:0", retryable=True, retry_after_s=2.0)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is error_type
        assert vars(again) == vars(error)
        assert again.args == error.args


def test_an_error_of_an_operation_leaves_the_operation_behind() -> None:
    with tf.Graph().as_default():
        error = errors.NotFoundError(None, tf.constant(1.0).op, "gone")
    assert pickle.loads(pickle.dumps(error)).message == "gone"


def test_errors_of_settings_and_specs_are_copied() -> None:
    assert pickle.loads(pickle.dumps(SettingError("wrong"))).args == ("wrong",)
    with pytest.raises(ValueError, match="ps") as caught:
        ClusterSpec({"ps": ["a:1"]}).task_address("ps", 3)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
