"""``get_variable`` with a partitioner, and the partitioned variable that it returns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest

from ps_protocol.errors import ShapeMismatchError
from ps_protocol.operations import PartitionSlice
from tests.unit.worker_client.naming_fakes import FakeVariable, eager_graph
from worker_client.graph.definition import VariableDefinition
from worker_client.graph.graph import Graph
from worker_client.graph.keys import GraphKeys
from worker_client.initializers import Constant, random_normal_initializer
from worker_client.placement.device_setter import replica_device_setter
from worker_client.scopes.variable_scope import AUTO_REUSE, get_variable, variable_scope
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.partitioners import fixed_size_partitioner

IN_TWO = fixed_size_partitioner(2)


@pytest.fixture(autouse=True)
def graph() -> Iterator[Graph]:
    with eager_graph().as_default() as made:
        yield made


def definitions(variable: PartitionedVariable) -> list[VariableDefinition]:
    return [cast(FakeVariable, part).definition for part in variable]


# -- the parts --------------------------------------------------------------------------------


def test_the_first_parts_are_longer_and_each_knows_its_place() -> None:
    whole = get_variable("p", [5, 3], partitioner=IN_TWO)
    assert isinstance(whole, PartitionedVariable)
    assert [(each.name, each.key, each.shape) for each in definitions(whole)] == [
        ("p/part_0", "p/part_0", (3, 3)),
        ("p/part_1", "p/part_1", (2, 3)),
    ]
    assert [each.slice for each in definitions(whole)] == [
        PartitionSlice("p", (5, 3), (0, 0)),
        PartitionSlice("p", (5, 3), (3, 0)),
    ]
    assert (whole.name, whole.shape, whole.get_shape(), whole.dtype.name) == ("p", (5, 3), (5, 3), "float32")
    assert (len(whole), whole.partitions, whole.axis) == (2, [2, 1], 0)


def test_every_part_takes_its_turn_with_the_placement(graph: Graph) -> None:
    with graph.device(replica_device_setter(ps_tasks=2)):
        whole = get_variable("p", [3], partitioner=fixed_size_partitioner(3))
        assert [each.device for each in definitions(whole)] == ["/job:ps/task:0", "/job:ps/task:1", "/job:ps/task:0"]


def test_the_scope_prefixes_the_whole_and_sets_a_default(graph: Graph) -> None:
    with graph.name_scope("ignored"), variable_scope("a", partitioner=IN_TWO):
        whole, scalar = get_variable("p", [4]), get_variable("s", [])
    assert (whole.name, [part.name for part in whole]) == ("a/p", ["a/p/part_0:0", "a/p/part_1:0"])
    assert isinstance(scalar, FakeVariable)
    assert [v.name for v in graph.get_collection(GraphKeys.GLOBAL_VARIABLES)] == [
        "a/p/part_0:0",
        "a/p/part_1:0",
        "a/s:0",
    ]


def test_a_constant_is_cut_and_fills_the_parts() -> None:
    value = np.arange(10.0).reshape(5, 2)
    whole = get_variable("p", [5, 2], initializer=value, partitioner=IN_TWO)
    assert whole.as_tensor().tolist() == value.tolist()
    assert np.asarray(whole, dtype=np.int64).tolist() == value.tolist()
    assert whole.dtype.name == "float32"
    with pytest.raises(ShapeMismatchError, match=r"\[5, 2\].*\[4, 2\]"):
        get_variable("q", [4, 2], initializer=value, partitioner=IN_TWO)


def test_the_parts_have_the_values_of_the_whole() -> None:
    whole = get_variable("p", [5, 2], initializer=random_normal_initializer(seed=1), partitioner=IN_TWO)
    at_once = random_normal_initializer(seed=1)
    first, second = definitions(whole)
    assert [type(each.initializer) for each in (first, second)] == [type(at_once)] * 2
    assert len(np.unique(whole.as_tensor())) == 10


def test_a_function_is_told_the_part_if_it_asks() -> None:
    seen: list[Any] = []

    def initializer(shape: list[int], dtype: Any, partition_info: Any) -> Any:
        seen.append((shape, partition_info.full_shape, partition_info.var_offset))
        return np.full(shape, partition_info.var_offset[0], dtype)

    whole = get_variable("p", [5], initializer=initializer, partitioner=IN_TWO)
    assert seen == [([3], [5], [0]), ([2], [5], [3])]
    assert whole.as_tensor().tolist() == [0, 0, 0, 3, 3]
    assert get_variable("s", [2], initializer=lambda shape, dtype, partition_info=1: np.zeros(2)).shape == (2,)


def test_each_part_has_a_loss_of_its_own(graph: Graph) -> None:
    get_variable("p", [4], initializer=Constant(2.0), partitioner=IN_TWO, regularizer=np.sum)
    losses = graph.get_collection(GraphKeys.REGULARIZATION_LOSSES)
    assert [(loss.name, float(loss)) for loss in losses] == [
        ("p/part_0/Regularizer", 4.0),
        ("p/part_1/Regularizer", 4.0),
    ]


# -- reuse ------------------------------------------------------------------------------------


def test_sharing_the_whole() -> None:
    whole = get_variable("p", [4], partitioner=IN_TWO)
    with pytest.raises(ValueError, match="partitioned variable p already exists"):
        get_variable("p", [4], partitioner=IN_TWO)
    with variable_scope("", reuse=AUTO_REUSE):
        assert get_variable("p", [4], partitioner=IN_TWO) is whole
    with variable_scope("", reuse=True):
        assert get_variable("p", [4], partitioner=IN_TWO) is whole
        assert get_variable("p") is whole
        assert get_variable("p/part_0", [2]) is next(iter(whole))
        with pytest.raises(ValueError, match="partitioned variable q does not exist"):
            get_variable("q", [4], partitioner=IN_TWO)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"shape": [5]}, r"shape \[5\].*\[4\]"),
        ({"dtype": "int32"}, "dtype int32.*float32"),
        ({"partitioner": fixed_size_partitioner(3)}, r"parts \[3\].*\[2\]"),
        ({"shape": None}, "needs a shape"),
    ],
)
def test_what_is_shared_must_agree(wanted: dict[str, Any], message: str) -> None:
    get_variable("p", [4], partitioner=IN_TWO)
    with variable_scope("", reuse=True), pytest.raises(ValueError, match=message):
        get_variable("p", **{"shape": [4], "partitioner": IN_TWO, **wanted})


@pytest.mark.parametrize("reuse", [False, AUTO_REUSE])
def test_partitioned_and_whole_do_not_mix(reuse: Any) -> None:
    with variable_scope("", reuse=reuse):
        get_variable("p", [4], partitioner=IN_TWO)
        get_variable("w", [4])
        with pytest.raises(ValueError, match=r"variable p already exists in parts"):
            get_variable("p", [4])
        with pytest.raises(ValueError, match=r"variable w already exists whole"):
            get_variable("w", [4], partitioner=IN_TWO)


def test_parts_that_were_made_one_by_one_are_taken_if_they_are_all() -> None:
    with variable_scope("", reuse=AUTO_REUSE):
        parts = [get_variable("p/part_0", [2])]
        with pytest.raises(ValueError, match=r"p/part_0 already exists, p/part_1 does not exist"):
            get_variable("p", [4], partitioner=IN_TWO)
        parts.append(get_variable("p/part_1", [2]))
        assert list(get_variable("p", [4], partitioner=IN_TWO)) == parts
        for index in range(3):
            get_variable(f"q/part_{index}", [2])
        with pytest.raises(ValueError, match=r"q/part_2 already exists"):
            get_variable("q", [4], partitioner=IN_TWO)


def test_if_a_part_fails_none_is_kept(graph: Graph) -> None:
    def failing_on_the_second(shape: list[int], dtype: Any, partition_info: Any) -> Any:
        if partition_info.var_offset[0]:
            raise KeyError
        return np.zeros(shape, dtype)

    with pytest.raises(KeyError):
        get_variable("p", [4], initializer=failing_on_the_second, partitioner=IN_TWO, regularizer=np.sum)
    assert graph.get_collection(GraphKeys.GLOBAL_VARIABLES) == []
    assert graph.get_collection(GraphKeys.REGULARIZATION_LOSSES) == []
    whole = get_variable("p", [4], partitioner=IN_TWO)
    assert [(each.name, each.key) for each in definitions(whole)] == [
        ("p/part_0_1", "p/part_0"),
        ("p/part_1_1", "p/part_1"),
    ]


@pytest.mark.parametrize(
    ("partitioner", "message"),
    [
        (3, "function"),
        (lambda **_: 3, "list"),
        (lambda **_: [1, 1], "each dimension"),
        (lambda **_: [0], "below 1"),
        (lambda **_: [9], "cannot be cut"),
    ],
)
def test_partitioners_are_checked(graph: Graph, partitioner: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_variable("p", [4], partitioner=partitioner)
    assert graph.get_operations() == []


@pytest.mark.parametrize("shape", [[None], None])
def test_the_shape_must_be_known(shape: Any) -> None:
    with pytest.raises(ValueError, match="variable p is to be partitioned"):
        get_variable("p", shape, partitioner=IN_TWO)


# -- the whole as a value ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"variable_list": 3}, TypeError),
        ({"partitions": 3}, TypeError),
        ({"variable_list": []}, ValueError),
        ({"partitions": [2, 1]}, ValueError),
        ({"partitions": [3]}, ValueError),
        ({"partitions": [0]}, ValueError),
        ({"shape": [2, 2], "partitions": [2, 2]}, ValueError),
    ],
)
def test_a_partitioned_variable_is_consistent(keywords: dict[str, Any], error: type[Exception]) -> None:
    parts = list(get_variable("p", [4], partitioner=IN_TWO))
    good = {"name": "p", "shape": [4], "dtype": "float32", "variable_list": parts, "partitions": [2]}
    assert "parts=2" in repr(PartitionedVariable(**cast(Any, good)))
    with pytest.raises(error):
        PartitionedVariable(**cast(Any, {**good, **keywords}))
