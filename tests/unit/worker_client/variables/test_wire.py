"""In what form the tensors of a variable travel, and what is taken back when an update fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import InvalidArgumentError, NotFoundError, StateLostError
from ps_protocol.operations import (
    Array,
    Batch,
    BatchReply,
    Gather,
    PsOperation,
    Read,
    Reply,
    Result,
    Scatter,
    Update,
    UpdateRule,
    VariableSpec,
    WireDType,
)
from tests.unit.worker_client.clusters import InProcessCluster
from worker_client.client import Client
from worker_client.graph.blocks import device
from worker_client.initializers import constant_initializer, zeros_initializer
from worker_client.scopes.variable_scope import get_variable
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.partitioners import fixed_size_partitioner
from worker_client.variables.variable import Variable

HALVES = np.array([127, 0.25, -0.25], np.float32)
FLOAT = np.dtype(np.float32)


class Wiretap:
    """Notes the operations that reach the ps tasks, and refuses those that it is told to.

    Attributes:
        operations: What has arrived.
        refuse: Gives the error that an operation is answered with, if any.
        lose: Gives the error that a batch is answered with, if any.
    """

    def __init__(self, cluster: InProcessCluster):
        self.operations: list[Any] = []
        self.refuse: Callable[[PsOperation], Reply | None] = lambda _: None
        self.lose: Callable[[Batch], Exception | None] = lambda _: None
        for task in cluster.tasks:
            self._tap(task)

    def _tap(self, task: Any) -> None:
        exchange = task.exchange

        def tapped(batch: Batch, **options: Any) -> BatchReply:
            self.operations += batch.operations
            lost = self.lose(batch)
            if lost is not None:
                raise lost
            refused = [self.refuse(operation) for operation in batch.operations]
            if any(refused):
                return BatchReply(tuple([each or Result(1, True) for each in refused]))
            reply: BatchReply = exchange(batch, **options)
            return reply

        task.exchange = tapped


@pytest.fixture
def tap(cluster: InProcessCluster) -> Wiretap:
    return Wiretap(cluster)


@pytest.fixture
def client(cluster: InProcessCluster, tap: Wiretap) -> Iterator[Client]:
    client = cluster.client()
    with client.as_default():
        yield client


def make(name: str = "w", shape: tuple[int, ...] = (3,), dtype: type = np.float32) -> Variable:
    variable = get_variable(name, list(shape), dtype=dtype, initializer=zeros_initializer())
    assert isinstance(variable, Variable)
    return variable


def owed(variable: Variable) -> list[float]:
    """What the variable still owes: what a push of nothing brings besides the largest element."""
    spec = VariableSpec("w", FLOAT, variable.shape)
    push = variable.push(Update(spec.name, UpdateRule.ASSIGN_ADD, np.zeros(spec.shape, FLOAT), WireDType.BFLOAT16))
    values: list[float] = push.operation.value.tolist()
    push.roll_back()
    return values


class TestForms:
    def test_everything_travels_exactly_by_default(self, client: Client, tap: Wiretap) -> None:
        variable = make()
        assert (variable.push_dtype, variable.pull_dtype) == ("exact", "exact")
        tap.operations.clear()
        variable.assign_add(HALVES)
        variable.scatter_add([0], [1.0])
        variable.read_value()
        variable.gather([0])
        client.read_all([variable])
        client.assign_add_all([(variable, HALVES)])
        assert {operation.wire for operation in tap.operations} == {WireDType.EXACT}

    def test_chosen_for_a_call(self, client: Client, tap: Wiretap) -> None:
        variable = make()
        tap.operations.clear()
        variable.assign(HALVES, wire_dtype="bfloat16")
        variable.assign_add(HALVES, wire_dtype="int8")
        variable.assign_sub(HALVES, wire_dtype="float16", wait=False).result(timeout=30)
        variable.scatter_update([0], [1.0], wire_dtype="int8")
        variable.scatter_add([0], [1.0], wire_dtype="int8", wait=False).result(timeout=30)
        variable.read_value(wire_dtype="bfloat16")
        variable.numpy(wire_dtype="float16")
        variable.gather([0], wire_dtype="int8")
        variable.read_if_newer(None, wire_dtype="int8")
        client.read_all([variable], wire_dtype="bfloat16")
        client.read_all_if_newer([variable], [None], wire_dtype="float16")
        client.gather_all([(variable, [1])], wire_dtype="float16")
        client.assign_all([(variable, HALVES)], wire_dtype="float16")
        client.assign_add_all([(variable, HALVES)], wire_dtype="int8")
        client.assign_add_all([(variable, HALVES)], wire_dtype="bfloat16", wait=False).result(timeout=30)
        assert [operation.wire.name.lower() for operation in tap.operations] == [
            *("bfloat16", "int8", "float16", "int8", "int8"),
            *("bfloat16", "float16", "int8", "int8"),
            *("bfloat16", "float16", "float16", "float16", "int8", "bfloat16"),
        ]

    @pytest.mark.parametrize(
        "method",
        ["scatter_update", "scatter_add", "scatter_sub", "scatter_mul", "scatter_div", "scatter_min", "scatter_max"],
    )
    def test_of_rows(self, client: Client, tap: Wiretap, method: str) -> None:
        variable = make()
        tap.operations.clear()
        getattr(variable, method)([0], [1.0], wire_dtype="int8")
        (scatter,) = tap.operations
        assert isinstance(scatter, Scatter)
        assert scatter.wire is WireDType.INT8
        assert scatter.updates.tolist() == [1]

    def test_chosen_for_a_variable(self, client: Client, tap: Wiretap) -> None:
        variable = make()
        variable.push_dtype, variable.pull_dtype = "int8", "bfloat16"
        assert (variable.push_dtype, variable.pull_dtype) == ("int8", "bfloat16")
        tap.operations.clear()
        variable.assign_add(HALVES)
        np.add(variable, 1)
        variable.gather([0])
        client.assign_add_all([(variable, HALVES)])
        client.read_all([variable])
        client.gather_all([(variable, [0])])
        pushes = [each.wire for each in tap.operations if isinstance(each, Update)]
        pulls = [each.wire for each in tap.operations if isinstance(each, Read | Gather)]
        assert set(pushes) == {WireDType.INT8}
        assert set(pulls) == {WireDType.BFLOAT16}
        assert (len(pushes), len(pulls)) == (2, 4)

    def test_a_call_may_ask_for_the_exact_value(self, client: Client, tap: Wiretap) -> None:
        variable = make()
        variable.push_dtype = variable.pull_dtype = "int8"
        tap.operations.clear()
        variable.assign_add(HALVES, wire_dtype="exact")
        variable.read_value(wire_dtype="exact")
        assert {operation.wire for operation in tap.operations} == {WireDType.EXACT}
        variable.push_dtype = None
        assert variable.push_dtype == "exact"

    def test_of_a_partitioned_variable(self, client: Client, tap: Wiretap) -> None:
        table = get_variable("table", [4], initializer=constant_initializer(0.0), partitioner=fixed_size_partitioner(2))
        assert isinstance(table, PartitionedVariable)
        table.push_dtype, table.pull_dtype = "int8", "float16"
        assert (table.push_dtype, table.pull_dtype) == ("int8", "float16")
        tap.operations.clear()
        table.assign_add(np.ones(4, np.float32))
        client.assign_add_all([(table, np.ones(4, np.float32))], wire_dtype="bfloat16")
        table.as_tensor()
        table.as_tensor(wire_dtype="int8")
        table.read_if_newer(None)
        client.read_all([table])
        assert [operation.wire.name.lower() for operation in tap.operations] == [
            *["int8"] * 2,
            *["bfloat16"] * 2,
            *["float16"] * 2,
            *["int8"] * 2,
            *["float16"] * 4,
        ]

    def test_a_scalar_travels_exactly(self, client: Client, tap: Wiretap) -> None:
        variable = make()
        variable.assign_add(HALVES, wire_dtype="int8")
        tap.operations.clear()
        variable.assign_add(0.3, wire_dtype="int8")
        variable.scatter_add([0, 2], 0.3, wire_dtype="int8")
        update, scatter = tap.operations
        assert (update.wire, update.value.shape) == (WireDType.EXACT, ())
        assert (scatter.wire, scatter.updates.shape) == (WireDType.EXACT, ())


class TestRefusals:
    def test_integers(self, client: Client, tap: Wiretap) -> None:
        step = make("step", (2,), np.int64)
        tap.operations.clear()
        calls: list[Callable[[], object]] = [
            lambda: step.assign([1, 2], wire_dtype="int8"),
            lambda: step.assign_add([1, 2], wire_dtype="int8"),
            lambda: step.scatter_add([1], [2], wire_dtype="int8"),
            lambda: step.read_value(wire_dtype="int8"),
            lambda: step.gather([1], wire_dtype="int8"),
            lambda: client.read_all([step], wire_dtype="int8"),
            lambda: client.assign_add_all([(step, [1, 2])], wire_dtype="int8"),
            lambda: setattr(step, "push_dtype", "int8"),
            lambda: setattr(step, "pull_dtype", "int8"),
        ]
        for call in calls:
            with pytest.raises(InvalidArgumentError, match=r"variable step holds int64.*leave the wire dtype out"):
                call()
        assert not tap.operations
        assert (step.push_dtype, step.pull_dtype) == ("exact", "exact")

    def test_nothing_is_sent_or_owed_if_one_of_many_is_refused(self, client: Client, tap: Wiretap) -> None:
        first, step = make("first"), make("step", (3,), np.int64)
        tap.operations.clear()
        with pytest.raises(InvalidArgumentError, match="step"):
            client.assign_add_all([(first, HALVES), (step, [1, 2, 3])], wire_dtype="int8")
        assert not tap.operations
        assert owed(first) == [0, 0, 0]


class TestErrorFeedback:
    def test_many_pushes_add_up(self, client: Client) -> None:
        variable = make()
        for _ in range(4):
            variable.assign_add(HALVES, wire_dtype="int8")
        assert variable.read_value().tolist() == [508, 1, -1]
        variable.push_dtype = "int8"
        for _ in range(2):
            variable.assign_sub(HALVES)
            client.assign_add_all([(variable, -HALVES)])
        assert variable.read_value().tolist() == [0, 0, 0]

    def test_assigning_forgets(self, client: Client) -> None:
        variable = make()
        variable.assign_add(HALVES, wire_dtype="int8")
        variable.assign([0, 0, 0])
        assert owed(variable) == [0, 0, 0]

    def test_rows_are_rounded_one_by_one(self, client: Client) -> None:
        variable = make()
        variable.scatter_add([0, 1, 2], HALVES, wire_dtype="int8")
        assert owed(variable) == [0, 0, 0]

    def test_a_variable_of_this_process_is_exact(self, client: Client) -> None:
        with device("/job:worker/task:0"):
            variable = make("local")
        assert variable.ps_task is None
        variable.assign_add(HALVES, wire_dtype="int8")
        assert variable.read_value(wire_dtype="int8").tolist() == HALVES.tolist()


def refused_by_operation(tap: Wiretap, name: str) -> type[Exception]:
    tap.refuse = lambda each: NotFoundError("gone") if isinstance(each, Update) and each.name == name else None
    return NotFoundError


def refused_by_batch(tap: Wiretap, name: str) -> type[Exception]:
    def lost(batch: Batch) -> Exception | None:
        return StateLostError("gone") if any(each.name == name for each in batch.operations) else None

    tap.lose = lost
    return StateLostError


@pytest.mark.parametrize("refused", [refused_by_operation, refused_by_batch])
class TestFailures:
    @pytest.mark.parametrize("wait", [True, False])
    def test_what_is_not_applied_is_not_owed(
        self, client: Client, tap: Wiretap, refused: Callable[[Wiretap, str], type[Exception]], wait: bool
    ) -> None:
        variable = make()
        variable.assign_add(HALVES, wire_dtype="int8")
        error = refused(tap, "w")
        delta = np.array([127, 0.5, 0.125], np.float32)
        with pytest.raises(error):
            push(variable, delta, wait)
        assert owed(variable) == [0, 0.25, -0.25]

    @pytest.mark.parametrize("wait", [True, False])
    def test_of_many_only_those_that_failed(
        self, client: Client, tap: Wiretap, refused: Callable[[Wiretap, str], type[Exception]], wait: bool
    ) -> None:
        first, second = make("first"), make("second")
        assert {first.ps_task, second.ps_task} == {0, 1}
        error = refused(tap, "second")
        with pytest.raises(error):
            push_both(client, first, second, wait)
        assert owed(first) == [0, 0.25, -0.25]
        assert owed(second) == [0, 0, 0]

    @pytest.mark.parametrize("wait", [True, False])
    def test_of_one_task(
        self, client: Client, tap: Wiretap, refused: Callable[[Wiretap, str], type[Exception]], wait: bool
    ) -> None:
        with device("/job:ps/task:1"):
            first, second = make("first"), make("second")
        error = refused(tap, "second")
        with pytest.raises(error):
            push_both(client, first, second, wait)
        assert owed(second) == [0, 0, 0]
        assert owed(first) == ([0, 0.25, -0.25] if error is NotFoundError else [0, 0, 0])


def push(variable: Variable, delta: Array, wait: bool) -> None:
    if wait:
        variable.assign_add(delta, wire_dtype="int8")
    else:
        variable.assign_add(delta, wire_dtype="int8", wait=False).result(timeout=30)


def push_both(client: Client, first: Variable, second: Variable, wait: bool) -> None:
    pairs: list[tuple[Variable, Array]] = [(first, HALVES), (second, HALVES)]
    if wait:
        client.assign_add_all(pairs, wire_dtype="int8")
        return
    future: Future[None] = client.assign_add_all(pairs, wire_dtype="int8", wait=False)
    future.result(timeout=30)


def test_a_connection_that_is_closed_leaves_no_trace(client: Client) -> None:
    variable = make()
    variable.assign_add(HALVES, wire_dtype="int8")
    client.close()
    for call in (
        lambda: variable.assign_add(HALVES, wire_dtype="int8"),
        lambda: variable.assign_add(HALVES, wire_dtype="int8", wait=False),
        lambda: client.assign_add_all([(variable, HALVES)], wire_dtype="int8"),
        lambda: client.assign_add_all([(variable, HALVES)], wire_dtype="int8", wait=False),
    ):
        with pytest.raises(Exception, match="closed"):
            call()
    assert owed(variable) == [0, 0.25, -0.25]
