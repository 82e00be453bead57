"""What variables of all kinds have in common: eager and deferred ones, whole and partitioned.

Which kind offers what is said in ``OFFERS``; a kind that learns something gets it there, and the tests of it then run
on that kind too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pytest

from ps_protocol.errors import (
    DTypeMismatchError,
    FailedPreconditionError,
    InvalidArgumentError,
    ShapeMismatchError,
    ShardscopeError,
)
from ps_protocol.operations import Array
from tests.unit.worker_client.clusters import InProcessCluster
from worker_client.deferred.partitioned import PartitionedDeferredVariable
from worker_client.graph.graph import Graph
from worker_client.initializers import Constant
from worker_client.scopes.variable_scope import get_variable
from worker_client.sessions.session import Session
from worker_client.values.conversion import IndexedSlices
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.partitioners import fixed_size_partitioner

EAGER, DEFERRED, PARTITIONED, PARTITIONED_DEFERRED = "eager", "deferred", "partitioned", "partitioned deferred"
ALL: Final = (EAGER, DEFERRED, PARTITIONED, PARTITIONED_DEFERRED)
WHOLE: Final = (EAGER, DEFERRED)
AT_ONCE: Final = (EAGER, PARTITIONED)

OFFERS: Final[dict[str, Sequence[str]]] = {
    "name": ALL,
    "shape": ALL,
    "dtype": ALL,
    "assign": ALL,
    "assign_add": ALL,
    "assign_sub": ALL,
    "get_shape": (DEFERRED, PARTITIONED, PARTITIONED_DEFERRED),
    "op": WHOLE,
    "graph": WHOLE,
    "device": WHOLE,
    "trainable": WHOLE,
    "read_value": WHOLE,
    "as_tensor": (PARTITIONED, PARTITIONED_DEFERRED),
    "numpy": (EAGER,),
    "value": (DEFERRED,),
    "read_if_newer": AT_ONCE,
    "push_dtype": AT_ONCE,
    "pull_dtype": AT_ONCE,
    "gather": (EAGER,),
    "sparse_read": (DEFERRED,),
    "gather_nd": (DEFERRED,),
    **{f"scatter_{rule}": WHOLE for rule in ("update", "add", "sub", "mul", "div", "min", "max")},
    **{f"scatter_nd_{rule}": (DEFERRED,) for rule in ("update", "add", "sub")},
    "batch_scatter_update": (DEFERRED,),
    "count_up_to": (DEFERRED,),
    "push_buffer": (EAGER,),
    "version": (EAGER,),
    "initialize": (EAGER,),
    "initialized": (EAGER,),
    "initializer": (DEFERRED,),
    "is_initialized": (DEFERRED,),
    "load": (DEFERRED,),
}
"""The kinds that have each attribute; what is in it for one that has not yet is an error, or nothing."""

INITIAL: Final = np.arange(8, dtype=np.float32).reshape(4, 2)


class Subject:
    """One kind of variable, and how a test gets at what it does.

    Args:
        kind: One of ``ALL``.
        session: Runs what deferred ones make.
    """

    def __init__(self, kind: str, session: Session | None):
        self.kind = kind
        self.session = session

    @property
    def is_partitioned(self) -> bool:
        return self.kind in (PARTITIONED, PARTITIONED_DEFERRED)

    def declared(self, value: Any = INITIAL, name: str = "scope/v", *, axis: int = 0) -> Any:
        """A variable without a value, whose initial value is given."""
        value = np.asarray(value, np.float32)
        partitioner = fixed_size_partitioner(2, axis=axis) if self.is_partitioned else None
        return get_variable(name, value.shape, initializer=Constant(value), partitioner=partitioner)

    def initialize(self, variable: Any) -> None:
        for part in variable if self.is_partitioned else [variable]:
            if self.session is None:
                part.initialize()
            else:
                self.session.run(part.initializer)

    def variable(self, value: Any = INITIAL, name: str = "scope/v", *, axis: int = 0) -> Any:
        """A variable that has a value."""
        variable = self.declared(value, name, axis=axis)
        self.initialize(variable)
        return variable

    def done(self, result: Any) -> Any:
        """Has what a method returned done, if it is still to be done; returns its value."""
        return result if self.session is None else self.session.run(result)

    def read(self, variable: Any, **options: Any) -> Array:
        value: Array = self.done((variable.as_tensor if self.is_partitioned else variable.read_value)(**options))
        return value

    def rows(self, variable: Any, indices: Any) -> Array:
        value: Array = self.done((variable.gather if self.session is None else variable.sparse_read)(indices))
        return value


@pytest.fixture
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    kind: str = request.param
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(InProcessCluster())
        client = stack.enter_context(cluster.client(initialize=False))
        if kind in AT_ONCE:
            yield Subject(kind, None)
            return
        graph = stack.enter_context(Graph().as_default())
        yield Subject(kind, stack.enter_context(Session(client, graph=graph)))


def kinds(of: Sequence[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("subject", of, indirect=True)


each_kind = kinds(ALL)


def offered(attribute: str) -> pytest.MarkDecorator:
    """Runs a test on the kinds that have an attribute."""
    return kinds(OFFERS[attribute])


# -- facts ------------------------------------------------------------------------------------------


def has(variable: Any, attribute: str) -> bool:
    try:
        return hasattr(variable, attribute)
    except ShardscopeError:
        return False


@each_kind
def test_the_table_says_what_each_kind_offers(subject: Subject) -> None:
    variable = subject.variable()
    offered = {attribute for attribute in OFFERS if has(variable, attribute)}
    if subject.kind == PARTITIONED_DEFERRED:
        with pytest.raises(InvalidArgumentError, match=r"scope/v belongs to a deferred graph"):
            variable.read_if_newer(None)
        offered.remove("read_if_newer")
    assert offered == {attribute for attribute, kinds in OFFERS.items() if subject.kind in kinds}


@each_kind
def test_facts(subject: Subject) -> None:
    v = subject.declared()
    assert v.shape == (4, 2)
    assert v.dtype == np.float32
    assert v.name == ("scope/v" if subject.is_partitioned else "scope/v:0")
    assert isinstance(v, PartitionedVariable) == subject.is_partitioned
    assert isinstance(v, PartitionedDeferredVariable) == (subject.kind == PARTITIONED_DEFERRED)
    assert {v: 1}[v] == 1
    assert "scope/v" in repr(v)


# -- whole values -----------------------------------------------------------------------------------


@each_kind
def test_a_value_that_was_read_is_the_readers(subject: Subject) -> None:
    v = subject.variable()
    value = subject.read(v)
    np.testing.assert_array_equal(value, INITIAL)
    assert value.dtype == np.float32
    value[:] = 7
    np.testing.assert_array_equal(subject.read(v), INITIAL)


@each_kind
def test_without_a_value_it_cannot_be_read(subject: Subject) -> None:
    v = subject.declared()
    for act in (lambda: subject.read(v), lambda: subject.done(v.assign_add(INITIAL))):
        with pytest.raises(FailedPreconditionError, match=r"scope/v.* not been initialised"):
            act()
    subject.initialize(v)
    np.testing.assert_array_equal(subject.read(v), INITIAL)


@each_kind
def test_assigning_is_a_way_to_initialise(subject: Subject) -> None:
    v = subject.declared()
    subject.done(v.assign(INITIAL + 1))
    np.testing.assert_array_equal(subject.read(v), INITIAL + 1)


@each_kind
@pytest.mark.parametrize(("method", "factor"), [("assign", 0), ("assign_add", 1), ("assign_sub", -1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, list])
def test_updates(subject: Subject, method: str, factor: int, dtype: Any) -> None:
    v, delta = subject.variable(), np.full((4, 2), 3)
    given: Any = delta.astype(dtype) if dtype is not list else delta.tolist()
    if dtype is list and subject.is_partitioned:
        given = [given[:2], given[2:]]  # one for each part
    subject.done(getattr(v, method)(given))
    np.testing.assert_array_equal(subject.read(v), 3 if factor == 0 else INITIAL + factor * 3)


@each_kind
def test_a_value_may_be_another_variable(subject: Subject) -> None:
    v, other = subject.variable(), subject.variable(INITIAL * 2, "other")
    subject.done(v.assign(other))
    np.testing.assert_array_equal(subject.read(v), INITIAL * 2)


@each_kind
@pytest.mark.parametrize("method", ["assign", "assign_add", "assign_sub"])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (np.zeros(8, np.float32), ValueError),
        (np.zeros((2, 4), np.float32), ValueError),
        (np.zeros((4, 1)), ValueError),
        (np.zeros((4, 2), complex), DTypeMismatchError),
        (np.full((4, 2), "x"), DTypeMismatchError),
    ],
)
def test_what_does_not_fit_is_refused(subject: Subject, method: str, value: Any, error: type[Exception]) -> None:
    v = subject.variable()
    with pytest.raises(error, match="scope/v"):
        getattr(v, method)(value)
    np.testing.assert_array_equal(subject.read(v), INITIAL)


@each_kind
def test_only_an_eager_whole_one_takes_a_scalar_delta(subject: Subject) -> None:
    v = subject.variable()
    if subject.kind == EAGER:
        v.assign_add(1)
        np.testing.assert_array_equal(subject.read(v), INITIAL + 1)
    else:
        with pytest.raises(ValueError, match="scope/v"):
            v.assign_add(1)
    with pytest.raises(ValueError, match="scope/v"):
        v.assign(1)


@kinds(AT_ONCE)
def test_without_waiting_an_update_is_a_future(subject: Subject) -> None:
    v, delta = subject.variable(), np.ones((4, 2), np.float32)
    futures = v.assign_add(delta, wait=False)
    delta[:] = 9
    for future in futures if subject.is_partitioned else [futures]:
        future.result(timeout=30)
    np.testing.assert_array_equal(subject.read(v), INITIAL + 1)


@each_kind
def test_a_partitioned_value_is_cut_along_any_dimension(subject: Subject) -> None:
    v = subject.variable(axis=1)
    subject.done(v.assign_add(INITIAL * 10))
    np.testing.assert_array_equal(subject.read(v), INITIAL * 11)
    if subject.is_partitioned:
        subject.done(v.assign([np.zeros((4, 1)), np.ones((4, 1))]))
        np.testing.assert_array_equal(subject.read(v), [[0, 1]] * 4)
        subject.done(v.assign(subject.variable(INITIAL * 3, "other", axis=0)))
        np.testing.assert_array_equal(subject.read(v), INITIAL * 3)
        for wrong in ([np.zeros((4, 1))], [np.zeros((4, 1)), np.zeros((3, 1))]):
            with pytest.raises(ValueError, match="scope/v"):
                v.assign(wrong)


# -- into arrays, in other forms, only what is new --------------------------------------------------


@kinds(AT_ONCE)
def test_a_value_is_read_into_an_array(subject: Subject) -> None:
    v = subject.variable()
    for out in (np.empty((4, 2), np.float32), np.empty((2, 4), np.float32).T, np.empty((4, 4), np.float32)[:, ::2]):
        assert subject.read(v, out=out) is out
        np.testing.assert_array_equal(out, INITIAL)


def read_only() -> Array:
    array: Array = np.empty((4, 2), np.float32)
    array.flags.writeable = False
    return array


@kinds(AT_ONCE)
@pytest.mark.parametrize(
    ("out", "error"),
    [
        (np.empty((2, 2), np.float32), ShapeMismatchError),
        (np.empty((4, 2)), DTypeMismatchError),
        (read_only(), InvalidArgumentError),
        ([[0.0, 0.0]] * 4, InvalidArgumentError),
    ],
)
def test_an_array_that_does_not_fit_is_refused(subject: Subject, out: Any, error: type[Exception]) -> None:
    v = subject.variable()
    with pytest.raises(error, match=r"variable scope/v: `out` .*make it with np\.empty\(\[4, 2\], 'float32'\)"):
        subject.read(v, out=out)
    with pytest.raises(error, match="scope/v"):
        v.read_if_newer(None, out=out)


@kinds([PARTITIONED_DEFERRED])
@pytest.mark.parametrize("options", [{"out": np.empty((4, 2), np.float32)}, {"wire_dtype": "exact"}])
def test_a_session_has_its_own_arrays_and_forms(subject: Subject, options: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"scope/v belongs to a deferred graph"):
        subject.variable().as_tensor(**options)


@offered("push_dtype")
def test_the_form_in_which_tensors_travel_is_chosen(subject: Subject) -> None:
    v = subject.variable()
    assert (v.push_dtype, v.pull_dtype) == ("exact", "exact")
    v.push_dtype, v.pull_dtype = "bfloat16", "float16"
    assert (v.push_dtype, v.pull_dtype) == ("bfloat16", "float16")
    np.testing.assert_array_equal(subject.read(v, wire_dtype="int8"), INITIAL)  # within a process nothing travels
    v.assign_add(INITIAL, wire_dtype="float16")
    for name in ("push_dtype", "pull_dtype"):
        with pytest.raises(InvalidArgumentError, match="'int4' is no wire dtype"):
            setattr(v, name, "int4")
    with pytest.raises(InvalidArgumentError, match="'int4' is no wire dtype"):
        subject.read(v, wire_dtype="int4")
    with pytest.raises(InvalidArgumentError, match="'int4' is no wire dtype"):
        v.assign(INITIAL, wire_dtype="int4")


@kinds([PARTITIONED_DEFERRED])
def test_in_a_deferred_graph_no_form_is_chosen(subject: Subject) -> None:
    v = subject.variable()
    for name in ("push_dtype", "pull_dtype"):
        with pytest.raises(InvalidArgumentError, match="scope/v belongs to a deferred graph"):
            setattr(v, name, "bfloat16")


@offered("read_if_newer")
def test_a_value_is_read_only_if_it_is_new(subject: Subject) -> None:
    v = subject.variable()
    first = v.read_if_newer(None)
    np.testing.assert_array_equal(first.value, INITIAL)
    assert v.read_if_newer(first.version) is None
    v.assign_add(INITIAL)
    np.testing.assert_array_equal(v.read_if_newer(first.version).value, 2 * INITIAL)
    with pytest.raises(InvalidArgumentError, match="scope/v"):
        v.read_if_newer("newest")


# -- in place of its value --------------------------------------------------------------------------


@kinds([EAGER, DEFERRED, PARTITIONED])
def test_in_arithmetic_it_stands_for_its_value(subject: Subject) -> None:
    v = subject.variable()
    np.testing.assert_array_equal(subject.done(np.ones((4, 2), np.float32) + v), INITIAL + 1)
    np.testing.assert_array_equal(subject.done(np.add(v, np.ones((4, 2), np.float32))), INITIAL + 1)


@each_kind
def test_its_array_is_a_copy_of_a_value_that_is_known(subject: Subject) -> None:
    v = subject.variable()
    if subject.session is None:
        np.testing.assert_array_equal(np.asarray(v, np.float64), INITIAL)
        with pytest.raises(ValueError, match=r"scope/v .*always a copy"):
            np.array(v, copy=False)
    else:
        with pytest.raises(TypeError, match="no value before a session runs it"):
            np.asarray(v)


# -- rows -------------------------------------------------------------------------------------------


@kinds(WHOLE)
def test_rows(subject: Subject) -> None:
    v = subject.variable()
    for indices in ([3, 0, 3], [[2], [0]], np.int32(1), np.array([1], np.uint8), []):
        expected = INITIAL[np.asarray(indices, np.int64)]
        np.testing.assert_array_equal(subject.rows(v, indices), expected)
    with pytest.raises(InvalidArgumentError, match=r"row 4 .*scope/v"):
        subject.rows(v, [0, 4])
    with pytest.raises(InvalidArgumentError, match=r"row -1 .*scope/v"):
        subject.rows(v, [-1])
    with pytest.raises(DTypeMismatchError, match="scope/v"):
        subject.rows(v, [0.5])


@kinds(WHOLE)
def test_a_scalar_has_no_rows(subject: Subject) -> None:
    v = subject.variable(1.0)
    with pytest.raises(ShapeMismatchError, match=r"scope/v .*0 dimensions"):
        subject.rows(v, [0])
    with pytest.raises(ShapeMismatchError, match=r"scope/v .*0 dimensions"):
        v.scatter_add(IndexedSlices(1, [0]))


@offered("gather")
def test_rows_are_read_into_an_array(subject: Subject) -> None:
    v, out = subject.variable(), np.empty((2, 2), np.float32)
    assert v.gather([3, 0], out=out) is out
    np.testing.assert_array_equal(out, INITIAL[[3, 0]])
    with pytest.raises(ShapeMismatchError, match="scope/v"):
        v.gather([3], out=out)
    memory = np.zeros(1, np.int64)
    with pytest.raises(InvalidArgumentError, match="scope/v: `out` overlaps the indices"):
        v.gather(memory, out=memory.view(np.float32).reshape(1, 2))


@offered("scatter_add")
@pytest.mark.parametrize(
    ("rule", "rows"),
    [
        ("update", [[0, 1], [8, 8], [4, 4], [6, 7]]),
        ("add", [[0, 1], [10, 11], [10, 11], [6, 7]]),
        ("sub", [[0, 1], [-6, -5], [-2, -1], [6, 7]]),
        ("mul", [[0, 1], [16, 24], [32, 40], [6, 7]]),
        ("div", [[0, 1], [0.25, 0.375], [0.5, 0.625], [6, 7]]),
        ("min", [[0, 1], [2, 3], [2, 2], [6, 7]]),
        ("max", [[0, 1], [8, 8], [4, 5], [6, 7]]),
    ],
)
def test_rows_are_scattered(subject: Subject, rule: str, rows: Any) -> None:
    v = subject.variable()
    slices = IndexedSlices(np.array([[8, 8], [2, 2], [4, 4]], np.float32), [1, 2, 2])
    subject.done(getattr(v, f"scatter_{rule}")(slices))
    np.testing.assert_array_equal(subject.read(v), rows)


@offered("scatter_add")
def test_rows_are_scattered_by_a_scalar(subject: Subject) -> None:
    v = subject.variable()
    subject.done(v.scatter_add(IndexedSlices(2, [[1], [1]])))
    np.testing.assert_array_equal(subject.read(v), INITIAL + np.array([[0], [4], [0], [0]]))


@offered("scatter_add")
@pytest.mark.parametrize(
    ("slices", "error", "message"),
    [
        (IndexedSlices([[1, 1]], [4]), InvalidArgumentError, "row 4 .*scope/v"),
        (IndexedSlices([[1, 1], [1, 1]], [0, -1]), InvalidArgumentError, "row -1 .*scope/v"),
        (IndexedSlices([[1, 1]], [0, 1]), ShapeMismatchError, r"scope/v .*\[1, 2\], needed is \[2, 2\] or a scalar"),
        (IndexedSlices([1, 1], [0]), ShapeMismatchError, r"scope/v .*\[2\], needed is \[1, 2\] or a scalar"),
        (IndexedSlices([[1, 1]], [0.5]), DTypeMismatchError, "scope/v"),
        (IndexedSlices([[1j, 1]], [0]), DTypeMismatchError, "scope/v"),
    ],
)
def test_rows_that_do_not_fit_change_nothing(
    subject: Subject, slices: Any, error: type[Exception], message: str
) -> None:
    v = subject.variable()
    with pytest.raises(error, match=message):
        subject.done(v.scatter_add(slices))
    np.testing.assert_array_equal(subject.read(v), INITIAL)
