from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from ps_protocol.errors import (
    AbortedError,
    DTypeMismatchError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    OutOfRangeError,
    ResourceExhaustedError,
    ShapeMismatchError,
)
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec, OrthogonalKind, RandomUniformKind, ValueKind
from ps_protocol.operations import (
    Array,
    CountUpTo,
    Declare,
    Describe,
    Gather,
    Initialize,
    Read,
    Result,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    VariableSpec,
)
from ps_server.store.variable_store import VariableStore
from tests.unit.ps_server.waiting import PATIENCE_S

FLOAT = np.dtype(np.float32)
LARGE = VariableSpec("large", FLOAT, (200_000,))
ONES = InitializerSpec(ConstantKind(1.0))


def spec(name: str = "w", shape: tuple[int, ...] = (), dtype: Any = np.float32) -> VariableSpec:
    return VariableSpec(name, np.dtype(dtype), shape)


def array(value: Any, dtype: Any = np.float32) -> Array:
    return np.array(value, dtype)


def declared(store: VariableStore, *specs: VariableSpec, initializer: InitializerSpec | None = ONES) -> VariableStore:
    for each in specs:
        store.declare(Declare(each, initializer), PATIENCE_S)
    return store


def value_of(store: VariableStore, name: str = "w") -> Array:
    tensor = store.read(Read(name)).tensor
    assert tensor is not None
    return tensor


def add(store: VariableStore, value: Any, name: str = "w") -> Result:
    return store.update(Update(name, UpdateRule.ASSIGN_ADD, array(value)))


# -- declaring and initialising -----------------------------------------------------------------


def test_a_declared_variable_has_its_initial_value_and_version_0() -> None:
    store = VariableStore()
    result = store.declare(Declare(spec(shape=(2,)), ONES), PATIENCE_S)
    assert (result.version, result.initialized, result.spec) == (0, True, spec(shape=(2,)))
    assert value_of(store).tolist() == [1, 1]


def test_without_initializer_it_stays_uninitialised() -> None:
    store = declared(VariableStore(), spec(shape=(2,)), initializer=None)
    described = store.describe(Describe("w"))
    assert (described.version, described.initialized, described.spec) == (0, False, spec(shape=(2,)))
    use: list[Callable[[], object]] = [
        lambda: store.read(Read("w")),
        lambda: add(store, [1, 1]),
        lambda: store.gather(Gather("w", np.array([0]))),
        lambda: store.scatter(Scatter("w", ScatterRule.ADD, np.array([0]), array([1]))),
    ]
    for each in use:
        with pytest.raises(
            FailedPreconditionError,
            match=r"variable w .*not been initialised; run its initializer \(initialize\(\), or global_",
        ):
            each()
    assert store.describe(Describe("w")).version == 0


def test_a_large_uninitialised_variable_cannot_be_read() -> None:
    store = declared(VariableStore(), LARGE, initializer=None)
    with pytest.raises(FailedPreconditionError):
        store.read(Read("large"))


def test_declaring_again_changes_nothing() -> None:
    store = declared(VariableStore(), spec())
    add(store, 4)
    result = store.declare(Declare(spec(), InitializerSpec(ConstantKind(9.0))), PATIENCE_S)
    assert result.version == 1
    assert value_of(store) == 5
    assert store.num_variables == 1


def test_a_later_declaration_initialises_what_has_no_value() -> None:
    store = declared(VariableStore(), spec(), initializer=None)
    assert store.declare(Declare(spec(), ONES), PATIENCE_S).initialized
    assert value_of(store) == 1


@pytest.mark.parametrize(
    ("other", "error"),
    [(spec(shape=(3,)), ShapeMismatchError), (spec(shape=(2,), dtype=np.int32), DTypeMismatchError)],
)
def test_a_declaration_that_differs_is_refused(other: VariableSpec, error: type[Exception]) -> None:
    store = declared(VariableStore(), spec(shape=(2,)))
    with pytest.raises(error, match=r"w already exists as float32\[2\]"):
        store.declare(Declare(other, ONES), PATIENCE_S)
    assert value_of(store).tolist() == [1, 1]


@pytest.mark.parametrize(
    "initializer",
    [
        InitializerSpec(OrthogonalKind(1.0)),
        InitializerSpec(ValueKind(array([1, 2, 3]))),
        InitializerSpec(RandomUniformKind(1, 0)),
    ],
)
def test_a_declaration_that_fails_leaves_nothing_behind(initializer: InitializerSpec) -> None:
    store = VariableStore(memory_limit_bytes=100)
    with pytest.raises(InvalidArgumentError):
        store.declare(Declare(spec(shape=(2,)), initializer), PATIENCE_S)
    assert (store.num_variables, store.variable_bytes) == (0, 0)
    store.declare(Declare(spec(shape=(5,)), ONES), PATIENCE_S)
    assert value_of(store).shape == (5,)


def test_an_impossible_spec_is_refused() -> None:
    with pytest.raises(InvalidArgumentError):
        VariableStore().declare(Declare(spec(dtype=object)), PATIENCE_S)


def test_a_given_value_is_copied() -> None:
    store, given = VariableStore(), array([1, 2])
    store.declare(Declare(spec(shape=(2,)), InitializerSpec(ValueKind(given))), PATIENCE_S)
    given[:] = 9
    assert value_of(store).tolist() == [1, 2]


def test_initialize_keeps_a_value_unless_told_to_overwrite() -> None:
    store = declared(VariableStore(), spec(), initializer=None)
    assert store.initialize(Initialize("w", ONES), PATIENCE_S) == Result(0, True)
    add(store, 1)
    assert store.initialize(Initialize("w", ONES), PATIENCE_S) == Result(1, True)
    assert value_of(store) == 2
    assert store.initialize(Initialize("w", ONES, overwrite=True), PATIENCE_S) == Result(2, True)
    assert value_of(store) == 1


def test_initialize_with_overwrite_first_is_version_0() -> None:
    store = declared(VariableStore(), spec(), initializer=None)
    assert store.initialize(Initialize("w", ONES, overwrite=True), PATIENCE_S).version == 0


def test_a_wrong_initial_value_is_a_defect_and_not_kept() -> None:
    store = VariableStore(compute_initial_value=lambda _spec, _initializer: np.zeros(3))
    with pytest.raises(InternalError, match=r"w \(float32\[2\]\) was made as float64\[3\]"):
        store.declare(Declare(spec(shape=(2,)), ONES), PATIENCE_S)
    assert store.num_variables == 0


# -- concurrent initialisation ------------------------------------------------------------------


class HeldInitializer:
    """Makes initial values only when allowed to."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.allowed = threading.Event()
        self.made: list[float] = []

    def __call__(self, variable: VariableSpec, initializer: InitializerSpec) -> Array:
        assert isinstance(initializer.kind, ConstantKind)
        self.started.set()
        assert self.allowed.wait(PATIENCE_S)
        self.made.append(initializer.kind.value)
        if initializer.kind.value < 0:
            raise InvalidArgumentError("no negative values here")
        return np.full(variable.shape, initializer.kind.value, variable.dtype)


def constant(value: float) -> InitializerSpec:
    return InitializerSpec(ConstantKind(value))


def test_of_two_initialisations_at_once_the_first_wins_and_is_done_once() -> None:
    held = HeldInitializer()
    store = VariableStore(compute_initial_value=held)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(store.declare, Declare(spec(), constant(1)), PATIENCE_S)
        assert held.started.wait(PATIENCE_S)
        second = pool.submit(store.declare, Declare(spec(), constant(2)), PATIENCE_S)
        held.allowed.set()
        assert first.result(PATIENCE_S) == second.result(PATIENCE_S)
    assert held.made == [1]
    assert value_of(store) == 1


def test_who_waited_for_a_declaration_that_fails_declares_itself() -> None:
    held = HeldInitializer()
    store = VariableStore(memory_limit_bytes=4, compute_initial_value=held)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(store.declare, Declare(spec(), constant(-1)), PATIENCE_S)
        assert held.started.wait(PATIENCE_S)
        second = pool.submit(store.declare, Declare(spec(), constant(2)), PATIENCE_S)
        held.allowed.set()
        with pytest.raises(InvalidArgumentError):
            first.result(PATIENCE_S)
        assert second.result(PATIENCE_S).initialized
    assert value_of(store) == 2


def test_while_one_variable_is_initialised_everything_else_goes_on() -> None:
    held = HeldInitializer()
    held.allowed.set()
    store = declared(VariableStore(compute_initial_value=held), spec("other"))
    held.allowed.clear()
    held.started.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(store.declare, Declare(spec(), constant(1)), PATIENCE_S)
        assert held.started.wait(PATIENCE_S)
        assert store.is_initializing
        add(store, 1, "other")
        declared(store, spec("third"), initializer=None)
        assert [each.spec.name for each in store.list_variables()] == ["other", "third"]
        with pytest.raises(NotFoundError):
            store.read(Read("w"))
        with pytest.raises(AbortedError, match="still initialising variable w") as aborted:
            store.declare(Declare(spec(), ONES), 0)
        assert aborted.value.retryable
        assert not store.wait_while_initializing("w", 0)
        held.allowed.set()
        first.result(PATIENCE_S)
    assert not store.is_initializing
    assert store.wait_while_initializing("w", 0)


def test_a_value_assigned_meanwhile_is_not_initialised_away() -> None:
    held = HeldInitializer()
    store = declared(VariableStore(compute_initial_value=held), spec(), initializer=None)
    with ThreadPoolExecutor(1) as pool:
        initializing = pool.submit(store.initialize, Initialize("w", constant(1)), PATIENCE_S)
        assert held.started.wait(PATIENCE_S)
        store.update(Update("w", UpdateRule.ASSIGN, array(7)))
        held.allowed.set()
        assert initializing.result(PATIENCE_S).version == 1
    assert value_of(store) == 7


# -- memory -------------------------------------------------------------------------------------


def test_a_declaration_beyond_the_memory_limit_is_refused_clearly() -> None:
    store = declared(VariableStore(memory_limit_bytes=4096), spec("a", (512,)))
    with pytest.raises(ResourceExhaustedError) as refused:
        store.declare(Declare(spec("scope/b", (1024,)), None), PATIENCE_S)
    for part in ("scope/b", "needs 4.0 KiB", "limit of 4.0 KiB", "2.0 KiB are used", "--memory-limit"):
        assert part in refused.value.message
    assert not refused.value.retryable
    assert (store.num_variables, store.variable_bytes, store.memory_limit_bytes) == (1, 2048, 4096)
    declared(store, spec("c", (512,)))


def test_declaring_again_is_not_counted_again() -> None:
    store = declared(VariableStore(memory_limit_bytes=4), spec())
    store.declare(Declare(spec(), ONES), PATIENCE_S)
    store.initialize(Initialize("w", ONES, overwrite=True), PATIENCE_S)
    assert store.variable_bytes == 4


def test_concurrent_declarations_never_exceed_the_limit() -> None:
    store, barrier = VariableStore(memory_limit_bytes=40), threading.Barrier(8)

    def declare(worker: int) -> int:
        barrier.wait(PATIENCE_S)
        accepted = 0
        for index in range(5):
            try:
                store.declare(Declare(spec(f"w{worker}/{index}"), ONES), PATIENCE_S)
                accepted += 1
            except ResourceExhaustedError:
                pass
        return accepted

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(declare, range(8))) == 10
    assert store.variable_bytes == 40


# -- reading and updating -----------------------------------------------------------------------


def test_every_update_counts_one_version() -> None:
    store = declared(VariableStore(), spec(shape=(2,)), initializer=None)
    assert store.update(Update("w", UpdateRule.ASSIGN, array([1, 2]))) == Result(1, True)
    assert add(store, [1, 1]) == Result(2, True)
    assert store.update(Update("w", UpdateRule.ASSIGN_SUB, array(1))) == Result(3, True)
    assert store.scatter(Scatter("w", ScatterRule.MUL, np.array([1]), array([5]))) == Result(4, True)
    read = store.read(Read("w"))
    assert (read.version, read.initialized, read.spec) == (4, True, None)
    assert value_of(store).tolist() == [1, 10]


@pytest.mark.parametrize("size", [3, 100_000])
def test_a_read_copies_nothing_while_the_version_is_the_one_known(size: int) -> None:
    store = declared(VariableStore(), spec(shape=(size,)))
    assert store.read(Read("w", unless_version=0)) == Result(0, True)
    add(store, 1)
    changed = store.read(Read("w", unless_version=0))
    assert changed.version == 1
    assert changed.tensor is not None
    assert (changed.tensor == 2).all()
    assert store.read(Read("w", unless_version=1)) == Result(1, True)


def test_a_known_version_does_not_stand_in_for_a_value() -> None:
    store = declared(VariableStore(), spec(), initializer=None)
    with pytest.raises(FailedPreconditionError, match="has not been initialised"):
        store.read(Read("w", unless_version=0))
    with pytest.raises(NotFoundError):
        store.read(Read("missing", unless_version=0))


def test_a_refused_update_changes_neither_value_nor_version() -> None:
    store = declared(VariableStore(), spec(shape=(2,)))
    refused: list[Callable[[], object]] = [
        lambda: add(store, [1, 2, 3]),
        lambda: store.update(Update("w", UpdateRule.ASSIGN, np.array([1, 2]))),
        lambda: store.scatter(Scatter("w", ScatterRule.ADD, np.array([2]), array([1]))),
    ]
    for each in refused:
        with pytest.raises(InvalidArgumentError):
            each()
    assert store.describe(Describe("w")).version == 0
    assert value_of(store).tolist() == [1, 1]


@pytest.mark.parametrize("shape", [(3,), (100_000,)])
def test_arrays_in_and_out_are_not_shared(shape: tuple[int, ...]) -> None:
    store = declared(VariableStore(), spec(shape=shape), initializer=None)
    given = np.ones(shape, np.float32)
    store.update(Update("w", UpdateRule.ASSIGN, given))
    given[:] = 5
    value_of(store)[:] = 6
    assert (value_of(store) == 1).all()
    given[:] = 2
    store.update(Update("w", UpdateRule.ASSIGN, given))
    given[:] = 5
    assert (value_of(store) == 2).all()


@pytest.mark.parametrize("dtype", [np.bool_, np.int64, np.complex64, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2, "S7"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (40_000,)])
def test_holds_any_dtype_and_shape(dtype: Any, shape: tuple[int, ...]) -> None:
    store = declared(VariableStore(), spec(shape=shape, dtype=dtype), initializer=None)
    given = np.ones(shape).astype(dtype)
    store.update(Update("w", UpdateRule.ASSIGN, given))
    value = value_of(store)
    assert (value.dtype, value.shape) == (given.dtype, shape)
    np.testing.assert_array_equal(value, given)
    if shape:
        rows = np.zeros((1, 2) if shape[0] else (0,), np.int32)
        gathered = store.gather(Gather("w", rows)).tensor
        assert gathered is not None
        np.testing.assert_array_equal(gathered, given[rows])


def test_counts_up_to_the_limit_and_no_further() -> None:
    store = declared(VariableStore(), spec(dtype=np.int64), initializer=InitializerSpec(ConstantKind(5.0)))
    first = store.count_up_to(CountUpTo("w", 7))
    second = store.count_up_to(CountUpTo("w", 7))
    assert (first.version, second.version) == (1, 2)
    assert [first.tensor, second.tensor] == [5, 6]
    with pytest.raises(OutOfRangeError, match=r"variable w \(int64\[\]\) is 7 .*limit 7") as error:
        store.count_up_to(CountUpTo("w", 7))
    assert error.value.variable == "w"
    assert value_of(store) == 7
    assert store.describe(Describe("w")).version == 2
    assert second.tensor is not None
    second.tensor[...] = 99
    assert value_of(store) == 7, "the answer is the receiver's own"


def test_counting_needs_a_value() -> None:
    store = declared(VariableStore(), spec(dtype=np.int64), initializer=None)
    with pytest.raises(FailedPreconditionError, match="not been initialised"):
        store.count_up_to(CountUpTo("w", 7))
    with pytest.raises(NotFoundError):
        store.count_up_to(CountUpTo("v", 7))


def test_of_many_that_count_at_once_each_gets_a_number_of_its_own() -> None:
    store = declared(VariableStore(), spec(dtype=np.int32), initializer=InitializerSpec(ConstantKind(0.0)))
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: store.count_up_to(CountUpTo("w", 500)), range(500)))
    assert sorted(int(each.tensor) for each in results if each.tensor is not None) == list(range(500))
    with pytest.raises(OutOfRangeError):
        store.count_up_to(CountUpTo("w", 500))


def test_rows_are_counted_through_several_dimensions() -> None:
    store = declared(VariableStore(), spec(shape=(2, 3, 4)))
    rows = np.array([5, 0, 5])
    store.scatter(Scatter("w", ScatterRule.ADD, rows, array(np.ones((3, 4))), index_depth=2))
    store.scatter(Scatter("w", ScatterRule.UPDATE, np.array([[23]]), array(9), index_depth=3))
    expected = np.ones((2, 3, 4))
    expected[1, 2] += 2
    expected[0, 0] += 1
    expected[1, 2, 3] = 9
    np.testing.assert_array_equal(value_of(store), expected)
    gathered = store.gather(Gather("w", np.array([[5], [0]]), index_depth=2)).tensor
    np.testing.assert_array_equal(gathered, expected.reshape(6, 4)[[[5], [0]]])
    elements = store.gather(Gather("w", np.array([23, 0]), index_depth=3)).tensor
    np.testing.assert_array_equal(elements, [9, 2])


@pytest.mark.parametrize("index_depth", [0, 3, 4_000_000_000])
def test_rows_of_a_depth_that_there_is_not_are_refused(index_depth: int) -> None:
    store = declared(VariableStore(), spec(shape=(2, 3)))
    with pytest.raises(InvalidArgumentError, match=r"variable w .* has 2 dimensions"):
        store.gather(Gather("w", np.array([0]), index_depth))
    with pytest.raises(InvalidArgumentError, match=r"variable w .* has 2 dimensions"):
        store.scatter(Scatter("w", ScatterRule.ADD, np.array([0]), array(1), index_depth))
    with pytest.raises(InvalidArgumentError, match=r"row 6 .*outside \[0, 6\) of variable w [^;]*$"):
        store.gather(Gather("w", np.array([6]), 2))
    with pytest.raises(InvalidArgumentError, match=r"row 6 .*outside \[0, 6\).*; nothing was changed$"):
        store.scatter(Scatter("w", ScatterRule.ADD, np.array([6]), array(1), 2))


def test_gathers_with_the_version() -> None:
    store = declared(VariableStore(), spec(shape=(3, 2)))
    store.scatter(Scatter("w", ScatterRule.ADD, np.array([1]), array([[1, 2]])))
    result = store.gather(Gather("w", np.array([[1], [0]])))
    assert result.version == 1
    assert result.tensor is not None
    assert result.tensor.tolist() == [[[2, 3]], [[1, 1]]]


def test_what_does_not_exist_is_not_found() -> None:
    store = VariableStore()
    use: list[Callable[[], object]] = [
        lambda: store.read(Read("scope/w")),
        lambda: store.describe(Describe("scope/w")),
        lambda: store.initialize(Initialize("scope/w", ONES), PATIENCE_S),
        lambda: add(store, 1, "scope/w"),
    ]
    for each in use:
        with pytest.raises(NotFoundError, match="scope/w does not exist"):
            each()
    assert store.spec_of("scope/w") is None


def test_lists_variables_by_name() -> None:
    store = declared(VariableStore(), spec("b", (2,)), spec("a"), initializer=None)
    add(declared(store, spec("c")), 1, "c")
    listed = [(each.spec.name, each.version, each.initialized, each.size_bytes) for each in store.list_variables()]
    assert listed == [("a", 0, False, 4), ("b", 0, False, 8), ("c", 1, True, 4)]


# -- concurrent readers and writers -------------------------------------------------------------


def test_concurrent_additions_all_count() -> None:
    store, barrier = declared(VariableStore(), spec(dtype=np.int64), spec("rows", (4,), np.int64)), threading.Barrier(8)
    one = np.array(1)

    def work() -> None:
        barrier.wait(PATIENCE_S)
        for _ in range(500):
            store.update(Update("w", UpdateRule.ASSIGN_ADD, one))
            store.scatter(Scatter("rows", ScatterRule.ADD, np.array([1, 2, 1]), one))

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work) for _ in range(8)]:
            future.result(PATIENCE_S)
    assert value_of(store) == 4001
    assert value_of(store, "rows").tolist() == [1, 8001, 4001, 1]
    assert [each.version for each in store.list_variables()] == [4000, 4000]


def test_readers_never_see_half_an_update() -> None:
    store, barrier = declared(VariableStore(), LARGE), threading.Barrier(5)
    rows = np.arange(0, LARGE.shape[0], 1000)
    done = threading.Event()

    def write() -> None:
        barrier.wait(PATIENCE_S)
        while not done.is_set():
            store.update(Update("large", UpdateRule.ASSIGN_ADD, array(1)))
            store.update(Update("large", UpdateRule.ASSIGN, np.zeros(LARGE.shape, np.float32)))

    def read() -> None:
        barrier.wait(PATIENCE_S)
        for _ in range(60):
            value = value_of(store, "large")
            assert (value == value[0]).all()
            gathered = store.gather(Gather("large", rows)).tensor
            assert gathered is not None
            assert (gathered == gathered[0]).all()

    with ThreadPoolExecutor(5) as pool:
        writers = [pool.submit(write) for _ in range(2)]
        readers = [pool.submit(read) for _ in range(3)]
        try:
            for reader in readers:
                reader.result(PATIENCE_S)
        finally:
            done.set()
        for writer in writers:
            writer.result(PATIENCE_S)


def test_versions_and_values_belong_together() -> None:
    store, barrier = declared(VariableStore(), spec(dtype=np.int64)), threading.Barrier(4)

    def write() -> None:
        barrier.wait(PATIENCE_S)
        for _ in range(1000):
            store.update(Update("w", UpdateRule.ASSIGN_ADD, np.array(1)))

    def read() -> None:
        barrier.wait(PATIENCE_S)
        for _ in range(1000):
            result = store.read(Read("w"))
            assert result.tensor == result.version + 1

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work) for work in (write, write, read, read)]:
            future.result(PATIENCE_S)


def test_work_on_one_variable_does_not_hold_up_another(monkeypatch: pytest.MonkeyPatch) -> None:
    store = declared(VariableStore(), spec("busy"), spec("free"))
    inside, allowed = threading.Event(), threading.Event()

    def slow_update(value: Array, rule: UpdateRule, operand: Array) -> None:
        if operand == 99:
            inside.set()
            assert allowed.wait(PATIENCE_S)

    monkeypatch.setattr("ps_server.store.variable_store.apply_update", slow_update)
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(add, store, 99, "busy")
        assert inside.wait(PATIENCE_S)
        assert add(store, 1, "free").version == 1
        assert value_of(store, "free") == 1
        declared(store, spec("new"))
        allowed.set()
        busy.result(PATIENCE_S)


def test_what_is_prepared_is_prepared_before_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    # The array that a large value is read into is made while others still update: no allocation holds a writer up.
    store = declared(VariableStore(), LARGE)
    prepared = threading.Event()

    def updating_empty(shape: Any, dtype: Any = float) -> Array:
        store.update(Update("large", UpdateRule.ASSIGN_ADD, array(1)))
        prepared.set()
        return np.zeros(shape, dtype)

    monkeypatch.setattr("ps_server.store.variable_store.np.empty", updating_empty)
    value = value_of(store, "large")
    assert prepared.is_set()
    assert (value == 2).all()
