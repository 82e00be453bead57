"""Whole values of variables of every kind: read, assigned, changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import (
    DTypeMismatchError,
    FailedPreconditionError,
)
from tests.contract.variables.kinds import (
    AT_ONCE,
    INITIAL,
    Subject,
    each_kind,
    kinds,
)


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


@each_kind
@pytest.mark.parametrize("method", ["assign", "assign_add", "assign_sub"])
def test_a_list_of_numbers_is_a_vector_and_no_number_for_each_part(subject: Subject, method: str) -> None:
    v = subject.variable([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="scope/v"):
        subject.done(getattr(v, method)([5.0, 6.0]))
    np.testing.assert_array_equal(subject.read(v), [1, 2, 3])
    subject.done(getattr(v, method)([0.0, 0.0, 0.0]))
