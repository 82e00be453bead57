"""Values that are lent, operands that are taken, and tensors that are put where the caller wants them."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import (
    DTypeMismatchError,
    FailedPreconditionError,
    InvalidArgumentError,
    ShapeMismatchError,
    ShardscopeError,
)
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec, ValueKind
from ps_protocol.operations import (
    Array,
    Declare,
    Gather,
    Initialize,
    Read,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    VariableSpec,
)
from ps_server.memory.spare_arrays import SpareArrays
from ps_server.store.variable_store import VariableStore
from tests.unit.ps_server.waiting import PATIENCE_S

FLOAT = np.dtype(np.float32)
SHAPE = (1_000, 50)
LARGE = VariableSpec("large", FLOAT, SHAPE)
ONES = InitializerSpec(ConstantKind(1.0))


def large(fill: float) -> Array:
    return np.full(SHAPE, fill, FLOAT)


@pytest.fixture
def store() -> VariableStore:
    store = VariableStore()
    store.declare(Declare(LARGE, ONES), 1.0)
    return store


def read(store: VariableStore, name: str = "large") -> Array:
    tensor = store.read(Read(name)).tensor
    assert tensor is not None
    return tensor


def lent(store: VariableStore, name: str = "large") -> Array:
    tensor = store.read(Read(name), lend=True).tensor
    assert tensor is not None
    return tensor


# -- lent values --------------------------------------------------------------------------------


def test_a_lent_value_is_read_only_and_the_value_itself(store: VariableStore) -> None:
    first, second = lent(store), lent(store)
    assert np.shares_memory(first, second)
    assert (first.shape, first.dtype) == (SHAPE, FLOAT)
    assert not first.flags.writeable
    np.testing.assert_array_equal(first, 1)


def test_a_value_is_not_lent_without_leave(store: VariableStore) -> None:
    first, second = read(store), read(store)
    assert not np.shares_memory(first, second)
    first[:] = 9
    assert (read(store) == 1).all()


def test_small_values_are_copied_even_with_leave(store: VariableStore) -> None:
    store.declare(Declare(VariableSpec("small", FLOAT, (8_192,)), ONES), 1.0)
    store.declare(Declare(VariableSpec("empty", FLOAT, (0, 100_000)), ONES), 1.0)
    small = lent(store, "small")
    small[:] = 9
    assert (read(store, "small") == 1).all()
    assert lent(store, "empty").shape == (0, 100_000)


def test_an_uninitialised_value_cannot_be_lent() -> None:
    store = VariableStore()
    store.declare(Declare(LARGE), 1.0)
    with pytest.raises(FailedPreconditionError):
        lent(store)


def test_a_read_that_is_answered_with_a_version_alone_lends_nothing(store: VariableStore) -> None:
    assert store.read(Read("large", unless_version=0), lend=True).tensor is None
    assert store.read(Read("large", unless_version=1), lend=True).tensor is not None


UPDATES: dict[str, tuple[Callable[[VariableStore], object], float]] = {
    "add": (lambda store: store.update(Update("large", UpdateRule.ASSIGN_ADD, large(4))), 5),
    "add a scalar": (lambda store: store.update(Update("large", UpdateRule.ASSIGN_ADD, np.array(4, FLOAT))), 5),
    "subtract": (lambda store: store.update(Update("large", UpdateRule.ASSIGN_SUB, large(4))), -3),
    "assign": (lambda store: store.update(Update("large", UpdateRule.ASSIGN, large(7))), 7),
    "take": (lambda store: store.update(Update("large", UpdateRule.ASSIGN, large(7)), take=True), 7),
    "scatter": (
        lambda store: store.scatter(Scatter("large", ScatterRule.ADD, np.arange(1_000), np.array(2, FLOAT))),
        3,
    ),
    "initialise": (
        lambda store: store.initialize(Initialize("large", InitializerSpec(ConstantKind(8.0)), overwrite=True), 1.0),
        8,
    ),
}


@pytest.mark.parametrize(("update", "after"), UPDATES.values(), ids=UPDATES.keys())
@pytest.mark.parametrize("derive", [lambda view: view, lambda view: view[3:, ::2], lambda view: view.data.cast("B")])
def test_what_was_lent_never_changes(
    store: VariableStore, update: Callable[[VariableStore], Any], after: float, derive: Callable[[Array], Any]
) -> None:
    held = derive(lent(store))
    before = bytes(held) if isinstance(held, memoryview) else held.copy()
    for version in (1, 2):
        assert update(store).version == version
    np.testing.assert_array_equal(held, np.frombuffer(before, np.uint8) if isinstance(before, bytes) else before)
    assert store.update(Update("large", UpdateRule.ASSIGN, large(1))).version == 3
    del held
    assert update(store).version == 4
    np.testing.assert_array_equal(read(store), after)


@pytest.mark.parametrize("name", ["add", "scatter", "assign"])
def test_a_value_that_nobody_holds_any_more_is_updated_in_place(store: VariableStore, name: str) -> None:
    update, _ = UPDATES[name]
    address = lent(store).ctypes.data  # ctypes' own view is gone once the number is had
    gc.collect()
    update(store)
    assert lent(store).ctypes.data == address
    held = lent(store)
    update(store)
    assert lent(store).ctypes.data != held.ctypes.data


def test_the_array_of_a_lent_value_is_used_again_when_it_has_come_back(store: VariableStore) -> None:
    add, _ = UPDATES["add"]
    first = lent(store)
    address = first.ctypes.data
    add(store)
    second = lent(store)
    del first
    add(store)
    assert lent(store).ctypes.data == address
    np.testing.assert_array_equal(second, 5)
    np.testing.assert_array_equal(read(store), 9)


def test_without_room_for_spares_nothing_is_kept() -> None:
    store = VariableStore(spare_limit_bytes=LARGE.size_bytes - 1)
    store.declare(Declare(LARGE, ONES), 1.0)
    held = lent(store)
    UPDATES["add"][0](store)
    assert store.spare_bytes == 0
    np.testing.assert_array_equal(held, 1)


def test_an_update_of_a_lent_value_that_fails_changes_nothing(
    store: VariableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    held = lent(store)
    monkeypatch.setattr(SpareArrays, "take", no_memory)
    for name in ("add", "assign", "scatter"):
        with pytest.raises(MemoryError):
            UPDATES[name][0](store)
    assert store.read(Read("large")).version == 0
    np.testing.assert_array_equal(held, 1)
    del held
    assert store.update(Update("large", UpdateRule.ASSIGN_ADD, large(1))).version == 1


def test_borrowers_see_whole_versions_while_others_update() -> None:
    store = VariableStore()
    store.declare(Declare(LARGE, InitializerSpec(ConstantKind(0.0))), PATIENCE_S)
    num_updates, add = 50, Update("large", UpdateRule.ASSIGN_ADD, np.array(1, FLOAT))
    start = threading.Barrier(4)

    def update() -> None:
        start.wait(PATIENCE_S)
        for _ in range(num_updates):
            store.update(add)

    def borrow() -> list[tuple[int, Array]]:
        start.wait(PATIENCE_S)
        held: list[tuple[int, Array]] = []
        while not held or held[-1][0] < 2 * num_updates:
            result = store.read(Read("large"), lend=True)
            assert result.tensor is not None
            assert (result.tensor == result.version).all()
            held = [*held[-5:], (result.version, result.tensor[3:])]
        return held

    with ThreadPoolExecutor(4) as pool:
        updates, borrowers = [pool.submit(update) for _ in range(2)], [pool.submit(borrow) for _ in range(2)]
        for each in updates:
            each.result(PATIENCE_S)
        for borrower in borrowers:
            for version, part in borrower.result(PATIENCE_S):
                assert (part == version).all()
    assert (read(store) == 2 * num_updates).all()


# -- taken operands -----------------------------------------------------------------------------


def test_an_operand_is_taken_with_leave_alone(store: VariableStore) -> None:
    copied, taken = large(2), large(3)
    store.update(Update("large", UpdateRule.ASSIGN, copied))
    assert not np.shares_memory(lent(store), copied)
    store.update(Update("large", UpdateRule.ASSIGN, taken), take=True)
    assert np.shares_memory(lent(store), taken)


def test_the_first_value_is_taken_too() -> None:
    store = VariableStore()
    store.declare(Declare(LARGE), 1.0)
    taken = large(3)
    assert store.update(Update("large", UpdateRule.ASSIGN, taken), take=True).version == 1
    assert np.shares_memory(lent(store), taken)


def test_an_operand_that_is_no_value_as_it_is_is_copied(store: VariableStore) -> None:
    whole = np.full((3, *SHAPE), 3, FLOAT)
    store.update(Update("large", UpdateRule.ASSIGN, whole[1]), take=True)
    assert not np.shares_memory(lent(store), whole)
    np.testing.assert_array_equal(read(store), 3)


def test_a_small_operand_is_copied(store: VariableStore) -> None:
    store.declare(Declare(VariableSpec("small", FLOAT, (2,)), ONES), 1.0)
    operand = np.zeros(2, FLOAT)
    store.update(Update("small", UpdateRule.ASSIGN, operand), take=True)
    operand[:] = 9
    assert read(store, "small").tolist() == [0, 0]


def test_a_taken_value_in_a_bytearray_is_lent_exactly(store: VariableStore) -> None:
    content = bytearray(LARGE.size_bytes)
    store.update(Update("large", UpdateRule.ASSIGN, np.ndarray(SHAPE, FLOAT, content)), take=True)
    held = lent(store)[5:]
    UPDATES["add"][0](store)
    assert (held == 0).all()
    assert (read(store) == 4).all()


@pytest.mark.parametrize("take", [False, True])
def test_an_initial_value_is_taken_with_leave_alone(take: bool) -> None:
    store, declared, initial = VariableStore(), large(2), large(3)
    store.declare(Declare(LARGE, InitializerSpec(ValueKind(declared))), 1.0, take=take)
    assert np.shares_memory(lent(store), declared) == take
    store.initialize(Initialize("large", InitializerSpec(ValueKind(initial)), overwrite=True), 1.0, take=take)
    assert np.shares_memory(lent(store), initial) == take
    np.testing.assert_array_equal(read(store), 3)


@pytest.mark.parametrize("array", [np.zeros(7, FLOAT), np.zeros(SHAPE, np.float64)])
def test_an_initial_value_that_does_not_fit_is_not_taken(array: Array) -> None:
    store = VariableStore()
    with pytest.raises(ShardscopeError):
        store.declare(Declare(LARGE, InitializerSpec(ValueKind(array))), 1.0, take=True)
    assert store.num_variables == 0


# -- tensors put where the caller wants them ----------------------------------------------------


@pytest.mark.parametrize("lend", [False, True])
def test_a_value_is_put_into_out(store: VariableStore, lend: bool) -> None:
    store.declare(Declare(VariableSpec("small", FLOAT, ()), ONES), 1.0)
    for name, out in (("large", large(0)), ("small", np.zeros((), FLOAT))):
        assert store.read(Read(name, out=out), lend=lend).tensor is out
        assert (out == 1).all()
        store.update(Update(name, UpdateRule.ASSIGN_ADD, np.array(1, FLOAT)))
        assert (out == 1).all()


@pytest.mark.parametrize("indices", [np.array([[3, 0], [3, 9]]), np.array(7), np.zeros(0, np.int64)])
def test_rows_are_put_into_out(store: VariableStore, indices: Array) -> None:
    out = np.zeros((*indices.shape, 50), FLOAT)
    assert store.gather(Gather("large", indices, out=out)).tensor is out
    assert (out == 1).all()
    flat = np.zeros(indices.shape, FLOAT)
    assert store.gather(Gather("large", indices, index_depth=2, out=flat)).tensor is flat
    assert (flat == 1).all()


@pytest.mark.parametrize(
    ("out", "error"),
    [
        (np.zeros(SHAPE, np.float64), DTypeMismatchError),
        (np.zeros(SHAPE[::-1], FLOAT), ShapeMismatchError),
        (np.zeros(SHAPE[::-1], FLOAT).T, InvalidArgumentError),
        (np.broadcast_to(np.zeros(50, FLOAT), SHAPE), InvalidArgumentError),
    ],
)
def test_out_must_fit(store: VariableStore, out: Array, error: type[ShardscopeError]) -> None:
    with pytest.raises(error, match="`out`"):
        store.read(Read("large", out=out))
    with pytest.raises(error, match="`out`"):
        store.gather(Gather("large", np.arange(1_000), out=out))


def test_out_of_an_uninitialised_variable_is_left_alone() -> None:
    store = VariableStore()
    store.declare(Declare(LARGE), 1.0)
    with pytest.raises(FailedPreconditionError):
        store.read(Read("large", out=large(0)))
