"""Rows and elements of variables of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import (
    DTypeMismatchError,
    InvalidArgumentError,
    ShapeMismatchError,
)
from tests.contract.variables.kinds import (
    AT_ONCE,
    DEFERRED,
    INITIAL,
    PARTITIONED_DEFERRED,
    WHOLE,
    Subject,
    each_kind,
    kinds,
    offered,
)
from worker_client.initializers import Constant
from worker_client.ops.constant_ops import placeholder
from worker_client.scopes.variable_scope import get_variable
from worker_client.values.conversion import IndexedSlices
from worker_client.variables.partitioners import fixed_size_partitioner


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
