"""Variables of a deferred graph: what they are called, read, updated and initialised by."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import (
    DTypeMismatchError,
    FailedPreconditionError,
    InvalidArgumentError,
    OutOfRangeError,
    ShapeMismatchError,
)
from worker_client.deferred.call import deferred_call
from worker_client.deferred.variable import DeferredVariable
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Operation, Tensor
from worker_client.initializers import constant_initializer, random_normal_initializer, zeros_initializer
from worker_client.scopes.creation import new_variable
from worker_client.scopes.variable_scope import get_local_variable, get_variable, variable_scope
from worker_client.sessions.session import Session
from worker_client.values.conversion import IndexedSlices
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.partitioners import fixed_size_partitioner

pytestmark = pytest.mark.usefixtures("graph")


@pytest.fixture
def session(graph: Graph) -> Iterator[Session]:
    with Session(graph=graph) as session:
        yield session


def table(session: Session, name: str = "table") -> DeferredVariable:
    """The numbers 0 to 5 in 3 rows."""
    variable: DeferredVariable = new_variable(np.arange(6, dtype=np.float32).reshape(3, 2), name=name)
    session.run(variable.initializer)
    return variable


def values(session: Session, fetch: Any) -> Any:
    return np.asarray(session.run(fetch)).tolist()


# -- facts ------------------------------------------------------------------------------------------


def test_names_and_facts(graph: Graph) -> None:
    with variable_scope("scope"):
        v = get_variable("v", [3, 2], trainable=False, constraint=abs)
    assert isinstance(v, DeferredVariable)
    assert (v.name, v.op.name, v.op.type, v.graph) == ("scope/v:0", "scope/v", "VariableV2", graph)
    assert v.shape == v.get_shape() == (3, 2)
    assert (v.dtype.name, v.trainable, v.constraint) == ("float32", False, abs)
    assert (v.initializer.name, v.value().name) == ("scope/v/Assign", "scope/v/read:0")
    assert v.initial_value.name == "scope/v/Initializer/random_uniform:0"
    assert repr(v) == "<tf.Variable 'scope/v:0' shape=(3, 2) dtype=float32>"
    assert v.ref() == v.experimental_ref()
    assert v.ref().deref() is v
    v.set_shape([3, None])
    with pytest.raises(ValueError, match="not compatible"):
        v.set_shape([4, 2])


@pytest.mark.parametrize(
    ("method", "arguments", "name"),
    [
        ("assign", [np.zeros((3, 2), np.float32)], "Assign"),
        ("assign_add", [np.zeros((3, 2), np.float32)], "AssignAdd"),
        ("assign_sub", [np.zeros((3, 2), np.float32)], "AssignSub"),
        *((f"scatter_{rule}", [IndexedSlices(0, [1])], f"Scatter{rule.title()}") for rule in ("update", "add", "sub")),
        *((f"scatter_{rule}", [IndexedSlices(0, [1])], f"Scatter{rule.title()}") for rule in ("mul", "min", "max")),
        ("scatter_div", [IndexedSlices(1, [1])], "ScatterDiv"),
        ("scatter_nd_update", [[[0, 1]], [1]], "ScatterNdUpdate"),
        ("scatter_nd_add", [[[0, 1]], [1]], "ScatterNdAdd"),
        ("scatter_nd_sub", [[[0, 1]], [1]], "ScatterNdSub"),
        ("sparse_read", [[0]], "GatherV2"),
        ("gather_nd", [[0]], "GatherNd"),
        ("is_initialized", [], "IsVariableInitialized"),
    ],
)
def test_operations_have_tensorflows_names(session: Session, method: str, arguments: list[Any], name: str) -> None:
    v = table(session)
    assert getattr(v, method)(*arguments).op.name == name
    assert getattr(v, method)(*arguments).op.name == f"{name}_1"
    assert getattr(v, method)(*arguments, name="mine").op.name == "mine"


def test_updates_are_operations_or_the_value_afterwards(session: Session) -> None:
    v = table(session)
    tensor, operation = v.assign_add(np.ones((3, 2))), v.assign_add(np.ones((3, 2)), read_value=False)
    assert isinstance(tensor, Tensor)
    assert isinstance(operation, Operation)
    assert session.run(operation) is None
    assert values(session, tensor)[0] == [2, 3]


def test_updates_are_placed_with_the_variable(graph: Graph) -> None:
    with graph.device("/job:ps/task:1"):
        v = new_variable(np.zeros(2, np.float32))
    with graph.device("/job:worker"):
        assert v.assign([1, 2]).device == "/job:ps/task:1"
        assert v.scatter_add(IndexedSlices([1], [0])).device == "/job:ps/task:1"
        assert v.is_initialized().device == "/job:ps/task:1"
        assert v.sparse_read([0]).device == "/job:worker"  # as in TensorFlow: where it is used


# -- reading ----------------------------------------------------------------------------------------


def test_the_value_is_one_tensor_and_each_read_value_a_new_one(session: Session) -> None:
    v = table(session)
    assert v.value() is v.value()
    assert v.read_value() is not v.read_value()
    assert values(session, [v, v.value(), v.read_value()]) == [[[0, 1], [2, 3], [4, 5]]] * 3
    assert v.eval(session).tolist() == [[0, 1], [2, 3], [4, 5]]


def test_it_stands_for_its_value_in_arithmetic(session: Session) -> None:
    v = table(session)
    assert values(session, v * 2 - v) == [[0, 1], [2, 3], [4, 5]]
    assert values(session, v[1]) == [2, 3]
    assert values(session, np.ones((1, 3), np.float32) @ v) == [[6, 9]]


def test_a_caching_device_places_the_shared_value(session: Session) -> None:
    v = get_variable("v", [2], initializer=zeros_initializer(), caching_device="/job:worker/task:1")
    assert (v.value().device, v.initializer.device) == ("/job:worker/task:1", "")
    session.run(v.initializer)
    session.run(v.assign([1, 2]))
    assert values(session, v.value()) == [1, 2], "nothing stale is left of another run"


@pytest.mark.parametrize("deferred", [False, True])
def test_rows_and_elements(session: Session, deferred: bool) -> None:
    v = table(session)

    def given(indices: Any) -> Any:
        return new_index(indices) if deferred else indices

    assert values(session, v.sparse_read(given([[2], [0]]))) == [[[4, 5]], [[0, 1]]]
    assert values(session, v.gather_nd(given([[2, 0], [0, 1]]))) == [4, 1]
    assert values(session, v.gather_nd(given([[1]]))) == [[2, 3]]
    assert v.sparse_read(given([[2], [0]])).shape == (2, 1, 2)
    assert v.gather_nd(given([[2, 0], [0, 1]])).shape == (2,)


def new_index(indices: Any) -> Tensor:
    """A deferred tensor of integers."""
    return deferred_call(np.add, [np.array(indices, np.int64), 0], op_type="Index")


def test_rows_and_elements_out_of_range_are_errors_of_the_run(session: Session) -> None:
    v = table(session)
    for read in (v.sparse_read([3]), v.sparse_read([-1]), v.gather_nd([[0, 2]]), v.gather_nd([[-1, 0]])):
        with pytest.raises(InvalidArgumentError, match="variable table"):
            session.run(read)


# -- updating ---------------------------------------------------------------------------------------


def test_rows_are_scattered_by_what_a_session_computes(session: Session) -> None:
    v = table(session)
    updates = deferred_call(np.negative, [np.array([[-9, -9], [-8, -8], [-7, -7]], np.float32)], op_type="Neg")
    scatter = v.scatter_add(IndexedSlices(updates, new_index([1, 2, 2])))
    assert values(session, scatter) == [[0, 1], [11, 12], [19, 20]]


@pytest.mark.parametrize("deferred", [False, True])
def test_elements_are_scattered_in_one_step(session: Session, deferred: bool) -> None:
    v = table(session)
    places: Any = [[0, 1], [2, 0], [0, 1]]
    places = new_index(places) if deferred else places
    assert values(session, v.scatter_nd_add(places, [10, 20, 30])) == [[0, 41], [2, 3], [24, 5]]
    assert values(session, v.scatter_nd_sub(places, [10, 20, 30])) == [[0, 1], [2, 3], [4, 5]]
    assert values(session, v.scatter_nd_update(places, 7)) == [[0, 7], [2, 3], [7, 5]]
    assert values(session, v.scatter_nd_add([[1]], [[1, 1]])) == [[0, 7], [3, 4], [7, 5]]


def test_an_element_out_of_range_is_refused_before_anything_is_sent(session: Session) -> None:
    v = table(session)
    with pytest.raises(InvalidArgumentError, match=r"index \[0, 2\] is outside of variable table"):
        session.run([v.assign_add(np.ones((3, 2))), v.scatter_nd_add([[0, 0], [0, 2]], [1, 1])])
    assert values(session, v) == [[0, 1], [2, 3], [4, 5]]


def test_batches_are_scattered_row_by_row(session: Session) -> None:
    v = new_variable(np.zeros((2, 3, 2), np.float32), name="batch")
    session.run(v.initializer)
    update = v.batch_scatter_update(IndexedSlices([[[1, 2]], [[3, 4]]], [[2], [0]]))
    assert update.op.name == "batch_scatter_update"
    assert values(session, update) == [[[0, 0], [0, 0], [1, 2]], [[3, 4], [0, 0], [0, 0]]]
    one = table(session)
    assert values(session, one.batch_scatter_update(IndexedSlices([[7, 7]], [1])))[1] == [7, 7]


@pytest.mark.parametrize(
    ("method", "arguments", "error"),
    [
        ("assign", ([1.0, 2.0],), ShapeMismatchError),
        ("assign_add", (1.0,), ShapeMismatchError),
        ("assign", (np.zeros((3, 2), complex),), DTypeMismatchError),
        ("scatter_add", (IndexedSlices([[1, 1]], [0, 1]),), ShapeMismatchError),
        ("scatter_add", (IndexedSlices([[1, 1]], [0.5]),), DTypeMismatchError),
        ("scatter_add", (IndexedSlices([[1j, 1]], [0]),), DTypeMismatchError),
        ("scatter_nd_add", ([[0, 0, 0]], [1]), ShapeMismatchError),
        ("scatter_nd_add", ([[]], [1]), ShapeMismatchError),
        ("scatter_nd_add", ([[0, 0]], [1, 2]), ShapeMismatchError),
        ("batch_scatter_update", (IndexedSlices([[1, 1]], [[0, 1]]),), ShapeMismatchError),
        ("batch_scatter_update", (IndexedSlices(1, 0),), ShapeMismatchError),
        ("gather_nd", ([[0, 0, 0]],), ShapeMismatchError),
        ("sparse_read", ([0.5],), DTypeMismatchError),
        ("count_up_to", (3,), DTypeMismatchError),
    ],
)
def test_what_cannot_fit_is_refused_when_it_is_built(
    session: Session, graph: Graph, method: str, arguments: Any, error: type[Exception]
) -> None:
    v = table(session)
    before = len(graph.get_operations())
    with pytest.raises(error, match="variable table"):
        getattr(v, method)(*arguments)
    assert len(graph.get_operations()) == before


def test_deferred_values_that_cannot_fit_are_refused_too(session: Session) -> None:
    v, numbers = table(session), new_variable(np.array([1, 2]), name="numbers")
    with pytest.raises(DTypeMismatchError, match=r"table holds float32, numbers/read:0 is int64; cast it"):
        v.assign(numbers)
    with pytest.raises(DTypeMismatchError, match=r"indices of variable table, .* are float32"):
        v.sparse_read(v.value())
    with pytest.raises(ShapeMismatchError, match="table"):
        v.assign(v.value()[0])
    with pytest.raises(ShapeMismatchError, match="table"):
        v.scatter_add(IndexedSlices(v.value(), numbers))


def test_only_indexed_slices_are_sparse(session: Session) -> None:
    with pytest.raises(TypeError, match="sparse_delta should be IndexedSlices"):
        table(session).scatter_add([0])  # type: ignore[arg-type]  # that is what is tested


def test_constants_are_taken_when_the_operation_is_built(session: Session) -> None:
    v = table(session)
    value, rows = np.ones((3, 2), np.float32), np.array([0])
    assign, scatter = v.assign(value), v.scatter_add(IndexedSlices(1, rows))
    value[:], rows[:] = 9, 2
    assert values(session, assign) == [[1, 1]] * 3
    assert values(session, scatter) == [[2, 2], [1, 1], [1, 1]]


def test_counting_gives_each_number_once_and_ends_at_the_limit(session: Session) -> None:
    v = new_variable(np.int64(0), name="counter")
    count = v.count_up_to(3)
    assert (count.op.name, count.dtype, count.shape) == ("CountUpTo", np.int64, ())
    session.run(v.initializer)
    assert [session.run(count) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OutOfRangeError, match=r"variable counter .*limit 3"):
        session.run(count)
    assert session.run(v) == 3


def test_a_count_that_fails_is_an_error_though_nobody_wants_the_number(session: Session) -> None:
    v = new_variable(np.int32(3), name="counter")
    session.run(v.initializer)
    with pytest.raises(OutOfRangeError, match="counter"):
        session.run(v.count_up_to(3).op)


def test_only_integer_scalars_count(session: Session) -> None:
    with pytest.raises(ShapeMismatchError, match=r"variable row .*not a scalar"):
        new_variable(np.zeros(3, np.int32), name="row").count_up_to(3)


def test_load_acts_at_once_and_adds_nothing_to_the_graph(session: Session, graph: Graph) -> None:
    v = new_variable(np.zeros(2, np.float32))
    before = len(graph.get_operations())
    v.load([1, 2], session)
    with session.as_default():
        assert v.eval().tolist() == [1, 2]
        v.load([3, 4])
    assert (v.eval(session).tolist(), len(graph.get_operations())) == ([3, 4], before)
    with pytest.raises(ShapeMismatchError):
        v.load([1, 2, 3], session)


# -- initialising -----------------------------------------------------------------------------------


def test_the_initial_value_is_that_of_the_initializer(session: Session) -> None:
    v = get_variable("v", [4], initializer=random_normal_initializer())
    assert v.initial_value is v.initial_value
    expected = session.run(v.initial_value)
    session.run(v.initializer)
    np.testing.assert_array_equal(session.run(v), expected)
    session.run(v.assign(np.zeros(4)))
    session.run(v.initializer)
    np.testing.assert_array_equal(session.run(v), expected)


def test_reading_an_uninitialised_variable_is_an_error(session: Session) -> None:
    v = get_variable("scope/v", [2])
    for fetch in (v, v.value(), v.assign_add([1, 1]), v.sparse_read([0]), v + 1):
        with pytest.raises(FailedPreconditionError, match=r"variable scope/v .*not been initialised"):
            session.run(fetch)
    assert session.run(v.is_initialized()) == np.False_
    session.run(v.initializer)
    assert session.run(v.is_initialized()) == np.True_


def test_an_initialised_value_is_the_value_once_there_is_one(session: Session) -> None:
    v = get_variable("v", [2], initializer=constant_initializer(3))
    value = v.initialized_value()
    assert values(session, value) == [3, 3]
    session.run(v.assign([1, 2]))
    assert values(session, value) == [1, 2]


def test_initial_values_that_depend_on_each_other_come_out_right_in_one_run(session: Session, graph: Graph) -> None:
    v = new_variable(np.float32(1), name="v")
    w = new_variable(v.initialized_value() + 1, name="w")
    x = new_variable(w.initialized_value() * v.initialized_value() + 10, name="x")
    session.run([each.initializer for each in (x, w, v)])
    assert session.run([v, w, x]) == [1, 2, 12]
    session.run(v.assign(5))
    session.run(w.initializer)
    assert session.run(w) == 6


def test_initial_values_may_read_variables_as_they_are(session: Session) -> None:
    v = new_variable(np.float32(1), name="v")
    w = new_variable(v + 1, name="w")
    x = new_variable(lambda: (w.value() + v) * w.read_value(), name="x")
    session.run([each.initializer for each in (x, w, v)])
    assert session.run([v, w, x]) == [1, 2, 6]


# -- where they live --------------------------------------------------------------------------------


def test_without_a_cluster_all_variables_live_in_the_session(graph: Graph, caplog: pytest.LogCaptureFixture) -> None:
    with graph.device("/job:ps/task:9"):
        shared = new_variable(np.float32(1), name="shared")
    with graph.device("/job:worker/task:3"):
        local = get_local_variable("local", initializer=np.float32(2))
    with caplog.at_level(logging.WARNING), Session(graph=graph) as one, Session(graph=graph) as other:
        one.run([shared.initializer, local.initializer])
        assert one.run([shared, local]) == [1, 2]
        with pytest.raises(FailedPreconditionError, match="shared"):
            other.run(shared)
    assert caplog.records == []


# -- partitioned variables --------------------------------------------------------------------------


def partitioned(name: str = "whole") -> PartitionedVariable:
    variable: PartitionedVariable = get_variable(
        name, [3, 2], initializer=constant_initializer([0, 1, 2, 3, 4, 5]), partitioner=fixed_size_partitioner(2)
    )
    return variable


def initialized(session: Session, variable: PartitionedVariable) -> PartitionedVariable:
    session.run([part.initializer for part in variable])
    return variable


def test_a_partitioned_variable_is_put_together(session: Session) -> None:
    whole = initialized(session, partitioned())
    tensor = whole.as_tensor()
    assert (tensor.name, tensor.op.inputs[0].name) == ("whole:0", "whole/ConcatPartitions/concat:0")
    assert values(session, tensor) == [[0, 1], [2, 3], [4, 5]]
    assert values(session, whole) == [[0, 1], [2, 3], [4, 5]]
    assert whole.as_tensor().name == "whole_1:0"


def test_a_variable_in_one_part_is_that_part(session: Session) -> None:
    one = get_variable("one", [2], initializer=zeros_initializer(), partitioner=fixed_size_partitioner(1))
    initialized(session, one)
    assert values(session, one.as_tensor()) == [0, 0]


@pytest.mark.parametrize(("method", "first"), [("assign", 1), ("assign_add", 1), ("assign_sub", -1)])
def test_a_partitioned_variable_is_updated_part_by_part(session: Session, method: str, first: float) -> None:
    whole = initialized(session, partitioned())
    tensors = getattr(whole, method)(np.ones((3, 2)))
    assert [tensor.shape for tensor in tensors] == [(2, 2), (1, 2)]
    session.run(tensors)
    assert values(session, whole)[0][0] == first
    operations = getattr(whole, method)(np.ones((3, 2)), read_value=False, name="mine")
    assert [operation.name for operation in operations] == ["mine", "mine_1"]


def test_a_partitioned_variable_takes_tensors_lists_and_its_like(session: Session) -> None:
    whole, other = initialized(session, partitioned()), initialized(session, partitioned("other"))
    session.run(whole.assign(other.as_tensor() * 2))
    assert values(session, whole) == [[0, 2], [4, 6], [8, 10]]
    session.run(whole.assign_add(other))
    assert values(session, whole) == [[0, 3], [6, 9], [12, 15]]
    first = next(iter(other))
    session.run(whole.assign([first, np.zeros((1, 2))]))
    assert values(session, whole) == [[0, 1], [2, 3], [0, 0]]


@pytest.mark.parametrize("value", [np.zeros((2, 2)), [np.zeros((2, 2))], [np.zeros((2, 2)), np.zeros((2, 2))]], ids=str)
def test_a_partitioned_variable_refuses_what_does_not_fit(graph: Graph, value: Any) -> None:
    whole = partitioned()
    before = len(graph.get_operations())
    with pytest.raises(ValueError, match="whole"):
        whole.assign(value)
    assert len(graph.get_operations()) == before


def test_parts_know_where_they_lie_in_the_whole() -> None:
    first, second = partitioned()
    info = second._get_save_slice_info()
    assert isinstance(info, DeferredVariable.SaveSliceInfo)
    assert (info.full_name, info.full_shape, info.var_offset, info.var_shape) == ("whole", [3, 2], [2, 0], [1, 2])
    assert info.spec == "3 2 2,1:0,2"
    assert repr(info) == "<SaveSliceInfo 'whole' 3 2 2,1:0,2>"
    assert first._get_save_slice_info().var_offset == [0, 0]
    assert new_variable(np.float32(1))._get_save_slice_info() is None
    with pytest.raises(TypeError, match="save_slice_info_def is not supported"):
        DeferredVariable.SaveSliceInfo(save_slice_info_def=object())
