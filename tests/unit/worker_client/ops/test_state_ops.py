"""TensorFlow's functions on variables of both kinds: deferred ones give tensors, those of a connection act at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, OutOfRangeError, ShapeMismatchError
from ps_protocol.operations import WireDType
from tests.unit.worker_client.clusters import InProcessCluster
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Tensor
from worker_client.initializers import constant_initializer
from worker_client.ops import state_ops
from worker_client.ops.array_ops import gather, gather_nd
from worker_client.scopes.creation import new_variable
from worker_client.scopes.variable_scope import get_variable
from worker_client.sessions.session import Session
from worker_client.variables.partitioners import fixed_size_partitioner

INITIAL = np.arange(6, dtype=np.float32).reshape(3, 2)


class Subject:
    """A way of using variables: deferred, run by a session, or at once."""

    def __init__(self, session: Session | None):
        self.session = session

    def variable(self, value: Any, name: str = "v") -> Any:
        variable = new_variable(value, name=name)
        if self.session is not None:
            self.session.run(variable.initializer)
        return variable

    def value(self, result: Any) -> Any:
        """What a function's result stands for."""
        if self.session is None:
            return np.asarray(result).tolist()
        assert isinstance(result, Tensor)
        return np.asarray(self.session.run(result)).tolist()

    def read(self, variable: Any) -> Any:
        return (variable.read_value() if self.session is None else self.session.run(variable)).tolist()


@pytest.fixture(params=["deferred", "at once"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "deferred":
        graph = Graph()
        with graph.as_default(), Session(graph=graph) as session:
            yield Subject(session)
        return
    with InProcessCluster() as cluster, cluster.client():
        yield Subject(None)


@pytest.mark.parametrize(("function", "first"), [("assign", 1), ("assign_add", 1), ("assign_sub", -1)])
def test_whole_values(subject: Subject, function: str, first: float) -> None:
    v = subject.variable(INITIAL)
    result = getattr(state_ops, function)(v, np.ones((3, 2), np.float32), use_locking=True, name="mine")
    assert subject.value(result)[0][0] == first
    with pytest.raises(ShapeMismatchError, match="v"):
        getattr(state_ops, function)(v, np.ones(7, np.float32))


@pytest.mark.parametrize(
    ("rule", "rows"),
    [
        ("update", [[0, 1], [8, 8], [4, 4]]),
        ("add", [[0, 1], [10, 11], [10, 11]]),
        ("sub", [[0, 1], [-6, -5], [-2, -1]]),
        ("mul", [[0, 1], [16, 24], [32, 40]]),
        ("div", [[0, 1], [0.25, 0.375], [0.5, 0.625]]),
        ("min", [[0, 1], [2, 3], [2, 2]]),
        ("max", [[0, 1], [8, 8], [4, 5]]),
    ],
)
def test_rows(subject: Subject, rule: str, rows: Any) -> None:
    v = subject.variable(INITIAL)
    updates = np.array([[8, 8], [2, 2], [4, 4]], np.float32)
    assert subject.value(getattr(state_ops, f"scatter_{rule}")(v, [1, 2, 2], updates)) == rows


def test_a_row_out_of_range_changes_nothing(subject: Subject) -> None:
    v = subject.variable(INITIAL)
    with pytest.raises(InvalidArgumentError, match="row 3"):
        subject.value(state_ops.scatter_add(v, [0, 3], 1))
    assert subject.read(v) == INITIAL.tolist()


@pytest.mark.parametrize(("rule", "element"), [("update", 30), ("add", 44), ("sub", -36)])
def test_elements(subject: Subject, rule: str, element: float) -> None:
    v = subject.variable(INITIAL)
    function = getattr(state_ops, f"scatter_nd_{rule}")
    assert subject.value(function(v, [[2, 0], [0, 1], [2, 0]], [10, 20, 30]))[2][0] == element
    with pytest.raises(InvalidArgumentError, match=r"index \[0, 2\] is outside"):
        subject.value(function(v, [[0, 2]], [1]))
    with pytest.raises(ShapeMismatchError, match="v"):
        function(v, [[0, 0, 0]], [1])


def test_slices_of_any_depth(subject: Subject) -> None:
    value = np.zeros((2, 3, 4, 2), np.int32)
    v = subject.variable(value)
    places = np.array([[1, 2, 3], [0, 0, 0], [1, 2, 3]])
    for place in places:
        value[tuple(place)] += 1
    assert subject.value(state_ops.scatter_nd_add(v, places, np.ones((3, 2), np.int32))) == value.tolist()
    value[1, 2] = 5
    assert subject.value(state_ops.scatter_nd_update(v, [[1, 2]], np.full((1, 4, 2), 5, np.int32))) == value.tolist()


def test_gathering_takes_rows_only(subject: Subject) -> None:
    v = subject.variable(INITIAL)
    assert subject.value(gather(v, [[2], [0]])) == [[[4, 5]], [[0, 1]]]
    with pytest.raises(InvalidArgumentError, match="row 3"):
        subject.value(gather(v, [3]))
    with pytest.raises(DTypeMismatchError, match="v"):
        gather(v, [0.5])


def test_counting(subject: Subject) -> None:
    v = subject.variable(np.int64(1), name="counter")
    assert subject.value(state_ops.count_up_to(v, 2)) == 1
    with pytest.raises(OutOfRangeError, match=r"variable counter .*limit 2"):
        subject.value(state_ops.count_up_to(v, 2))
    assert subject.read(v) == 2
    with pytest.raises(ShapeMismatchError, match="not a scalar"):
        state_ops.count_up_to(subject.variable(np.zeros(2, np.int64), name="row"), 2)
    with pytest.raises(DTypeMismatchError, match="does not hold integers"):
        state_ops.count_up_to(subject.variable(np.float32(0), name="number"), 2)


def test_is_initialized(subject: Subject) -> None:
    assert subject.value(state_ops.is_variable_initialized(subject.variable(INITIAL)))


def test_parts_are_updated_one_by_one(subject: Subject) -> None:
    whole = get_variable("whole", [4], initializer=constant_initializer(1), partitioner=fixed_size_partitioner(2))
    for part in whole:
        if subject.session is not None:
            subject.session.run(part.initializer)
    results = state_ops.assign_add(whole, np.arange(4, dtype=np.float32), name="mine")
    assert [subject.value(result) for result in results] == [[1, 2], [3, 4]]
    assert subject.value(state_ops.scatter_add(whole, [0, 3], [1, 1])) == [2, 2, 3, 5]
    assert subject.value(state_ops.scatter_nd_update(whole, [[2]], [9], name="mine")) == [2, 2, 9, 5]
    assert subject.value(gather(whole, [3, 0])) == [5, 2]
    with pytest.raises(TypeError, match="use its parts"):
        state_ops.count_up_to(whole, 3)


@pytest.mark.parametrize("subject", ["at once"], indirect=True)
def test_rows_travel_in_the_form_that_the_variable_has(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    v = subject.variable(INITIAL)
    sent: list[Any] = []
    v.push_dtype = "bfloat16"
    monkeypatch.setattr(v, "run", sent.append)
    state_ops.scatter_add(v, [0], INITIAL[:1])
    state_ops.scatter_nd_add(v, [[0]], INITIAL[:1])
    assert [each.wire for each in sent] == [WireDType.BFLOAT16] * 2


@pytest.mark.parametrize("subject", ["at once"], indirect=True)
def test_gathering_elements_takes_no_more_than_those(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    v = subject.variable(INITIAL)
    monkeypatch.setattr(v, "read_value", lambda: pytest.fail("the whole value was read"))
    np.testing.assert_array_equal(gather_nd(v, [[2, 1], [0, 0]]), [5, 0])


@pytest.mark.parametrize("function", [state_ops.assign, state_ops.assign_add])
def test_what_is_no_variable_is_refused(function: Any) -> None:
    with pytest.raises(TypeError, match="ndarray, not a variable"):
        function(np.zeros(2), [0])


def test_deferred_operations_have_tensorflows_names(graph: Graph) -> None:
    v, counter = new_variable(INITIAL), new_variable(np.int32(0))
    made = [
        state_ops.assign(v, INITIAL),
        state_ops.assign_add(v, INITIAL),
        state_ops.scatter_add(v, [0], 1),
        state_ops.scatter_nd_sub(v, [[0]], 1),
        state_ops.count_up_to(counter, 3),
        gather(v, [0]),
        state_ops.is_variable_initialized(v),
    ]
    assert [tensor.op.name for tensor in made] == [
        *("Assign", "AssignAdd", "ScatterAdd", "ScatterNdSub", "CountUpTo", "GatherV2", "IsVariableInitialized"),
    ]
    assert state_ops.count_up_to(counter, 3, name="mine").op.name == "mine"
    assert state_ops.scatter_min(v, [0], 1, name="mine").op.name == "mine_1"


def test_workers_that_count_together_get_each_number_once() -> None:
    with InProcessCluster() as cluster:
        clients = [cluster.client(index) for index in range(2)]
        counters = []
        for client in clients:
            with client.graph.as_default():
                counters.append(get_variable("counter", initializer=np.int64(0)))

        def count(counter: Any) -> list[int]:
            return [int(state_ops.count_up_to(counter, 1000)) for _ in range(200)]

        with ThreadPoolExecutor(4) as pool:
            numbers = [number for taken in pool.map(count, counters * 2) for number in taken]
        assert sorted(numbers) == list(range(800))
