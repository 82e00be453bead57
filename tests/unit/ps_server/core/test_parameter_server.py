from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import numpy as np
import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    ShardscopeError,
    StateLostError,
    UnavailableError,
)
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import (
    Array,
    Batch,
    Declare,
    Describe,
    PsOperation,
    Read,
    Reply,
    Result,
    Update,
    UpdateRule,
    VariableSpec,
)
from ps_protocol.ps_service import ClusterService
from ps_protocol.service_types import Proposal, ServingState
from ps_server.batches.handlers import HANDLERS
from ps_server.batches.update_ledger import LedgerLimits
from ps_server.core.parameter_server import ParameterServer
from ps_server.core.state import MemoryState
from ps_server.log.state_parts import StateParts
from tests.unit.ps_server.waiting import PATIENCE_S, wait_until

CLUSTER = ClusterSpec({"ps": ["first:1", "second:2"], "worker": ["w:3"]})
CLIENT = UUID(int=7)
SPEC = VariableSpec("w", np.dtype(np.float32), ())
ADD = Update("w", UpdateRule.ASSIGN_ADD, np.array(1, np.float32))


def parameter_server(task_index: int = 0) -> ParameterServer:
    core = ParameterServer(cluster_spec=CLUSTER, task_index=task_index)
    core.hello(CLIENT, "worker:0", timeout_s=PATIENCE_S)
    return core


def exchange(core: ParameterServer, *operations: PsOperation, sequence: int = 0) -> tuple[Reply, ...]:
    batch = Batch(CLIENT, core.store_incarnation, sequence, operations)
    return core.exchange(batch, timeout_s=PATIENCE_S).replies


def declare(core: ParameterServer, sequence: int = 1) -> None:
    (reply,) = exchange(core, Declare(SPEC, InitializerSpec(ConstantKind(1.0))), sequence=sequence)
    assert isinstance(reply, Result)


def value_of(core: ParameterServer) -> float:
    (reply,) = exchange(core, Read("w"))
    assert isinstance(reply, Result)
    assert reply.tensor is not None
    return float(reply.tensor)


def test_is_a_ps_service() -> None:
    service: ClusterService = parameter_server()
    service.close()


def test_welcomes_with_task_store_and_seed() -> None:
    core = ParameterServer(cluster_spec=CLUSTER, task_index=1, job_seed=5)
    welcome = core.hello(CLIENT, "worker:0", timeout_s=0)
    assert (welcome.task, welcome.store, welcome.job_seed) == ("ps:1", core.store_incarnation, 5)
    other = ParameterServer(cluster_spec=CLUSTER, task_index=1)
    assert other.store_incarnation != core.store_incarnation


def test_a_task_must_be_in_the_cluster() -> None:
    with pytest.raises(ValueError, match="ps:2"):
        ParameterServer(cluster_spec=CLUSTER, task_index=2)
    with pytest.raises(ValueError, match="no ps tasks"):
        ParameterServer(cluster_spec=ClusterSpec({"worker": ["a:1"]}), task_index=0)


# -- batches ------------------------------------------------------------------------------------


def test_a_batch_sent_again_counts_once() -> None:
    core = parameter_server()
    declare(core)
    first = exchange(core, ADD, Read("w"), sequence=2)
    again = exchange(core, ADD, Read("w"), sequence=2)
    for replies in (first, again):
        assert isinstance(replies[1], Result)
        assert replies[1].tensor == 2
    assert value_of(core) == 2
    assert core.status(timeout_s=0).duplicate_batches == 1


class SlowBatches:
    """A core whose time goes on by a second with each operation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        state = MemoryState(StateParts(CLUSTER, 0, clock=lambda: self.now_s))
        self.core = ParameterServer(cluster_spec=CLUSTER, task_index=0, state=state, clock=lambda: self.now_s)
        self.core.hello(CLIENT, "worker:0", timeout_s=PATIENCE_S)
        declare(self.core)
        self.carried_out = 0
        for kind in (Update, Read):
            monkeypatch.setitem(HANDLERS, kind, self._slow(HANDLERS[kind]))

    def _slow(self, handle: Callable[..., Reply]) -> Callable[..., Reply]:
        def slow(*args: object) -> Reply:
            self.carried_out += 1
            self.now_s += 1
            return handle(*args)

        return slow

    def exchange(self, *operations: PsOperation, sequence: int, timeout_s: float) -> tuple[Reply, ...]:
        batch = Batch(CLIENT, self.core.store_incarnation, sequence, operations)
        return self.core.exchange(batch, timeout_s=timeout_s).replies


def test_a_mutating_batch_that_has_begun_is_carried_out_though_its_time_is_over_and_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = SlowBatches(monkeypatch)
    first = slow.exchange(ADD, ADD, ADD, sequence=2, timeout_s=1.5)
    assert slow.now_s == 3.0
    again = slow.exchange(ADD, ADD, ADD, sequence=2, timeout_s=1.5)
    assert again == first
    assert slow.carried_out == 3
    assert value_of(slow.core) == 4


def test_a_mutating_batch_whose_time_is_over_before_it_begins_is_not_applied_and_may_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = SlowBatches(monkeypatch)

    def wait_in_vain(*_args: object) -> None:
        slow.now_s += 2

    with monkeypatch.context() as context:
        context.setattr(slow.core.state.parts.runner, "wait_for_initializations", wait_in_vain)
        with pytest.raises(DeadlineExceededError, match="nothing was applied"):
            slow.exchange(ADD, ADD, sequence=2, timeout_s=1.5)
    assert slow.carried_out == 0
    slow.exchange(ADD, ADD, sequence=2, timeout_s=1.5)
    assert value_of(slow.core) == 3


def test_a_batch_that_only_reads_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowBatches(monkeypatch)
    with pytest.raises(DeadlineExceededError, match="2 of the batch's 5 operations"):
        slow.exchange(*[Read("w")] * 5, sequence=0, timeout_s=1.5)
    assert slow.carried_out == 2


@pytest.mark.parametrize("may", [False, True])
def test_values_are_lent_and_operands_taken_only_where_the_caller_permits_it(may: bool) -> None:
    core = parameter_server()
    operand: Array = np.ones(100_000, np.float32)
    assign = Update("large", UpdateRule.ASSIGN, operand)
    mutation = Batch(
        CLIENT, core.store_incarnation, 1, (Declare(VariableSpec("large", operand.dtype, operand.shape)), assign)
    )
    core.exchange(mutation, timeout_s=PATIENCE_S, take_operands=may)
    read = Batch(CLIENT, core.store_incarnation, 0, (Read("large"),))
    (reply,) = core.exchange(read, timeout_s=PATIENCE_S, lend_values=True).replies
    assert isinstance(reply, Result)
    assert reply.tensor is not None
    assert not reply.tensor.flags.writeable
    assert np.shares_memory(reply.tensor, operand) == may
    (reply,) = core.exchange(read, timeout_s=PATIENCE_S).replies
    assert isinstance(reply, Result)
    assert reply.tensor is not None
    assert reply.tensor.flags.writeable


def test_what_a_mutating_batch_was_lent_is_remembered_as_a_copy() -> None:
    core = parameter_server()
    large = VariableSpec("large", np.dtype(np.float32), (100_000,))
    declare = Declare(large, InitializerSpec(ConstantKind(1.0)))
    add = Update("large", UpdateRule.ASSIGN_ADD, np.array(1, np.float32))
    batch = Batch(CLIENT, core.store_incarnation, 1, (declare, Read("large"), add))
    replies = [core.exchange(batch, timeout_s=PATIENCE_S, lend_values=True).replies[1] for _ in range(2)]
    assert all(isinstance(each, Result) and each.tensor is not None and (each.tensor == 1).all() for each in replies)
    assert core.status(timeout_s=0).duplicate_batches == 1


def test_a_batch_for_another_store_is_recognised() -> None:
    core = parameter_server()
    declare(core)
    with pytest.raises(StateLostError, match="Connect again") as lost:
        core.exchange(Batch(CLIENT, uuid4(), 2, (ADD,)), timeout_s=PATIENCE_S)
    assert (lost.value.task, lost.value.retryable) == ("ps:0", False)
    assert value_of(core) == 1


def test_errors_of_the_whole_batch_name_the_task() -> None:
    core = ParameterServer(cluster_spec=CLUSTER, task_index=1)
    with pytest.raises(FailedPreconditionError, match="has not said hello") as error:
        exchange(core, Describe("w"))
    assert error.value.task == "ps:1"


def test_a_batch_that_only_reads_has_no_number() -> None:
    core = parameter_server()
    with pytest.raises(InvalidArgumentError, match="changes nothing has the sequence 4"):
        exchange(core, Describe("w"), sequence=4)


def test_a_batch_that_mutates_has_a_number() -> None:
    core = parameter_server()
    with pytest.raises(InvalidArgumentError, match="number from 1"):
        exchange(core, ADD)


def test_a_number_used_for_another_batch_is_noticed() -> None:
    core = parameter_server()
    declare(core)
    with pytest.raises(InvalidArgumentError, match="sequence 1 was used before"):
        exchange(core, ADD, ADD, sequence=1)
    assert value_of(core) == 1


def test_any_timeout_can_be_given() -> None:
    core = parameter_server()
    for timeout_s in (float("inf"), 1e12, 0.0, -1.0):
        core.exchange(Batch(CLIENT, core.store_incarnation, 0, (Describe("w"),)), timeout_s=timeout_s)
    core.drain("the end", timeout_s=float("inf"))


def test_a_declaration_that_waited_in_vain_for_another_client_can_be_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    allowed: list[bool] = []

    def held(spec: VariableSpec, _initializer: InitializerSpec) -> Array:
        wait_until(lambda: bool(allowed))
        return np.ones(spec.shape, spec.dtype)

    core, other = parameter_server(), UUID(int=8)
    core.hello(other, "worker:1", timeout_s=0)
    monkeypatch.setattr(core._store, "_compute_initial_value", held)
    batch = Batch(other, core.store_incarnation, 1, (Declare(SPEC, InitializerSpec(ConstantKind(1.0))),))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(declare, core)
        wait_until(lambda: core._store.is_initializing)
        with pytest.raises(DeadlineExceededError, match="variable w"):
            core.exchange(batch, timeout_s=0.001)
        allowed.append(True)
        first.result(PATIENCE_S)
    assert core.exchange(batch, timeout_s=PATIENCE_S).replies == (Result(0, True, None, SPEC),)


def test_a_client_that_said_goodbye_is_refused() -> None:
    core = parameter_server()
    core.goodbye(CLIENT, timeout_s=0)
    for sequence, operation in ((0, Describe("w")), (1, ADD)):
        with pytest.raises(FailedPreconditionError, match="said goodbye"):
            exchange(core, operation, sequence=sequence)


def test_the_name_of_a_client_is_bounded() -> None:
    with pytest.raises(InvalidArgumentError, match="300 characters"):
        parameter_server().hello(uuid4(), "x" * 300, timeout_s=0)


def test_limits_reach_the_ledger_and_the_store() -> None:
    parts = StateParts(CLUSTER, 0, memory_limit_bytes=100, ledger_limits=LedgerLimits(clients=1))
    core = ParameterServer(cluster_spec=CLUSTER, task_index=0, state=MemoryState(parts))
    core.hello(CLIENT, "worker:0", timeout_s=0)
    core.exchange(Batch(CLIENT, core.store_incarnation, 0, (Read("w"),)), timeout_s=0)
    with pytest.raises(ShardscopeError, match="1 clients are connected"):
        core.hello(uuid4(), "worker:1", timeout_s=0)
    assert core.status(timeout_s=0).memory_limit_bytes == 100


# -- directory and members ----------------------------------------------------------------------


def test_task_0_keeps_directory_and_members() -> None:
    core = parameter_server()
    core.place([Proposal(SPEC, 1)], timeout_s=0)
    assert [each.ps_task for each in core.list_placements(timeout_s=0)] == [1]
    core.join("worker:0", CLIENT, "host", 1, timeout_s=0)
    core.report_progress("worker:0", CLIENT, 3, timeout_s=0)
    core.leave("worker:0", CLIENT, timeout_s=0)
    assert [each.step for each in core.list_members(timeout_s=0)] == [3]


def test_another_task_says_who_keeps_them() -> None:
    core = parameter_server(1)
    calls: list[Callable[[], object]] = [
        lambda: core.place([Proposal(SPEC, 1)], timeout_s=0),
        lambda: core.list_placements(timeout_s=0),
        lambda: core.join("worker:0", CLIENT, "host", 1, timeout_s=0),
        lambda: core.leave("worker:0", CLIENT, timeout_s=0),
        lambda: core.report_progress("worker:0", CLIENT, 3, timeout_s=0),
        lambda: core.list_members(timeout_s=0),
    ]
    for call in calls:
        with pytest.raises(FailedPreconditionError, match="is kept by ps:0 at first:1; ask there") as error:
            call()
        assert error.value.task == "ps:1"


def test_members_are_seen_by_the_wall_clock() -> None:
    core = ParameterServer(cluster_spec=CLUSTER, task_index=0, wall_clock=lambda: 123.0)
    core.join("worker:0", CLIENT, "host", 1, timeout_s=0)
    assert core.list_members(timeout_s=0)[0].joined_at_s == 123.0


# -- status -------------------------------------------------------------------------------------


def test_status_counts() -> None:
    now_s = [10.0]
    state = MemoryState(StateParts(CLUSTER, 0, memory_limit_bytes=1000))
    core = ParameterServer(cluster_spec=CLUSTER, task_index=0, state=state, clock=lambda: now_s[0])
    core.hello(CLIENT, "worker:0", timeout_s=0)
    declare(core)
    exchange(core, ADD, ADD, sequence=2)
    core.count_bytes(received=5, sent=6)
    now_s[0] = 15.0
    status = core.status(timeout_s=0)
    assert (status.task, status.state, status.store) == ("ps:0", ServingState.SERVING, core.store_incarnation)
    assert (status.uptime_s, status.num_variables, status.variable_bytes, status.memory_limit_bytes) == (
        5.0,
        1,
        4,
        1000,
    )
    assert (status.num_clients, status.batches, status.operations) == (1, 2, 3)
    assert (status.bytes_received, status.bytes_sent) == (5, 6)
    assert [each.version for each in core.list_variables(timeout_s=0)] == [2]


# -- draining -----------------------------------------------------------------------------------


def test_draining_refuses_what_is_new_and_answers_what_was_applied() -> None:
    core = parameter_server()
    declare(core)
    exchange(core, ADD, sequence=2)
    core.drain("an upgrade", timeout_s=0)
    refused: list[Callable[[], object]] = [
        lambda: exchange(core, ADD, sequence=3),
        lambda: exchange(core, Read("w")),
        lambda: core.hello(uuid4(), "worker:1", timeout_s=0),
    ]
    for each in refused:
        with pytest.raises(UnavailableError, match=r"draining \(an upgrade\)") as error:
            each()
        assert error.value.retryable
        assert error.value.task == "ps:0"
    assert exchange(core, ADD, sequence=2) == (Result(1, True),)
    assert [each.version for each in core.list_variables(timeout_s=0)] == [1]
    assert core.status(timeout_s=0).state is ServingState.STOPPED


def test_draining_lets_accepted_batches_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[bool] = []

    def held(value: Array, _rule: UpdateRule, operand: Array) -> None:
        wait_until(lambda: bool(allowed))
        value += operand

    core = parameter_server()
    declare(core)
    monkeypatch.setattr("ps_server.store.variable_store.apply_update", held)
    with ThreadPoolExecutor(2) as pool:
        accepted = pool.submit(exchange, core, ADD, sequence=2)
        wait_until(lambda: core.status(timeout_s=0).batches == 2)
        drained = pool.submit(core.drain, "the end", timeout_s=PATIENCE_S)
        wait_until(lambda: core.status(timeout_s=0).state is ServingState.DRAINING)
        with pytest.raises(UnavailableError):
            exchange(core, ADD, sequence=3)
        assert not drained.done()
        allowed.append(True)
        drained.result(PATIENCE_S)
        assert accepted.result(PATIENCE_S) == (Result(1, True),)


def test_shutdown_refuses_batches_and_asks_for_the_end() -> None:
    core, told = parameter_server(), []
    core.when_draining(lambda: told.append(True))
    assert not core.shutdown_requested.is_set()
    core.shutdown("the job is done", timeout_s=0)
    assert core.shutdown_requested.is_set()
    assert told == [True]
    with pytest.raises(UnavailableError, match="the job is done"):
        exchange(core, Describe("w"))
