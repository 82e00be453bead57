"""One run: how many exchanges it makes, in which order things happen, and what fails without doing half."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError
from ps_protocol.operations import Describe, Gather, Initialize, Read, Reply, Update
from worker_client.connection.fanout import Routed
from worker_client.deferred.call import deferred_call
from worker_client.graph.computation import AccessedVariable, Kernel
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Operation, OutputSpec, Tensor
from worker_client.ops.constant_ops import constant
from worker_client.ops.script_ops import py_func
from worker_client.scopes.creation import new_variable
from worker_client.sessions.evaluation import Evaluation
from worker_client.sessions.runtime import PrivateRuntime
from worker_client.values.shapes import TensorShape

pytestmark = pytest.mark.usefixtures("graph")


class RecordingRuntime(PrivateRuntime):
    """A private store that keeps what it was asked, exchange by exchange."""

    def __init__(self) -> None:
        super().__init__()
        self.exchanges: list[list[Any]] = []
        self.placed: list[AccessedVariable] = []

    def place(self, variables: Iterable[AccessedVariable]) -> None:
        listed = list(variables)
        self.placed += listed
        super().place(listed)

    def exchange(self, routed: Sequence[Routed]) -> list[Reply]:
        self.exchanges.append([each.operation for each in routed])
        return super().exchange(routed)

    @property
    def kinds(self) -> list[list[str]]:
        return [[type(operation).__name__ for operation in exchange] for exchange in self.exchanges]


@pytest.fixture
def runtime() -> Iterator[RecordingRuntime]:
    runtime = RecordingRuntime()
    yield runtime
    runtime.close()


def run(runtime: PrivateRuntime, *fetches: Any, feeds: dict[Tensor, Any] | None = None) -> list[Any]:
    tensors = [
        each if isinstance(each, Tensor) else each.value() for each in fetches if not isinstance(each, Operation)
    ]
    operations = [each for each in fetches if isinstance(each, Operation)]
    values = Evaluation(runtime, {key: np.asarray(value) for key, value in (feeds or {}).items()})
    return [value.tolist() for value in values.run(operations, tensors)]


def initialized(runtime: RecordingRuntime, *values: float) -> list[Any]:
    """Variables v0, v1, ... with those values; forgets how they got them."""
    variables = [new_variable(np.float32(value), name=f"v{index}") for index, value in enumerate(values)]
    run(runtime, *(each.initializer for each in variables))
    runtime.exchanges.clear()
    return variables


def counted(graph: Graph, calls: list[int], *inputs: Tensor) -> Tensor:
    def kernel(*values: Any) -> Any:
        calls.append(1)
        return np.asarray(sum(values, np.float32(1)))

    spec = OutputSpec(np.dtype(np.float32), TensorShape([]))
    return graph.create_op("Counted", inputs, [spec], computation=Kernel(kernel)).outputs[0]


# -- exchanges ----------------------------------------------------------------------------------


def test_all_reads_are_one_exchange_and_all_updates_another(runtime: RecordingRuntime) -> None:
    a, b, c = initialized(runtime, 1, 2, 3)
    total = a + b + c
    updates = [each.assign_add(total).op for each in (a, b, c)]
    assert run(runtime, total, *updates) == [6]
    assert runtime.kinds == [["Read"] * 3, ["Update"] * 3]
    assert run(runtime, a, b, c) == [7, 8, 9]


def test_an_initialiser_of_many_is_one_exchange(runtime: RecordingRuntime, graph: Graph) -> None:
    variables = [new_variable(np.float32(index)) for index in range(5)]
    with graph.control_dependencies([each.initializer for each in variables]):
        init = graph.create_op("NoOp")
    run(runtime, init)
    assert runtime.kinds == [["Initialize"] * 5]
    assert all(isinstance(each, Initialize) and each.overwrite for each in runtime.exchanges[0])


def test_a_new_value_is_read_back_in_the_same_exchange_only_if_it_is_wanted(runtime: RecordingRuntime) -> None:
    (v,) = initialized(runtime, 1)
    add = v.assign_add(2)
    run(runtime, add.op)
    assert runtime.kinds == [["Update"]]
    assert run(runtime, add) == [5]
    assert run(runtime, add + 1) == [8]
    assert runtime.kinds == [["Update"], ["Update", "Read"], ["Update", "Read"]]


def test_reads_that_need_the_result_of_reads_come_behind(runtime: RecordingRuntime) -> None:
    rows = new_variable(np.array([2, 0]), name="rows")
    table = new_variable(np.arange(6, dtype=np.float32).reshape(3, 2), name="table")
    run(runtime, rows.initializer, table.initializer)
    runtime.exchanges.clear()
    assert run(runtime, table.sparse_read(rows)) == [[[4, 5], [0, 1]]]
    assert runtime.kinds == [["Read"], ["Gather"]]
    assert isinstance(runtime.exchanges[1][0], Gather)


def test_what_is_not_needed_is_neither_declared_nor_read(runtime: RecordingRuntime) -> None:
    (v,) = initialized(runtime, 1)
    runtime.placed.clear()
    new_variable(np.float32(1), name="unused")
    run(runtime, v * 2)
    assert runtime.placed == [v]
    assert runtime.exchanges == [[Read("v0")]]


def test_without_variables_there_is_no_exchange(runtime: RecordingRuntime) -> None:
    assert run(runtime, deferred_call(np.add, [1.0, 2.0], op_type="Add")) == [3.0]
    assert runtime.exchanges == []


# -- each thing once, and again in the next run -----------------------------------------------------


def test_each_operation_runs_once_in_a_run_and_again_in_the_next(runtime: RecordingRuntime, graph: Graph) -> None:
    calls: list[int] = []
    source = counted(graph, calls)
    left, right = source + 1, source * 2
    assert run(runtime, left + right, left, source) == [4, 2, 1]
    assert len(calls) == 1
    run(runtime, source)
    assert len(calls) == 2


def test_a_variable_is_read_once_by_all_that_share_its_value(runtime: RecordingRuntime) -> None:
    (v,) = initialized(runtime, 3)
    assert run(runtime, v + v, v * v, v) == [6, 9, 3]
    assert runtime.exchanges == [[Read("v0")]]


def test_an_assignment_that_is_run_twice_applies_twice(runtime: RecordingRuntime) -> None:
    (v,) = initialized(runtime, 1)
    add = v.assign_add(2)
    assert run(runtime, add, add) == [3, 3], "once in one run, however often it is asked for"
    assert run(runtime, add) == [5]


def test_a_deep_graph_needs_no_deep_stack(runtime: RecordingRuntime) -> None:
    (v,) = initialized(runtime, 0)
    deep = v.value()
    for _ in range(3000):
        deep = deep + 1
    assert run(runtime, deep) == [3000]


# -- order ------------------------------------------------------------------------------------------


def test_control_dependencies_put_a_read_behind_an_update(runtime: RecordingRuntime, graph: Graph) -> None:
    (v,) = initialized(runtime, 1)
    before = v.value()
    with graph.control_dependencies([v.assign_add(10)]):
        after = v.read_value()
    assert run(runtime, before, after) == [1, 11]
    assert runtime.kinds == [["Read"], ["Update"], ["Read"]]


def test_control_dependencies_put_an_update_behind_a_read(runtime: RecordingRuntime, graph: Graph) -> None:
    (v,) = initialized(runtime, 1)
    before = v.read_value()
    with graph.control_dependencies([before]):
        add = v.assign_add(10).op
    assert run(runtime, add, before) == [1]
    assert run(runtime, v) == [11]


def test_updates_in_a_chain_of_control_dependencies_keep_their_order(runtime: RecordingRuntime, graph: Graph) -> None:
    (v,) = initialized(runtime, 1)
    last = v.assign(5).op
    for factor in (2, 3):
        with graph.control_dependencies([last]):
            last = v.assign(v.read_value() * factor).op
    run(runtime, last)
    assert run(runtime, v) == [30]


def test_a_control_input_runs_though_nothing_uses_its_value(runtime: RecordingRuntime, graph: Graph) -> None:
    a, b = initialized(runtime, 1, 2)
    with graph.control_dependencies([a.assign_add(1)]):
        read = b.read_value()
    assert run(runtime, read) == [2]
    assert run(runtime, a) == [2]


def test_a_variable_made_under_control_dependencies_does_not_wait_for_them(
    runtime: RecordingRuntime, graph: Graph
) -> None:
    (v,) = initialized(runtime, 1)
    with graph.control_dependencies([v.assign_add(1)]):
        other = new_variable(np.float32(7), name="other")
    run(runtime, other.initializer)
    assert run(runtime, other, v) == [7, 1]


# -- feeding ----------------------------------------------------------------------------------------


def test_what_is_fed_is_not_computed(runtime: RecordingRuntime, graph: Graph) -> None:
    (v,) = initialized(runtime, 1)
    calls: list[int] = []
    source = counted(graph, calls, v.value())
    assert run(runtime, source + 1, source, feeds={source: 5.0}) == [6, 5]
    assert (calls, runtime.exchanges) == ([], [])


def test_what_is_fed_stays_though_its_operation_runs(runtime: RecordingRuntime, graph: Graph) -> None:
    calls: list[int] = []
    source = counted(graph, calls)
    with graph.control_dependencies([source]):
        result = source * 1
    assert run(runtime, result, source.op, feeds={source: 5.0}) == [5]


def test_a_variable_is_fed_by_its_value(runtime: RecordingRuntime) -> None:
    (v,) = initialized(runtime, 1)
    assert run(runtime, v + 1, feeds={v.value(): 9.0}) == [10]
    assert runtime.exchanges == []


# -- what fails -------------------------------------------------------------------------------------


def test_a_circle_is_refused_before_anything_is_done(runtime: RecordingRuntime) -> None:
    (v,) = initialized(runtime, 1)
    runtime.placed.clear()
    add = v.assign_add(1).op
    other = v.assign_add(2).op
    add.add_control_inputs([other])
    other.add_control_inputs([add])
    with pytest.raises(InvalidArgumentError, match=r"AssignAdd(_1)? .*AssignAdd(_1)? .*wait for each other"):
        run(runtime, v.assign(3).op, add)
    assert (runtime.exchanges, runtime.placed) == ([], [])


def test_a_diamond_is_no_circle(runtime: RecordingRuntime, graph: Graph) -> None:
    (v,) = initialized(runtime, 1)
    top = v.assign_add(1).op
    sides = []
    for _ in range(2):
        with graph.control_dependencies([top]):
            sides.append(v.assign_add(10).op)
    with graph.control_dependencies(sides):
        assert run(runtime, v.read_value()) == [22]
    assert runtime.kinds == [["Update"], ["Update", "Update"], ["Read"]]


def test_an_operation_that_waits_for_itself_is_a_circle(runtime: RecordingRuntime) -> None:
    (v,) = initialized(runtime, 1)
    add = v.assign_add(1).op
    add.add_control_inputs([add])
    with pytest.raises(InvalidArgumentError, match="AssignAdd"):
        run(runtime, add)


def test_a_read_that_fails_stops_the_updates_behind_it(runtime: RecordingRuntime) -> None:
    a, b = initialized(runtime, 1, 2)
    empty = new_variable(np.float32(0), name="empty")
    with pytest.raises(FailedPreconditionError, match=r"variable empty .*not been initialised"):
        run(runtime, a.assign_add(1).op, b.assign(empty.value()).op)
    assert runtime.kinds == [["Read"]]
    assert run(runtime, a, b) == [1, 2]


def test_an_update_that_fails_leaves_those_beside_it_applied_and_stops_those_behind(
    runtime: RecordingRuntime, graph: Graph
) -> None:
    a, b = initialized(runtime, 1, 2)
    empty = new_variable(np.float32(0), name="empty")
    failing = empty.assign_add(1).op
    with graph.control_dependencies([failing]):
        behind = b.assign_add(1).op
    with pytest.raises(FailedPreconditionError, match="empty"):
        run(runtime, failing, a.assign_add(1).op, behind)
    assert run(runtime, a, b) == [2, 2]


def test_a_kernel_that_fails_names_its_operation(runtime: RecordingRuntime, graph: Graph) -> None:
    def kernel() -> Any:
        raise ValueError("no luck")

    spec = OutputSpec(np.dtype(np.float32))
    op = graph.create_op("Unlucky", [], [spec], name="scope/unlucky", computation=Kernel(kernel))
    with pytest.raises(InvalidArgumentError, match=r"operation scope/unlucky \(Unlucky\) .*no luck"):
        run(runtime, op.outputs[0])


def test_what_has_no_value_says_so(runtime: RecordingRuntime, graph: Graph) -> None:
    spec = OutputSpec(np.dtype(np.float32))
    with pytest.raises(InvalidArgumentError, match="placeholder x has no value; give it one in feed_dict"):
        run(runtime, graph.create_op("Placeholder", [], [spec], name="x").outputs[0] + 1)
    with pytest.raises(InvalidArgumentError, match=r"operation named .*only names something"):
        run(runtime, graph.create_op("Strange", [], [spec], name="named").outputs[0])


def test_asking_for_a_state_reads_no_value(runtime: RecordingRuntime) -> None:
    v = new_variable(np.float32(0))
    assert run(runtime, v.is_initialized()) == [False]
    assert runtime.exchanges == [[Describe("Variable")]]
    run(runtime, v.assign(1).op)
    assert isinstance(runtime.exchanges[1][0], Update)


def test_a_function_of_the_programs_own_has_numpys_warnings_as_the_program_set_them(
    runtime: RecordingRuntime, graph: Graph
) -> None:
    zero = constant(np.float32(0))
    seen: list[Any] = []

    def look(value: Any) -> Any:
        seen.append(np.geterr())
        return value

    looked = py_func(look, [1.0 / zero], np.float32)
    with np.errstate(divide="raise", over="warn", under="ignore", invalid="raise"):
        expected = np.geterr()
        assert run(runtime, looked) == [np.inf]  # without a warning: the division is the graph's
        assert np.geterr() == expected
    assert seen == [expected]
