"""Variables in place of their values: in arithmetic, in functions of NumPy, as truth values."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from ps_protocol.operations import Array
from tests.contract.variables.kinds import (
    EAGER,
    INITIAL,
    Subject,
    each_kind,
    kinds,
    offered,
)
from worker_client.initializers import Constant
from worker_client.scopes.variable_scope import get_variable


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


@offered("tolist")
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


class SparseArray:
    """As one of SciPy's, whose operators NumPy's arrays leave to it."""

    __array_priority__ = 10.1

    def toarray(self) -> Array:
        raise AssertionError("nobody asked for that")

    def __rmul__(self, other: object) -> tuple[str, type]:
        return "other * sparse", type(other)

    def __sub__(self, other: object) -> Any:
        return ("sparse - other", type(other)) if isinstance(other, np.ndarray) else NotImplemented

    def __lt__(self, other: object) -> tuple[str, type]:
        return "sparse < other", type(other)


@offered("tolist")
def test_operators_are_left_to_whom_arrays_leave_them(subject: Subject) -> None:
    v = subject.variable(INITIAL[:2])
    with warnings.catch_warnings(action="ignore", category=PendingDeprecationWarning):
        matrix = np.asmatrix(INITIAL[2:])
        np.testing.assert_array_equal(v * matrix, INITIAL[:2] @ INITIAL[2:])
        np.testing.assert_array_equal(matrix * v, INITIAL[2:] @ INITIAL[:2])
        np.testing.assert_array_equal(np.multiply(v, matrix), INITIAL[:2] * INITIAL[2:])
    assert v * SparseArray() == ("other * sparse", np.ndarray)
    assert SparseArray() - v == ("sparse - other", np.ndarray)
    assert (v > SparseArray()) == ("sparse < other", np.ndarray)


@offered("tolist")
def test_its_bytes_are_those_of_its_value(subject: Subject) -> None:
    assert bytes(subject.variable()) == INITIAL.tobytes()


@offered("tolist")
def test_its_dtype_is_numpys(subject: Subject) -> None:
    v = subject.variable()
    assert type(v.dtype) is type(np.dtype(np.float32))
    assert np.result_type(v, np.float64) == np.float64


@offered("tolist")
def test_what_an_array_has_besides_says_where_it_is(subject: Subject) -> None:
    v = subject.variable()
    with pytest.raises(AttributeError, match=r"scope/v has no 'cumsum' of its own.*numpy\(\)\.cumsum"):
        v.cumsum()
    with pytest.raises(AttributeError, match="has no attribute 'frobnicate'"):
        v.frobnicate()


@offered("tolist")
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


@offered("tolist")
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
