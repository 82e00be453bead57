"""Reads into the caller's arrays, and of what is new only: through a whole client, on every transport."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from ps_protocol.errors import InvalidArgumentError, ShapeMismatchError, StateLostError
from ps_protocol.task_id import TaskId
from tests.contract.conftest import CLUSTER, TIMEOUT_S, TRANSPORTS, Task
from worker_client.client import Client
from worker_client.connection.direct import MAX_DIRECT_BYTES
from worker_client.connection.settings import Settings
from worker_client.initializers import ones_initializer
from worker_client.optimizers.rules import GradientDescent
from worker_client.placement.strategies import RoundRobinStrategy
from worker_client.scopes.variable_scope import get_variable
from worker_client.values.versions import Version, VersionedValue
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.partitioners import fixed_size_partitioner
from worker_client.variables.variable import Variable


@pytest.fixture(params=TRANSPORTS)
def tasks(request: pytest.FixtureRequest) -> Iterator[list[Task]]:
    with contextlib.ExitStack() as resources:
        yield [Task(request.param, index, resources) for index in range(2)]


@pytest.fixture
def client(tasks: list[Task]) -> Iterator[Client]:
    connected = Client(
        CLUSTER,
        TaskId("worker", 0),
        endpoints=[task.endpoint() for task in tasks],
        settings=Settings(operation_timeout_s=TIMEOUT_S),
        ps_strategy=RoundRobinStrategy(2),
        initialize=True,
    )
    with connected:
        yield connected


class Model:
    """Variables of all kinds on both ps tasks: whole, cut along the first and along the second dimension, a scalar."""

    def __init__(self, rows: int = 5) -> None:
        self.whole: Variable = get_variable("whole", [rows, 4])
        self.cut_rows: PartitionedVariable = get_variable("cut_rows", [rows, 4], partitioner=fixed_size_partitioner(3))
        self.cut_columns: PartitionedVariable = get_variable(
            "cut_columns", [rows, 4], partitioner=fixed_size_partitioner(2, axis=1)
        )
        self.scalar: Variable = get_variable("scalar", [], initializer=ones_initializer())

    @property
    def all(self) -> list[Any]:
        return [self.whole, self.cut_rows, self.cut_columns, self.scalar]

    def expected(self) -> list[Any]:
        return [
            self.whole.read_value(),
            np.concatenate([part.read_value() for part in self.cut_rows]),
            np.concatenate([part.read_value() for part in self.cut_columns], axis=1),
            self.scalar.read_value(),
        ]

    def arrays(self) -> list[Any]:
        return [np.full(value.shape, np.nan, np.float32) for value in self.expected()]


def batches(tasks: list[Task]) -> list[int]:
    return [task.core.status(timeout_s=TIMEOUT_S).batches for task in tasks]


def assert_equal(arrays: Any, expected: Any) -> None:
    for array, value in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(array, value)


@pytest.mark.parametrize("rows", [5, 50_000])  # in one message, and in a stream
def test_many_values_are_read_into_their_arrays(client: Client, tasks: list[Task], rows: int) -> None:
    model = Model(rows)
    out, before = model.arrays(), batches(tasks)
    returned = client.read_all(model.all, out=out)
    assert [after - each for after, each in zip(batches(tasks), before, strict=True)] == [1, 1]
    assert all(given is array for given, array in zip(returned, out, strict=True))
    assert_equal(out, model.expected())


def test_one_value_is_read_into_its_array(client: Client) -> None:
    model = Model()
    for variable, out, expected in zip(model.all, model.arrays(), model.expected(), strict=True):
        read = variable.as_tensor if isinstance(variable, PartitionedVariable) else variable.read_value
        assert read(out=out) is out
        np.testing.assert_array_equal(out, expected)
    out = np.empty((5, 4), np.float32)
    assert model.whole.numpy(out=out) is out


def test_an_array_in_another_order_is_filled_all_the_same(client: Client) -> None:
    model = Model()
    out = [np.empty((4, 5), np.float32).T, np.empty((10, 4), np.float32)[::2], np.empty((5, 8), np.float32)[:, ::2]]
    client.read_all(model.all[:3], out=out)
    assert_equal(out, model.expected()[:3])


def test_rows_are_read_into_their_array(client: Client) -> None:
    model = Model()
    whole = model.whole.read_value()
    out = np.empty((2, 2, 4), np.float32)
    assert model.whole.gather([[4, 0], [1, 1]], out=out) is out
    np.testing.assert_array_equal(out, whole[[[4, 0], [1, 1]]])
    both = [np.empty((1, 4), np.float32), np.empty((8, 3), np.float32).T[:, ::2][:2]]
    client.gather_all([(model.whole, [3]), (model.whole, [0, 2])], out=both)
    assert_equal(both, [whole[[3]], whole[[0, 2]]])


@pytest.mark.parametrize("rows", [5, 50_000])  # in one message, and in a stream
def test_rows_of_variables_in_parts_are_read_and_updated(client: Client, tasks: list[Task], rows: int) -> None:
    model = Model(rows)
    wanted = np.array([[rows - 1, 0], [2, 2]])
    for variable in (model.cut_rows, model.cut_columns):
        whole = variable.read_value()
        out = np.empty((2, 2, 4), np.float32)
        before = batches(tasks)
        assert variable.gather(wanted, out=out) is out
        np.testing.assert_array_equal(out, whole[wanted])
        variable.scatter_add(wanted, np.ones((2, 2, 4)))
        np.add.at(whole, wanted, 1)
        variable.scatter_nd_update([[1, 3], [rows - 1, 0]], [5, 6])
        whole[[1, rows - 1], [3, 0]] = [5, 6]
        everything = np.arange(rows)
        variable.scatter_sub(everything, np.full((rows, 4), 0.5), wait=False).result(TIMEOUT_S)
        assert max(after - each for after, each in zip(batches(tasks), before, strict=True)) == 4  # one for each call
        np.testing.assert_array_equal(variable.gather(everything), whole - np.float32(0.5))
        np.testing.assert_array_equal(variable.gather_nd([[1, 3], [4, 0]]), (whole - np.float32(0.5))[[1, 4], [3, 0]])
        variable.push_dtype = "bfloat16"
        variable.scatter_update([0, rows - 1], np.full((2, 4), 1 / 3))
        rounded = np.float32(1 / 3) if tasks[0].transport == "core" else np.float32(0.33398438)
        np.testing.assert_array_equal(variable.gather([0, rows - 1]), np.full((2, 4), rounded))


def test_an_index_that_is_wrong_updates_no_part(client: Client, tasks: list[Task]) -> None:
    model = Model()
    before, whole = batches(tasks), model.cut_rows.read_value()
    for indices in ([0, 5], [-1, 4]):
        with pytest.raises(InvalidArgumentError, match=r"row (5|-1) .*variable cut_rows .*nothing was changed"):
            model.cut_rows.scatter_add(indices, 1)
        with pytest.raises(InvalidArgumentError, match=r"row (5|-1) .*variable cut_rows") as refused:
            model.cut_rows.gather(indices)
        assert "changed" not in refused.value.message
    assert sum(batches(tasks)) - sum(before) == 2  # the read
    np.testing.assert_array_equal(model.cut_rows.read_value(), whole)


def test_rows_are_not_read_into_indices_that_are_still_needed(client: Client, tasks: list[Task]) -> None:
    model = Model()
    memory = np.zeros(40, np.uint8)
    out, indices = memory[:16].view(np.float32).reshape(1, 4), memory[8:24].view(np.int64)
    before = batches(tasks)
    with pytest.raises(InvalidArgumentError, match=r"variable whole: `out` overlaps the indices"):
        client.gather_all([(model.whole, [3]), (model.whole, indices)], out=[out, np.empty((2, 4), np.float32)])
    assert batches(tasks) == before
    apart = memory[16:32].view(np.int64)
    client.gather_all([(model.whole, [3]), (model.whole, apart)], out=[out, np.empty((2, 4), np.float32)])


def test_arrays_that_do_not_fit_are_refused_before_anything_is_read(client: Client, tasks: list[Task]) -> None:
    model = Model()
    good, before = model.arrays(), batches(tasks)
    indices = np.zeros((5, 4), np.int32)
    with pytest.raises(ShapeMismatchError, match="cut_rows"):
        client.read_all(model.all, out=[good[0], np.empty((3, 4), np.float32), *good[2:]])
    with pytest.raises(InvalidArgumentError, match="4 variables, but 3 arrays"):
        client.read_all(model.all, out=good[:3])
    with pytest.raises(InvalidArgumentError, match="overlap"):
        client.read_all(model.all, out=[good[0], good[0], *good[2:]])
    with pytest.raises(ShapeMismatchError, match="whole"):
        model.whole.gather([1, 2], out=np.empty((3, 4), np.float32))
    with pytest.raises(InvalidArgumentError, match="overlaps the indices"):
        model.whole.gather(indices[:, 0], out=indices.view(np.float32))
    assert batches(tasks) == before


def test_after_an_update_the_arrays_follow(client: Client) -> None:
    model = Model()
    out = model.arrays()
    for _ in range(3):
        client.assign_add_all(
            [(variable, 1.0 if variable is model.scalar else np.ones((5, 4))) for variable in model.all]
        )
        client.read_all(model.all, out=out)
        assert_equal(out, model.expected())


# -- what is new only -----------------------------------------------------------------------------


def test_a_value_is_read_again_only_if_it_has_changed(client: Client) -> None:
    v = Model().whole
    first = v.read_if_newer(None)
    assert first is not None
    assert v.read_if_newer(first.version) is None
    assert v.read_if_newer(int(first.version)) is None
    v.assign_add(np.ones((5, 4)))
    out = np.empty((5, 4), np.float32)
    second = v.read_if_newer(first.version, out=out)
    assert second is not None
    assert second.value is out
    assert second.version == first.version + 1
    np.testing.assert_array_equal(out, first.value + 1)
    out[:] = 7
    assert v.read_if_newer(second.version, out=out) is None
    assert (out == 7).all()


def test_a_partitioned_value_is_whole_also_if_one_part_has_changed(client: Client, tasks: list[Task]) -> None:
    v = Model().cut_rows
    first = v.read_if_newer(None)
    assert first is not None
    assert len(first.version) == 3
    before = batches(tasks)
    assert v.read_if_newer(first.version) is None
    assert [after - each for after, each in zip(batches(tasks), before, strict=True)] == [1, 1]
    list(v)[1].assign_add(np.ones((2, 4)))
    second = v.read_if_newer(first.version, out=np.full((5, 4), np.nan, np.float32))
    assert second is not None
    assert [new - old for new, old in zip(second.version, first.version, strict=True)] == [0, 1, 0]
    np.testing.assert_array_equal(second.value, v.as_tensor())
    assert second.value[2:4].min() > first.value[2:4].min()
    with pytest.raises(InvalidArgumentError, match="3 parts, and a version for each"):
        v.read_if_newer(first.version[:2])


def test_of_many_variables_those_that_changed_are_read(client: Client, tasks: list[Task]) -> None:
    model = Model()
    read = client.read_all_if_newer(model.all, [None] * 4)
    versions = [each.version for each in read if each is not None]
    assert_equal([each.value for each in read if each is not None], model.expected())
    before = batches(tasks)
    assert client.read_all_if_newer(model.all, versions) == [None] * 4
    assert [after - each for after, each in zip(batches(tasks), before, strict=True)] == [1, 1]
    next(iter(model.cut_columns)).assign_add(np.ones((5, 2)))
    model.scalar.assign_add(1)
    out = model.arrays()
    whole, rows, columns, scalar = client.read_all_if_newer(model.all, versions, out=out)
    assert (whole, rows) == (None, None)
    assert isinstance(columns, VersionedValue)
    assert isinstance(scalar, VersionedValue)
    assert isinstance(scalar.version, Version)
    assert_equal([columns.value, scalar.value], model.expected()[2:])
    assert columns.value is out[2]
    assert np.isnan(out[0]).all()
    with pytest.raises(InvalidArgumentError, match="4 variables, but 1 versions"):
        client.read_all_if_newer(model.all, [0])
    with pytest.raises(InvalidArgumentError, match="whole has no version"):
        client.read_all_if_newer(model.all[:1], [(0, 0)])


def test_a_mirror_follows_in_place_and_says_what_has_changed(client: Client, tasks: list[Task]) -> None:
    model = Model()
    mirror = client.mirror(model.all)
    values = mirror.values
    assert_equal(values, model.expected())
    before = batches(tasks)
    assert mirror.pull() == []
    assert [after - each for after, each in zip(batches(tasks), before, strict=True)] == [1, 1]
    model.whole.assign_add(np.ones((5, 4)))
    list(model.cut_columns)[1].assign_add(np.ones((5, 2)))
    assert mirror.pull() == [model.whole, model.cut_columns]
    assert_equal(values, model.expected())
    assert all(array is kept for array, kept in zip(mirror.values, values, strict=True))


def test_a_mirror_reads_into_the_arrays_of_its_caller(client: Client) -> None:
    model = Model()
    memory = np.full((5, 8), -1.0, np.float32)
    names = ("whole", "rows", "columns", "scalar")
    out = dict(zip(names, [np.empty_like(value) for value in model.expected()], strict=True))
    out["whole"] = memory[:, ::2]  # not in C order: read over an array aside
    mirror = client.mirror(dict(zip(names, model.all, strict=True)), out=out)
    for change in (1.0, 2.0):
        assert_equal(list(out.values()), model.expected())
        model.whole.assign_add(np.full((5, 4), change))
        model.cut_rows.assign_add(np.full((5, 4), change))
        assert mirror.pull() == [model.whole, model.cut_rows]
    assert all(array is given for array, given in zip(mirror.values, out.values(), strict=True))
    assert (memory[:, 1::2] == -1).all()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        pytest.param([np.empty((5, 4), np.float32)] * 2, "overlap in memory", id="shared"),
        pytest.param([np.empty((5, 4), np.float32)], "2 variables, but 1 arrays", id="too few"),
        pytest.param(
            [np.empty((5, 4)), np.empty((5, 4), np.float32)], "whole: `out` has the dtype float64", id="dtype"
        ),
        pytest.param({"a": np.empty((5, 4))}, "`out` takes a list", id="dictionary"),
    ],
)
def test_arrays_that_a_mirror_cannot_read_into_are_refused(client: Client, out: Any, message: str) -> None:
    model = Model()
    with pytest.raises(InvalidArgumentError, match=message):
        client.mirror([model.whole, model.cut_rows], out=out)


def test_a_mirror_is_pulled_in_the_exchange_of_a_step(client: Client, tasks: list[Task]) -> None:
    model = Model()
    mirror, optimizer = client.mirror(model.all), GradientDescent(1.0)
    gradients = [(np.ones_like(value), variable) for variable, value in zip(model.all, mirror.values, strict=True)]
    optimizer.apply_gradients(gradients)  # declares it
    for _ in range(3):
        before = batches(tasks)
        outcome = optimizer.apply_gradients(gradients, pull=mirror)
        assert [after - each for after, each in zip(batches(tasks), before, strict=True)] == [1, 1]
        assert_equal(mirror.values, model.expected())
        assert [each.verdict for each in outcome] == ["applied"] * 4
    assert mirror.pull() == model.all  # in all since the last one
    assert mirror.pull() == []


def test_large_values_are_pulled_behind_a_step_in_an_exchange_of_their_own(client: Client, tasks: list[Task]) -> None:
    large = get_variable("large", [MAX_DIRECT_BYTES // 16 + 1, 4])
    mirror, optimizer = client.mirror([large]), GradientDescent(1.0)
    optimizer.apply_gradients([(np.ones(large.shape), large)])
    before = sum(batches(tasks))
    optimizer.apply_gradients([(np.ones(large.shape), large)], pull=mirror)
    np.testing.assert_array_equal(mirror.values[0], large.read_value())
    assert sum(batches(tasks)) - before == 3  # the step, the pull, and the read of this test


def test_a_pull_moves_only_the_parts_that_changed(client: Client, tasks: list[Task]) -> None:
    model = Model(rows=5000)
    mirror = client.mirror(model.all)
    before = sum(task.core.status(timeout_s=TIMEOUT_S).bytes_sent for task in tasks)
    list(model.cut_rows)[2].assign_add(np.ones((1666, 4)))
    assert mirror.pull() == [model.cut_rows]
    moved = sum(task.core.status(timeout_s=TIMEOUT_S).bytes_sent for task in tasks) - before
    assert moved in (0, 1666 * 16)  # the core itself sends nothing
    assert_equal(mirror.values, model.expected())


def test_a_restarted_ps_is_not_taken_for_the_one_before(client: Client, tasks: list[Task]) -> None:
    """Its versions begin anew, so that the numbers match: nothing may be answered "not newer" for that."""
    model = Model()
    mirror = client.mirror([model.whole])
    known = model.whole.read_if_newer(None)
    assert known is not None
    for task in tasks:
        object.__setattr__(task.core.state, "store_incarnation", uuid4())
    for read in (mirror.pull, lambda: model.whole.read_if_newer(known.version)):
        with pytest.raises(StateLostError):
            read()
