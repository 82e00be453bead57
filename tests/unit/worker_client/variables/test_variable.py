"""What a variable sends to its ps, what it refuses before sending, and how it stands for its value."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import numpy as np
import numpy.typing as npt
import pytest

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, NotFoundError, ShapeMismatchError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import (
    Describe,
    Gather,
    Initialize,
    PsOperation,
    Read,
    Result,
    ScatterRule,
    UpdateRule,
    VariableSpec,
)
from worker_client.connection.fanout import Routed
from worker_client.graph.definition import VariableDefinition
from worker_client.values.conversion import IndexedSlices
from worker_client.values.versions import Version
from worker_client.variables.base import OperationRunner
from worker_client.variables.variable import Variable

STORE = uuid4()
VALUE = np.arange(6, dtype=np.float32).reshape(3, 2)


class RecordingRunner:
    """Keeps the operations and answers reads with ``VALUE``."""

    def __init__(self) -> None:
        self.operations: list[Any] = []
        self.expected: list[int] = []
        self.later: list[Future[Result]] = []

    def run(self, ps_task: int | None, operation: PsOperation, *, expected_reply_bytes: int) -> Result:
        assert ps_task == 1
        self.operations.append(operation)
        self.expected.append(expected_reply_bytes)
        tensor = VALUE.copy() if isinstance(operation, Read) and operation.unless_version != 5 else None
        if isinstance(operation, Gather):
            tensor = VALUE[operation.indices]
        return Result(5, True, tensor)

    def run_later(self, ps_task: int | None, operation: PsOperation) -> Future[Result]:
        self.operations.append(operation)
        self.later.append(Future())
        return self.later[-1]

    def run_all(self, routed: Sequence[Routed]) -> list[Result]:
        return [
            self.run(each.ps_task, each.operation, expected_reply_bytes=each.expected_reply_bytes) for each in routed
        ]

    def new_buffer(self, ps_task: int | None, size_bytes: int) -> None:
        return None

    def store(self, ps_task: int | None) -> UUID:
        assert ps_task == 1
        return STORE


@pytest.fixture
def runner() -> RecordingRunner:
    return RecordingRunner()


@pytest.fixture
def variable(runner: RecordingRunner) -> Variable:
    return make(runner, "float32")


def make(runner: RecordingRunner, dtype: npt.DTypeLike) -> Variable:
    return Variable(
        cast(VariableDefinition, SimpleNamespace(trainable=True)),
        VariableSpec("scope/v", np.dtype(dtype), (3, 2)),
        initializer=InitializerSpec(ConstantKind(2)),
        runner=cast(OperationRunner, runner),
        ps_task=1,
        device="/job:ps/task:1",
    )


def test_names_and_facts(variable: Variable) -> None:
    assert (variable.name, variable.shape, variable.dtype) == ("scope/v:0", (3, 2), np.dtype("float32"))
    assert variable.device == "/job:ps/task:1"
    assert repr(variable) == "<Variable 'scope/v:0' shape=(3, 2) dtype=float32 device='/job:ps/task:1'>"


def test_version_and_state_are_asked_of_the_ps(variable: Variable, runner: RecordingRunner) -> None:
    assert variable.version == 5
    assert variable.initialized
    assert runner.operations == [Describe("scope/v")] * 2


@pytest.mark.parametrize(("method", "rule"), [("assign", 1), ("assign_add", 2), ("assign_sub", 3)])
def test_updates_convert_and_return_the_variable(
    variable: Variable, runner: RecordingRunner, method: str, rule: int
) -> None:
    assert getattr(variable, method)([[1, 2], [3, 4], [5, 6]]) is variable
    (sent,) = runner.operations
    assert (sent.name, sent.rule, sent.value.dtype) == ("scope/v", UpdateRule(rule), np.float32)


def test_deltas_may_be_scalars_but_values_not(variable: Variable, runner: RecordingRunner) -> None:
    variable.assign_add(1.0)
    assert runner.operations[0].value.shape == ()
    with pytest.raises(ShapeMismatchError, match=r"scope/v: the value has shape \[\], the variable \[3, 2\]"):
        variable.assign(1.0)


@pytest.mark.parametrize(
    ("value", "error"),
    [([1.0, 2.0], ShapeMismatchError), (np.ones((3, 2), complex), DTypeMismatchError), ("x", DTypeMismatchError)],
)
def test_what_does_not_fit_is_not_sent(
    variable: Variable, runner: RecordingRunner, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="scope/v"):
        variable.assign_add(value)
    assert runner.operations == []


def test_without_waiting_the_value_is_copied_and_the_future_is_of_the_variable(
    variable: Variable, runner: RecordingRunner
) -> None:
    delta = np.ones((3, 2), np.float32)
    future = variable.assign_add(delta, wait=False)
    delta[:] = 9
    assert runner.operations[0].value.max() == 1
    assert not future.done()
    runner.later[0].set_result(Result(1, True))
    assert future.result(0) is variable


def test_without_waiting_the_error_is_the_futures(variable: Variable, runner: RecordingRunner) -> None:
    future = variable.scatter_add([0], [[1, 1]], wait=False)
    runner.later[0].set_exception(NotFoundError("gone"))
    with pytest.raises(NotFoundError):
        future.result(0)


@pytest.mark.parametrize("rule", list(ScatterRule))
def test_each_scatter_method_sends_its_rule(variable: Variable, runner: RecordingRunner, rule: ScatterRule) -> None:
    method = getattr(variable, f"scatter_{rule.name.lower()}")
    assert method([2, 0], [[1, 1], [2, 2]]) is variable
    assert method(IndexedSlices([[1, 1], [2, 2]], [2, 0])) is variable
    assert method([[0], [1]], 7) is variable
    assert {(sent.rule, sent.name) for sent in runner.operations} == {(rule, "scope/v")}
    assert [sent.indices.tolist() for sent in runner.operations] == [[2, 0], [2, 0], [[0], [1]]]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (([0, 1], [[1, 1]]), ShapeMismatchError),
        (([0], None), InvalidArgumentError),
        ((IndexedSlices([[1, 1]], [0]), [[1, 1]]), InvalidArgumentError),
        (([0.5], [[1, 1]]), DTypeMismatchError),
        (([0], [[1j, 1]]), DTypeMismatchError),
    ],
)
def test_a_scatter_that_does_not_fit_is_not_sent(
    variable: Variable, runner: RecordingRunner, arguments: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="scope/v"):
        variable.scatter_add(*arguments)
    assert runner.operations == []


def test_gather_says_how_much_will_come(variable: Variable, runner: RecordingRunner) -> None:
    assert variable.gather([[2], [0]]).tolist() == [[[4, 5]], [[0, 1]]]
    assert runner.expected == [16]
    variable.numpy()
    assert runner.expected[1] == 24


def test_initialize_sends_the_declared_initializer(variable: Variable, runner: RecordingRunner) -> None:
    assert variable.initialize(overwrite=True) is variable
    assert runner.operations == [Initialize("scope/v", InitializerSpec(ConstantKind(2)), True)]


def test_arithmetic_stands_for_the_value(variable: Variable) -> None:
    np.testing.assert_array_equal(variable + 1, VALUE + 1)
    np.testing.assert_array_equal(2 * variable, 2 * VALUE)
    np.testing.assert_array_equal(variable - variable, 0 * VALUE)
    np.testing.assert_array_equal(-variable, -VALUE)
    np.testing.assert_array_equal(VALUE.T @ variable, VALUE.T @ VALUE)
    np.testing.assert_array_equal(variable > 2, VALUE > 2)
    np.testing.assert_array_equal(np.exp(variable), np.exp(VALUE))
    np.testing.assert_array_equal(np.add.reduce(variable), VALUE.sum(axis=0))
    np.testing.assert_array_equal(np.asarray(variable, np.float64), VALUE)
    np.testing.assert_array_equal(np.concatenate([variable, VALUE]), np.concatenate([VALUE, VALUE]))
    np.testing.assert_array_equal(variable[1], VALUE[1])
    assert len(variable) == 3


def test_changing_it_in_place_is_refused_with_the_remedy(variable: Variable, runner: RecordingRunner) -> None:
    with pytest.raises(TypeError, match=r"scope/v .*use assign, assign_add"):
        variable += 1
    assert runner.operations == []


def test_it_is_a_key_and_read_once_to_be_iterated(variable: Variable, runner: RecordingRunner) -> None:
    other = make(runner, "float32")
    assert variable == variable
    assert variable != other
    assert {variable: 1}[variable] == 1
    assert runner.operations == []
    assert [row.tolist() for row in variable] == VALUE.tolist()
    assert len(runner.operations) == 1


def test_the_array_to_read_into_goes_along_if_a_transport_can_fill_it(
    variable: Variable, runner: RecordingRunner
) -> None:
    out, other_order = np.empty((3, 2), np.float32), np.empty((2, 3), np.float32).T
    for given in (out, other_order):
        assert variable.read_value(out=given) is given
        np.testing.assert_array_equal(given, VALUE)
        assert variable.gather([1, 0, 2], out=given) is given
        np.testing.assert_array_equal(given, VALUE[[1, 0, 2]])
    assert [each.out is out for each in runner.operations] == [True, True, False, False]
    assert [each.out for each in runner.operations[2:]] == [None, None]


@pytest.mark.parametrize("out", [np.empty((3, 2)), np.empty((2, 2), np.float32), [[0.0, 0.0]] * 3])
def test_an_array_that_does_not_fit_is_not_sent(variable: Variable, runner: RecordingRunner, out: Any) -> None:
    for read in (variable.read_value, variable.numpy):
        with pytest.raises(InvalidArgumentError, match="scope/v"):
            read(out=out)
    with pytest.raises(InvalidArgumentError, match="scope/v"):
        variable.gather([0, 1, 2], out=out)
    with pytest.raises(InvalidArgumentError, match="scope/v"):
        variable.read_if_newer(None, out=out)
    assert runner.operations == []


def test_a_read_names_the_version_that_the_caller_has(variable: Variable, runner: RecordingRunner) -> None:
    newest = variable.read_if_newer(None)
    assert newest is not None
    assert (newest.version, newest.version.store) == (5, STORE)
    assert variable.read_if_newer(newest.version) is None
    assert variable.read_if_newer(4) is not None
    assert variable.read_if_newer(Version(5, uuid4())) is not None  # of a store that is gone
    assert [each.unless_version for each in runner.operations] == [None, 5, 4, None]
