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
from worker_client.ops.constant_ops import placeholder
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
    "get_shape": ALL,
    "op": WHOLE,
    "graph": ALL,
    "device": WHOLE,
    "trainable": ALL,
    "read_value": ALL,
    "as_tensor": (PARTITIONED, PARTITIONED_DEFERRED),
    "value": ALL,
    "numpy": AT_ONCE,
    "read_if_newer": AT_ONCE,
    "push_dtype": AT_ONCE,
    "pull_dtype": AT_ONCE,
    "gather": ALL,
    "sparse_read": ALL,
    "gather_nd": ALL,
    **{f"scatter_{rule}": ALL for rule in ("update", "add", "sub", "mul", "div", "min", "max")},
    **{f"scatter_nd_{rule}": ALL for rule in ("update", "add", "sub")},
    "batch_scatter_update": ALL,
    "count_up_to": (DEFERRED,),
    "push_buffer": AT_ONCE,
    "version": AT_ONCE,
    "initialize": AT_ONCE,
    "initialized": AT_ONCE,
    "initializer": (DEFERRED,),
    "is_initialized": (DEFERRED,),
    "load": (DEFERRED,),
    **dict.fromkeys(("ndim", "size", "nbytes", "itemsize", "T", "tolist", "item", "__dlpack__"), AT_ONCE),
    **dict.fromkeys(("sum", "mean", "max", "min", "norm", "dot", "top_k", "histogram", "apply", "reduce"), AT_ONCE),
}
"""The kinds that have each attribute; what is in it for one that has not yet is an error, or nothing."""

INITIAL: Final = np.arange(8, dtype=np.float32).reshape(4, 2)


class Subject:
    """One kind of variable, and how a test gets at what it does.

    Args:
        kind: One of ``ALL``.
        session: Runs what deferred ones make.
        cluster: Has them.
    """

    def __init__(self, kind: str, session: Session | None, cluster: InProcessCluster):
        self.kind = kind
        self.session = session
        self.cluster = cluster

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
        value: Array = self.done(variable.read_value(**options))
        return value

    def rows(self, variable: Any, indices: Any) -> Array:
        value: Array = self.done(variable.gather(indices))
        return value

    def scattered(self, variable: Any, method: str, indices: Any, updates: Any) -> Any:
        """Has a method update rows or elements, given as each kind wants them; returns its result."""
        scatter = getattr(variable, method)
        if self.session is None or method.startswith("scatter_nd"):
            return self.done(scatter(indices, updates))
        return self.done(scatter(IndexedSlices(updates, indices)))


@pytest.fixture
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    kind: str = request.param
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(InProcessCluster())
        client = stack.enter_context(cluster.client(initialize=False))
        if kind in AT_ONCE:
            yield Subject(kind, None, cluster)
            return
        graph = stack.enter_context(Graph().as_default())
        yield Subject(kind, stack.enter_context(Session(client, graph=graph)), cluster)


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
        with pytest.raises(InvalidArgumentError, match=r"scope/v belongs to a deferred graph.* no read_if_newer"):
            variable.read_if_newer(None)
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
def test_only_those_that_act_at_once_take_a_scalar_delta(subject: Subject) -> None:
    v = subject.variable()
    if subject.kind in AT_ONCE:
        v.assign_add(1)
        v.assign_sub(np.float64(0.5))
        np.testing.assert_array_equal(subject.read(v), INITIAL + 0.5)
    else:
        with pytest.raises(ValueError, match="scope/v"):
            v.assign_add(1)
    with pytest.raises(ValueError, match="scope/v"):
        v.assign(1)


@kinds(AT_ONCE)
def test_an_update_returns_the_variable(subject: Subject) -> None:
    v = subject.variable()
    for method in ("assign", "assign_add", "assign_sub"):
        assert getattr(v, method)(INITIAL) is v
        assert getattr(v, method)(INITIAL, wait=False).result(timeout=30) is v
    assert v.scatter_add([0], [[1, 1]]) is v
    assert v.scatter_add([0], [[1, 1]], wait=False).result(timeout=30) is v
    assert v.initialize(overwrite=True) is v
    np.testing.assert_array_equal(subject.read(v), INITIAL)


@kinds(AT_ONCE)
def test_without_waiting_an_update_is_a_future(subject: Subject) -> None:
    v, delta = subject.variable(), np.ones((4, 2), np.float32)
    rows, updates = np.array([3, 0]), np.ones((2, 2), np.float32)
    futures = [
        v.assign_add(delta, wait=False),
        v.scatter_add(rows, updates, wait=False),
        v.scatter_nd_add(rows[:, np.newaxis], updates, wait=False),
        v.batch_scatter_update([[0], [1], [0], [1]], updates[[0, 0, 1, 1], :1], wait=False),
    ]
    delta[:], rows[:], updates[:] = 9, 1, 9
    for future in futures:
        future.result(timeout=30)
    expected = INITIAL + np.array([[3], [1], [1], [3]])
    expected[[0, 1, 2, 3], [0, 1, 0, 1]] = 1
    np.testing.assert_array_equal(subject.read(v), expected)


@each_kind
def test_a_partitioned_value_is_cut_along_any_dimension(subject: Subject) -> None:
    v = subject.variable(axis=1)
    subject.done(v.assign_add(INITIAL * 10))
    np.testing.assert_array_equal(subject.read(v), INITIAL * 11)
    if subject.is_partitioned:
        subject.done(v.assign([np.zeros((4, 1)), np.ones((4, 1))]))  # one for each part
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


@each_kind
def test_in_arithmetic_it_stands_for_its_value(subject: Subject) -> None:
    v = subject.variable()
    ones = np.ones((4, 2), np.float32)
    for made in (ones + v, v + ones, np.add(v, ones), np.add(v, 1.0, dtype=np.float32)):
        np.testing.assert_array_equal(subject.done(made), INITIAL + 1)
    np.testing.assert_array_equal(subject.done(v * v - v), INITIAL * INITIAL - INITIAL)
    np.testing.assert_array_equal(subject.done(v @ INITIAL.T), INITIAL @ INITIAL.T)
    np.testing.assert_array_equal(subject.done(-v), -INITIAL)
    np.testing.assert_array_equal(subject.done(v > 2), INITIAL > 2)
    np.testing.assert_array_equal(subject.done(v[1:3, 0]), INITIAL[1:3, 0])
    np.testing.assert_array_equal(subject.done(np.sum(v)), INITIAL.sum())
    np.testing.assert_allclose(subject.done(np.linalg.norm(v)), np.linalg.norm(INITIAL), rtol=1e-6)


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


@offered("__dlpack__")
def test_it_is_an_array_to_those_who_want_one(subject: Subject) -> None:
    v = subject.variable()
    assert (v.ndim, v.size, v.nbytes, v.itemsize) == (2, 8, 32, 4)
    np.testing.assert_array_equal(v.T, INITIAL.T)
    assert v.tolist() == INITIAL.tolist()
    assert v.item(3, 1) == 7
    shared = np.from_dlpack(v)
    np.testing.assert_array_equal(shared, INITIAL)
    with pytest.raises(BufferError, match=r"scope/v .*always a copy"):
        v.__dlpack__(copy=False)
    np.testing.assert_array_equal(np.concatenate([v, INITIAL]), np.concatenate([INITIAL, INITIAL]))
    v.assign(INITIAL / 3)
    np.testing.assert_array_equal(round(v, 1), np.round(INITIAL / 3, 1))
    np.testing.assert_array_equal(round(v), np.round(INITIAL / 3))
    assert f"{v}" == repr(v)


@offered("__dlpack__")
def test_what_an_array_has_besides_says_where_it_is(subject: Subject) -> None:
    v = subject.variable()
    with pytest.raises(AttributeError, match=r"scope/v has no 'cumsum' of its own.*numpy\(\)\.cumsum"):
        v.cumsum()
    with pytest.raises(AttributeError, match="has no attribute 'frobnicate'"):
        v.frobnicate()


@offered("__dlpack__")
def test_what_only_one_element_has_many_have_not(subject: Subject) -> None:
    v = subject.variable()
    with pytest.raises(ValueError, match=r"scope/v of shape \[4, 2\] has no truth value.*is not None"):
        bool(v)
    for convert in (int, float, complex):
        with pytest.raises(TypeError, match=r"scope/v of shape \[4, 2\] is no number"):
            convert(v)
    with pytest.raises(TypeError, match=r"scope/v .*cannot be written as '\.2f'"):
        format(v, ".2f")
    with pytest.raises(TypeError, match=r"scope/v .*is no index"):
        range(v)


@offered("__dlpack__")
def test_nothing_changes_it_in_place(subject: Subject) -> None:
    v = subject.variable()

    def add_in_place() -> None:
        nonlocal v
        v += 1

    def set_rows() -> None:
        v[0] = 1

    def delete_rows() -> None:
        del v[0]

    for change in (
        add_in_place,
        set_rows,
        delete_rows,
        lambda: np.add.at(v, 0, 1),
        lambda: np.add(INITIAL, 1, out=v),
        lambda: np.copyto(v, INITIAL),
    ):
        with pytest.raises(TypeError, match=r"scope/v .*use assign|must be a numpy\.ndarray"):
            change()
    np.testing.assert_array_equal(subject.read(v), INITIAL)


@each_kind
def test_it_equals_itself_only_and_is_a_key(subject: Subject) -> None:
    v, other = subject.variable(), subject.variable(name="other")
    assert v == v
    assert v != other
    assert {v: 1, other: 2}[v] == 1
    assert v in [other, v]
    np.testing.assert_array_equal(subject.done(np.equal(v, INITIAL)), True)


@each_kind
def test_as_in_tensorflow_parts_are_iterated_over_and_rows_at_once(subject: Subject) -> None:
    v = subject.variable()
    if subject.is_partitioned:
        parts = list(v)
        assert len(v) == len(parts) == 2
        assert list(reversed(v)) == parts[::-1]
        assert parts[0] in v
        assert [part.name for part in parts] == ["scope/v/part_0:0", "scope/v/part_1:0"]
    elif subject.session is None:
        before = subject.cluster.batches()
        np.testing.assert_array_equal(list(v), INITIAL)
        assert sum(subject.cluster.batches()) - sum(before) == 1
        np.testing.assert_array_equal(list(reversed(v)), INITIAL[::-1])
        assert len(v) == 4
        assert 7 in v
        assert 8 not in v
    else:
        with pytest.raises(TypeError, match="not iterable"):
            iter(v)


@each_kind
def test_in_a_graph_it_is_true_as_any_object(subject: Subject) -> None:
    v = subject.variable([0.0])
    assert bool(v) is (subject.session is not None)


@kinds([EAGER])
def test_a_scalar_is_a_number(subject: Subject) -> None:
    v, n = subject.variable(2.5), get_variable("n", [], np.int64, initializer=Constant(3))
    n.initialize()
    assert (float(v), int(v), complex(v), bool(v), round(v), round(v, 1)) == (2.5, 2, 2.5 + 0j, True, 2, 2.5)
    assert f"{v:.3f}" == "2.500"
    assert [*range(n)] == [0, 1, 2]
    assert (v.item(), v.tolist(), v.ndim, v.size) == (2.5, 2.5, 0, 1)
    for rows in (len, iter, reversed):
        with pytest.raises(TypeError, match="scope/v is a scalar"):
            rows(v)
    with pytest.raises(TypeError, match=r"scope/v .*is no index"):
        range(v)


# -- rows -------------------------------------------------------------------------------------------


@each_kind
def test_rows(subject: Subject) -> None:
    v = subject.variable()
    indices: Any
    for indices in ([3, 0, 3], [[2], [0]], np.int32(1), np.array([1], np.uint8), [], [[]], [1, 0], range(4)):
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


@kinds(AT_ONCE)
def test_rows_are_read_into_an_array(subject: Subject) -> None:
    v, out = subject.variable(), np.empty((2, 2), np.float32)
    for rows in ([3, 0], [1, 0], [2, 2]):
        for given in (out, np.empty((2, 4), np.float32)[:, ::2], np.empty((2, 2), np.float32, order="F")):
            assert v.gather(rows, out=given) is given
            np.testing.assert_array_equal(given, INITIAL[rows])
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
    subject.done(getattr(v, f"scatter_{rule}")(slices))  # in both parts of those that have some
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


@each_kind
@pytest.mark.parametrize("axis", [0, 1])
def test_rows_and_elements_of_a_value_that_is_cut_along_any_dimension(subject: Subject, axis: int) -> None:
    """As of the whole: each read and update is compared with that of an array."""
    expected = np.arange(40, dtype=np.float32).reshape(5, 4, 2)
    v = subject.variable(expected, axis=axis)
    rows, places = np.array([[4, 0, 2], [3, 4, 1]]), np.array([[4, 3], [0, 2], [2, 0], [4, 3]])
    np.testing.assert_array_equal(subject.rows(v, rows), expected[rows])
    np.testing.assert_array_equal(subject.done(v.sparse_read(4)), expected[4])
    np.testing.assert_array_equal(subject.done(v.gather_nd(places)), expected[tuple(places.T)])
    np.testing.assert_array_equal(subject.done(v.gather_nd([[1, 1, 1]])), expected[[1], [1], [1]])
    np.testing.assert_array_equal(subject.done(v.gather_nd([[2]])), expected[[2]])
    updates = np.arange(48, dtype=np.float32).reshape(2, 3, 4, 2)
    np.add.at(expected, rows, updates)
    subject.scattered(v, "scatter_add", rows, updates)
    np.subtract.at(expected, tuple(places.T), updates[0, 0])
    subject.scattered(v, "scatter_nd_sub", places, updates[0, 0])
    expected[[0, 3], [1, 2]] = 7
    subject.scattered(v, "scatter_nd_update", [[0, 1], [3, 2]], np.full((2, 2), 7, np.float32))
    expected[1, 2, 0] = -1
    subject.scattered(v, "scatter_nd_update", [[1, 2, 0]], -1)
    expected[np.arange(5)[:, np.newaxis], [[0, 3]] * 5] = 5
    subject.scattered(v, "batch_scatter_update", [[0, 3]] * 5, np.full((5, 2, 2), 5, np.float32))
    np.testing.assert_array_equal(subject.read(v), expected)


@kinds([DEFERRED, PARTITIONED_DEFERRED])
def test_indices_and_updates_may_be_fed(subject: Subject) -> None:
    expected, v = INITIAL.copy(), subject.variable()
    indices, updates = placeholder(np.int32, name="indices"), placeholder(np.float32, name="updates")
    session = subject.session
    assert session is not None
    found, change = v.gather(indices), v.scatter_add(IndexedSlices(updates, indices))
    for rows in ([3, 0, 3], [[1], [2]], []):
        np.testing.assert_array_equal(session.run(found, {indices: rows}), expected[np.array(rows, np.int64)])
        delta = np.ones((*np.shape(rows), 2), np.float32)
        np.add.at(expected, np.array(rows, np.int64), delta)
        np.testing.assert_array_equal(session.run(change, {indices: rows, updates: delta}), expected)
    for wrong in ({indices: [0, 4], updates: np.ones((2, 2))}, {indices: [0, 3], updates: np.ones((1, 2))}):
        with pytest.raises(InvalidArgumentError, match="scope/v"):
            session.run(change, wrong)
    np.testing.assert_array_equal(subject.read(v), expected)


@each_kind
def test_integers_are_not_divided_by_zero_in_any_part(subject: Subject) -> None:
    partitioner = fixed_size_partitioner(2) if subject.is_partitioned else None
    v = get_variable("scope/n", [4], np.int32, initializer=Constant([8, 8, 8, 8]), partitioner=partitioner)
    subject.initialize(v)
    subject.scattered(v, "scatter_div", [0, 3], [2, 4])
    if subject.kind == PARTITIONED_DEFERRED:
        return  # a session sends each part its own
    with pytest.raises(InvalidArgumentError, match=r"scope/n.* by zero"):
        subject.scattered(v, "scatter_div", [0, 3], [2, 0])
    assert subject.read(v).tolist() == [4, 8, 8, 2]


# -- one exchange for each ps task ------------------------------------------------------------------


@kinds(AT_ONCE)
def test_each_ps_task_that_has_some_of_it_is_asked_once(subject: Subject) -> None:
    v = subject.variable()
    other, everywhere, here = subject.variable(name="other"), [1, 1], [1, 0]
    if subject.kind == EAGER:
        everywhere = here
    calls: list[tuple[Any, list[int]]] = [
        (v.read_value, everywhere),
        (lambda: v.read_if_newer(v.version), [2 * each for each in everywhere]),
        (lambda: v.assign(INITIAL), everywhere),
        (lambda: v.assign_add(1), everywhere),
        (lambda: v.assign_sub(INITIAL, wire_dtype="int8"), everywhere),
        (lambda: v.assign_add(INITIAL, wait=False).result(timeout=30), everywhere),
        (lambda: v.gather([0, 1, 2, 3]), everywhere),
        (lambda: v.gather([1, 0]), here),
        (lambda: v.gather([]), here),
        (lambda: v.gather_nd([[0, 1], [3, 1]]), everywhere),
        (lambda: v.scatter_add([0, 3], INITIAL[:2]), everywhere),
        (lambda: v.scatter_update([0], 0), here),
        (lambda: v.scatter_nd_add([[0, 0], [3, 1]], 1, wait=False).result(timeout=30), everywhere),
        (lambda: v.version, everywhere),
        (lambda: v.initialized, everywhere),
        (v.initialize, everywhere),
        (lambda: v + 1, everywhere),
        (lambda: np.asarray(v), everywhere),
        (v.push_buffer, [0, 0]),
        (lambda: (v.ndim, v.nbytes, v.shape), [0, 0]),
    ]
    del other
    for call, expected in calls:
        before = subject.cluster.batches()
        call()
        asked = [after - each for after, each in zip(subject.cluster.batches(), before, strict=True)]
        assert asked == expected, call


@kinds([PARTITIONED])
def test_another_of_the_same_cut_is_read_with_one_exchange(subject: Subject) -> None:
    v, other = subject.variable(), subject.variable(INITIAL * 2, "other")
    before = subject.cluster.batches()
    v.assign(other)
    asked = [after - each for after, each in zip(subject.cluster.batches(), before, strict=True)]
    assert asked == [2, 2]  # one to read, one to assign


@kinds([DEFERRED, PARTITIONED_DEFERRED])
def test_a_session_asks_each_ps_task_once(subject: Subject) -> None:
    v = subject.variable()
    session = subject.session
    assert session is not None
    for made in (v.gather([0, 3]), v.scatter_add(IndexedSlices(INITIAL[:2], [0, 3])).op, v.read_value()):
        session.run(made)
        before = subject.cluster.batches()
        session.run(made)
        asked = [after - each for after, each in zip(subject.cluster.batches(), before, strict=True)]
        assert max(asked) <= (1 if "Scatter" not in made.name else 2), made


# -- values -----------------------------------------------------------------------------------------

MASKED: Final = np.ma.array(np.zeros((4, 2)), mask=True)


@each_kind
def test_the_same_values_are_refused_wherever_one_is_taken(subject: Subject) -> None:
    v = subject.variable()
    for value, error, message in (
        (MASKED, DTypeMismatchError, "masked"),
        (None, (DTypeMismatchError, ValueError), "None"),  # deferred, a ValueError as TensorFlow's
        ({1.0, 2.0}, DTypeMismatchError, "set"),
        (np.full((4, 2), "x"), DTypeMismatchError, "str"),
        (np.full((4, 2), 1e300), InvalidArgumentError, "out of its range"),
        ([[1, 2], [3]], ShapeMismatchError, "differ in length"),
    ):
        for method in ("assign", "assign_add", "assign_sub"):
            with pytest.raises(error, match=f"scope/v.*{message}"):
                getattr(v, method)(value)
        for method in ("scatter_update", "scatter_add", "scatter_nd_add", "batch_scatter_update"):
            if value is not None:
                with pytest.raises(error, match=f"scope/v.*{message}"):
                    subject.scattered(v, method, [[0]], value)
    for indices, message in ((np.ma.array([0], mask=[True]), "masked"), ([None], "None"), (2**64, "out of its range")):
        for read in (v.gather, v.sparse_read, v.gather_nd):
            with pytest.raises(InvalidArgumentError, match=f"scope/v.*{message}"):
                read(indices)
        with pytest.raises(InvalidArgumentError, match=f"scope/v.*{message}"):
            subject.scattered(v, "scatter_add", indices, 1)
    np.testing.assert_array_equal(subject.read(v), INITIAL)


@each_kind
def test_the_same_initial_values_are_refused(subject: Subject) -> None:
    partitioner = fixed_size_partitioner(2) if subject.is_partitioned else None

    def make(initializer: Any) -> None:
        shape = [4, 2] if callable(initializer) or subject.is_partitioned else None
        subject.initialize(get_variable("scope/bad", shape, initializer=initializer, partitioner=partitioner))

    for value in (MASKED, np.zeros((4, 2), "M8[D]"), np.full((4, 2), 1e300)):
        for initializer in (Constant(value), lambda *_, value=value, **__: value):
            with pytest.raises(InvalidArgumentError, match="scope/bad"):
                make(initializer)
    for value in (MASKED, np.zeros((4, 2), "M8[D]")):
        with pytest.raises(InvalidArgumentError, match="scope/bad"):
            make(value)
    for number in (1e300, np.float64(-1e300), [1e39], 2**200):
        with pytest.raises(InvalidArgumentError, match=r"scope/bad.* out of its range") as caught:
            make(Constant(number))
        assert isinstance(caught.value, ValueError)
