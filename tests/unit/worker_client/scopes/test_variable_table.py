"""What ``get_variable`` creates, in which order it checks, and what stays after a failure."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import pytest

from ps_protocol.errors import ShapeMismatchError
from tests.unit.worker_client.naming_fakes import FakeVariable, deferred_graph, eager_graph, refusing_graph
from worker_client.deferred.variable import DeferredVariable
from worker_client.graph.definition import VariableDefinition, VariableSynchronization
from worker_client.graph.graph import Graph
from worker_client.graph.keys import GraphKeys
from worker_client.initializers import GlorotUniform, Zeros, zeros_initializer
from worker_client.placement.device_setter import replica_device_setter
from worker_client.scopes.variable_scope import AUTO_REUSE, get_variable, variable_scope


@pytest.fixture
def graph() -> Iterator[Graph]:
    with eager_graph().as_default() as made:
        yield made


def definition(*arguments: Any, **keywords: Any) -> VariableDefinition:
    return cast(FakeVariable, get_variable(*arguments, **keywords)).definition


# -- what a variable is made of ---------------------------------------------------------------


def test_the_factory_is_given_what_naming_has_settled(graph: Graph) -> None:
    initializer, constraint = Zeros(), abs
    with graph.name_scope("ignored"), variable_scope("a"), graph.device("/job:ps/task:1"):
        made = definition(
            "v",
            [2, 3],
            "float64",
            initializer,
            collections=["own"],
            trainable=False,
            constraint=constraint,
            caching_device="/cpu:0",
            validate_shape=False,
            synchronization=VariableSynchronization.ON_WRITE,
        )
    assert (made.name, made.key, made.name_scope) == ("a/v", "a/v", "a/v/")
    assert (made.dtype, made.shape, made.device) == (np.dtype(np.float64), (2, 3), "/job:ps/task:1")
    assert made.initializer is initializer
    assert (made.collections, made.trainable, made.slice) == (("own",), False, None)
    assert (made.constraint, made.caching_device, made.validate_shape) == (constraint, "/cpu:0", False)
    assert made.synchronization is VariableSynchronization.ON_WRITE
    assert (made.op.name, made.op.type, made.op.outputs[0].shape) == ("a/v", "VariableV2", (2, 3))
    assert made.graph is graph


@pytest.mark.parametrize(("dtype", "kind"), [("float32", GlorotUniform), ("int32", Zeros), ("bool", Zeros)])
def test_default_initializers(graph: Graph, dtype: str, kind: type) -> None:
    assert isinstance(definition("v", [2], dtype).initializer, kind)


def test_there_is_none_for_complex_numbers(graph: Graph) -> None:
    with pytest.raises(ValueError, match="complex64"):
        get_variable("v", [1], "complex64")


def test_a_class_of_initializers_is_one(graph: Graph) -> None:
    assert isinstance(definition("v", [2], initializer=zeros_initializer).initializer, Zeros)


def test_a_constant_says_shape_and_dtype(graph: Graph) -> None:
    made = definition("v", initializer=[23, 42])
    assert (made.shape, made.dtype) == ((2,), np.dtype(np.int32))
    assert definition("w", initializer=np.zeros((2, 2))).dtype == np.float64
    assert definition("x", initializer=lambda: np.ones(3, np.int8)).shape == (3,)


def test_a_function_is_called_with_shape_and_dtype_in_its_own_scope(graph: Graph) -> None:
    seen: list[Any] = []

    def initializer(shape: list[int], dtype: Any) -> Any:
        seen.append((shape, dtype.name, graph.get_name_scope(), graph.create_op("Const").device))
        return np.full(shape, 5, dtype)

    with graph.device("/job:ps/task:1"):
        variable = get_variable("a/v", [2], initializer=initializer)
    assert seen == [([2], "float32", "a/v/Initializer", "")]
    assert variable.array.tolist() == [5.0, 5.0]


def test_where_the_cluster_has_put_it_counts_for_colocation(graph: Graph) -> None:
    variable = get_variable("v", [1])
    assert (variable.definition.device, variable.device) == ("", "/job:ps/task:7")
    with graph.device("/job:ps/task:1"), graph.colocate_with(variable):
        assert definition("w", [1]).device == "/job:ps/task:7"


# -- the order of checks ----------------------------------------------------------------------


def failing(*_: Any, **__: Any) -> Any:
    raise AssertionError("not to be called")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"initializer": [1.5], "dtype": "int32", "custom_getter": 3}, "float32.*int32"),
        ({"custom_getter": 3, "partitioner": 4}, "custom_getter"),
        ({"partitioner": 4, "shape": [2]}, "partitioner"),
        ({"shape": [2], "initializer": [1.0, 2.0]}, "leave out shape"),
        ({"shape": [3]}, "already exists"),
    ],
)
def test_what_is_found_first(graph: Graph, keywords: dict[str, Any], message: str) -> None:
    get_variable("v", [2])
    with pytest.raises(ValueError, match=message):
        get_variable("v", **keywords)


def test_a_shape_beside_a_constant_is_refused_on_reuse_too(graph: Graph) -> None:
    get_variable("v", [2])
    with variable_scope("", reuse=True), pytest.raises(ValueError, match="leave out shape"):
        get_variable("v", [2], initializer=[1.0, 2.0])


def test_a_new_variable_needs_a_shape(graph: Graph) -> None:
    with pytest.raises(ValueError, match="variable v needs a shape"):
        get_variable("v")
    with pytest.raises(ValueError, match=r"variable v: its initializer needs the whole shape.*\[\?, 2\]"):
        get_variable("v", [None, 2])
    assert graph.unique_name("v") == "v"


def test_reuse_takes_half_a_shape(graph: Graph) -> None:
    variable = get_variable("v", [3, 2])
    with variable_scope("", reuse=True):
        assert get_variable("v", [None, 2]) is variable
        assert get_variable("v") is variable
        assert get_variable("v", initializer=failing) is variable


@pytest.mark.parametrize("mode", [{"synchronization": 9}, {"aggregation": 9}])
def test_modes_are_checked(graph: Graph, mode: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="variable v: 9 is no"):
        get_variable("v", [1], **mode)


def test_a_mode_may_be_given_by_number_and_decides_on_training(graph: Graph) -> None:
    made = definition("v", [1], synchronization=3)
    assert (made.synchronization, made.trainable) == (VariableSynchronization.ON_READ, False)


# -- after a failure --------------------------------------------------------------------------


def test_a_failed_initializer_has_used_the_name_but_not_the_key_nor_a_task(graph: Graph) -> None:
    with graph.device(replica_device_setter(ps_tasks=2)):
        with pytest.raises(ZeroDivisionError) as caught:
            get_variable("v", [1], initializer=lambda shape, dtype: 1 / 0)
        made = definition("v", [1])
    assert (made.name, made.key, made.device) == ("v_1", "v", "/job:ps/task:0")
    assert any("variable v" in note for note in caught.value.__notes__)


def test_a_value_of_the_wrong_shape_has_used_a_task_too(graph: Graph) -> None:
    with graph.device(replica_device_setter(ps_tasks=2)):
        with pytest.raises(ShapeMismatchError, match=r"variable v.*\[3\].*\[2\]"):
            get_variable("v", [2], initializer=lambda shape, dtype: np.zeros(3))
        assert definition("w", [1]).device == "/job:ps/task:1"


def test_a_variable_that_the_cluster_refuses_is_not_kept() -> None:
    with refusing_graph(ConnectionError()).as_default() as graph:
        for _ in range(2):
            with pytest.raises(ConnectionError):
                get_variable("v", [1])
        with variable_scope("", reuse=True), pytest.raises(ValueError, match="does not exist"):
            get_variable("v", [1])
        assert graph.get_collection(GraphKeys.GLOBAL_VARIABLES) == []


def test_without_a_factory_variables_are_deferred() -> None:
    with Graph().as_default() as graph:
        assert isinstance(get_variable("v", [1]), DeferredVariable)
    assert graph.deferred


# -- threads ----------------------------------------------------------------------------------


def in_threads(count: int, graph: Graph, call: Callable[[], Any]) -> list[Any]:
    barrier = threading.Barrier(count)

    def run(_: int) -> Any:
        with graph.as_default():
            barrier.wait(30)
            return call()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.mark.parametrize("partitioned", [False, True])
def test_threads_that_want_the_same_variable_get_one(graph: Graph, partitioned: bool) -> None:
    calls: list[str] = []

    def initializer(shape: list[int], dtype: Any) -> Any:
        calls.append("called")
        return np.zeros(shape, dtype)

    def get() -> Any:
        with variable_scope("a", reuse=AUTO_REUSE):
            partitioner = (lambda shape, dtype: [2]) if partitioned else None
            return get_variable("v", [2], initializer=initializer, partitioner=partitioner)

    variables = in_threads(8, graph, get)
    assert all(variable is variables[0] for variable in variables)
    assert len(calls) == (2 if partitioned else 1)
    assert len(graph.get_collection(GraphKeys.GLOBAL_VARIABLES)) == len(calls)


def test_of_threads_that_may_not_share_one_wins(graph: Graph) -> None:
    def get() -> str:
        try:
            return str(get_variable("v", [2]).name)
        except ValueError as error:
            return str(error)

    outcomes = in_threads(6, graph, get)
    assert outcomes.count("v:0") == 1
    assert sum("already exists" in outcome for outcome in outcomes) == 5


def test_a_waiting_thread_creates_what_the_first_one_failed_to(graph: Graph) -> None:
    failures = [1 / 3]

    def initializer(shape: list[int], dtype: Any) -> Any:
        if failures.pop() if failures else False:
            raise KeyError
        return np.zeros(shape, dtype)

    def get() -> Any:
        with variable_scope("", reuse=AUTO_REUSE):
            try:
                return get_variable("v", [2], initializer=initializer)
            except KeyError:
                return None

    variables = in_threads(4, graph, get)
    made = [variable for variable in variables if variable is not None]
    assert len(made) == 3
    assert len(set(made)) == 1


def test_an_initializer_may_get_another_variable(graph: Graph) -> None:
    def initializer(shape: list[int], dtype: Any) -> Any:
        return get_variable("inner", shape, initializer=lambda shape, dtype: np.ones(shape)).read_value() + 1

    assert get_variable("outer", [2], initializer=initializer).array.tolist() == [2.0, 2.0]


def test_the_whole_program_is_the_same_in_a_deferred_graph() -> None:
    with deferred_graph().as_default() as graph:
        get_variable("v", initializer=[1.0], dtype="float32")
        get_variable("w", initializer=lambda: [1.0])
        names = [operation.name for operation in graph.get_operations()]
    assert names == ["Const", "v/initial_value", "v", "w/Initializer/initial_value", "w"]
