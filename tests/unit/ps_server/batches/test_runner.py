from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec, ValueKind
from ps_protocol.operations import (
    Array,
    CountUpTo,
    Declare,
    Describe,
    Gather,
    Initialize,
    PsOperation,
    Read,
    Result,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    VariableSpec,
)
from ps_server.batches.runner import BatchRunner
from ps_server.store.variable_store import VariableStore
from tests.unit.ps_server.waiting import PATIENCE_S, wait_until

SPEC = VariableSpec("w", np.dtype(np.float32), (3, 2))
ONES = InitializerSpec(ConstantKind(1.0))
ADD = Update("w", UpdateRule.ASSIGN_ADD, np.array(1, np.float32))


def runner_of(store: VariableStore, now_s: float = 0.0) -> BatchRunner:
    return BatchRunner(store, task="ps:3", clock=lambda: now_s)


@pytest.fixture
def store() -> VariableStore:
    store = VariableStore()
    store.declare(Declare(SPEC, ONES), PATIENCE_S)
    return store


def test_every_kind_of_operation_is_carried_out_in_order() -> None:
    operations: list[PsOperation] = [
        Declare(SPEC),
        Initialize("w", ONES),
        ADD,
        Scatter("w", ScatterRule.ADD, np.array([0]), np.array(1, np.float32)),
        Gather("w", np.array([0])),
        Read("w"),
        Describe("w"),
    ]
    replies = runner_of(VariableStore()).run(operations, PATIENCE_S).replies
    results = [each for each in replies if isinstance(each, Result)]
    assert [each.version for each in results] == [0, 0, 1, 2, 2, 2, 2]
    assert [each.initialized for each in results] == [False, True, True, True, True, True, True]
    assert results[0].spec == results[6].spec == SPEC
    assert results[4].tensor is not None
    assert results[4].tensor.tolist() == [[3, 3]]
    assert results[5].tensor is not None
    assert results[5].tensor.tolist() == [[3, 3], [2, 2], [2, 2]]


def test_an_error_is_the_reply_of_its_operation_alone(store: VariableStore) -> None:
    first, second, third = runner_of(store).run([ADD, Read("scope/v"), ADD], PATIENCE_S).replies
    assert isinstance(second, NotFoundError)
    assert (second.variable, second.task, second.__traceback__) == ("scope/v", "ps:3", None)
    assert (first, third) == (Result(1, True), Result(2, True))


def test_lack_of_memory_is_an_error_of_the_operation(store: VariableStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("ps_server.store.variable_store.apply_update", no_memory)
    (reply,) = runner_of(store).run([ADD], PATIENCE_S).replies
    assert isinstance(reply, ResourceExhaustedError)
    assert (reply.variable, reply.task, reply.retryable) == ("w", "ps:3", False)
    assert store.describe(Describe("w")).version == 0


def test_a_defect_is_logged_under_a_number_that_the_client_is_told(
    store: VariableStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def defect(*_: object) -> None:
        raise ZeroDivisionError("a secret of the ps")

    monkeypatch.setattr("ps_server.store.variable_store.apply_update", defect)
    with caplog.at_level(logging.ERROR):
        first, second = runner_of(store).run([ADD, Describe("w")], PATIENCE_S).replies
    assert isinstance(first, InternalError)
    assert "secret" not in first.message
    assert isinstance(second, Result)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.message.split()[1].strip(":") in first.message


# -- permissions --------------------------------------------------------------------------------

LARGE = VariableSpec("large", np.dtype(np.float32), (100_000,))
OTHER = VariableSpec("other", LARGE.dtype, LARGE.shape)


def lent(store: VariableStore, name: str) -> Array:
    tensor = store.read(Read(name), lend=True).tensor
    assert tensor is not None
    return tensor


def test_values_are_lent_and_operands_taken_with_leave_alone() -> None:
    store = VariableStore()
    operand: Array = np.ones(LARGE.shape, LARGE.dtype)
    operations: list[PsOperation] = [Declare(LARGE), Update("large", UpdateRule.ASSIGN, operand), Read("large")]
    for may in (False, True):
        result = runner_of(store).run(operations, PATIENCE_S, lend_values=may, take_operands=may).replies[2]
        assert isinstance(result, Result)
        assert result.tensor is not None
        assert result.tensor.flags.writeable != may
        assert np.shares_memory(result.tensor, operand) == may


def test_initial_values_are_taken_with_leave() -> None:
    store = VariableStore()
    declared, overwritten = np.zeros(LARGE.shape, LARGE.dtype), np.ones(LARGE.shape, LARGE.dtype)
    declare = Declare(LARGE, InitializerSpec(ValueKind(declared)))
    runner_of(store).run([declare], PATIENCE_S, take_operands=True)
    assert np.shares_memory(lent(store, "large"), declared)
    overwrite = Initialize("large", InitializerSpec(ValueKind(overwritten)), overwrite=True)
    runner_of(store).run([overwrite], PATIENCE_S, take_operands=True)
    assert np.shares_memory(lent(store, "large"), overwritten)


def test_an_operand_that_two_operations_name_is_not_taken() -> None:
    store = VariableStore()
    operand: Array = np.ones(LARGE.shape, LARGE.dtype)
    operations: list[PsOperation] = [
        Declare(LARGE),
        Declare(OTHER),
        Update("large", UpdateRule.ASSIGN, operand),
        Update("other", UpdateRule.ASSIGN, operand.view()),
    ]
    replies = runner_of(store).run(operations, PATIENCE_S, take_operands=True).replies
    assert all(isinstance(each, Result) for each in replies)
    values = lent(store, "large"), lent(store, "other")
    assert not np.shares_memory(*values)
    assert not any(np.shares_memory(each, operand) for each in values)


# -- how large a reply will be ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operations", "size_bytes"),
    [
        ([], 0),
        ([ADD, Describe("w")], 0),
        ([Read("w"), Read("w")], 48),
        ([Read("w", unless_version=0)], 24),  # at most
        ([Gather("w", np.zeros((2, 2), np.int32))], 32),
        ([Read("missing"), Gather("missing", np.zeros(9, np.int32))], 0),
        ([Declare(VariableSpec("v", np.dtype(np.int64), (5,))), Read("v")], 40),
        ([Declare(VariableSpec("s", np.dtype(np.int64), ())), CountUpTo("s", 3)], 8),
        ([Declare(VariableSpec("s", np.dtype(np.int64), ())), Gather("s", np.zeros(9, np.int32))], 0),
    ],
)
def test_the_size_of_a_reply_is_known_before(
    store: VariableStore, operations: list[PsOperation], size_bytes: int
) -> None:
    assert runner_of(store).reply_size_bytes(operations) == size_bytes


# -- waiting for another client's initialisation ------------------------------------------------


def test_waits_for_initialisations_by_others_before_the_batch_counts() -> None:
    allowed: list[bool] = []

    def held(spec: VariableSpec, _initializer: Any) -> Array:
        wait_until(lambda: bool(allowed))
        if spec.name == "bad":
            raise InvalidArgumentError("no")
        return np.ones(spec.shape, spec.dtype)

    store = VariableStore(compute_initial_value=held)
    runner = runner_of(store)
    runner.wait_for_initializations([Declare(SPEC, ONES)], 0.0)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(store.declare, Declare(SPEC, ONES), PATIENCE_S)
        wait_until(lambda: store.is_initializing)
        with pytest.raises(DeadlineExceededError, match="still initialising variable w") as error:
            runner.wait_for_initializations([ADD, Initialize("w", ONES)], 0.0)
        assert error.value.variable == "w"
        runner.wait_for_initializations([ADD, Declare(VariableSpec("v", SPEC.dtype, ()), ONES)], 0.0)
        waiting = pool.submit(runner.wait_for_initializations, [Declare(SPEC, ONES)], PATIENCE_S)
        allowed.append(True)
        first.result(PATIENCE_S)
        waiting.result(PATIENCE_S)
