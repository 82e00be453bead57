"""New rows beside the value: nothing of it changes before all of them are there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps_protocol.operations import Array
from ps_server.rules import computed_rows
from ps_server.rules.computed_rows import RowsAsGiven, RowsInRounds, put_rows
from ps_server.rules.row_schedule import OrderGiven, Rounds, Rows

FLOAT32 = np.dtype(np.float32)


def rows_of(*rows: int) -> Rows:
    return np.array(rows, np.intp)


def table(num_rows: int, width: int, dtype: Any = np.float32) -> Array:
    return np.arange(num_rows * width).reshape(num_rows, width).astype(dtype)


@pytest.mark.parametrize(
    "order",
    [
        OrderGiven(rows_of(2, 0, 2, 2), corrections=((rows_of(0), rows_of(2)), (rows_of(2), rows_of(3)))),
        OrderGiven(rows_of(2, 0, 2, 2), single_corrections=((0, 2), (2, 3))),
    ],
    ids=["together", "one by one"],
)
@pytest.mark.parametrize("scalar", [False, True])
def test_corrections_go_from_one_occurrence_to_the_next(order: OrderGiven, scalar: bool) -> None:
    value = table(4, 3)
    updates = np.array(2, np.float32) if scalar else np.array([[1], [10], [100], [1000]], np.float32).repeat(3, axis=1)
    expected = value.copy()
    expected[2] += 6 if scalar else 1101
    expected[0] += 2 if scalar else 10
    RowsAsGiven(np.add, order, updates, 3).apply(value)
    np.testing.assert_array_equal(value, expected)


# Row 2 gets the updates 0, 2, 3 and 4, row 0 the update 1; of row 2 two are left after two rounds.
ROUNDS = Rounds(rows_of(2, 0), (2, 1), rows_of(0, 1, 2), (2,), rows_of(3, 4))


@pytest.mark.parametrize("scalar", [False, True])
def test_rounds_and_then_hot_rows(scalar: bool) -> None:
    value = table(4, 3)
    updates = np.array(2, np.float32) if scalar else np.array([[2], [3], [5], [7], [11]], np.float32).repeat(3, axis=1)
    expected = value.copy()
    expected[2] *= 16 if scalar else 2 * 5 * 7 * 11
    expected[0] *= 2 if scalar else 3
    RowsInRounds(np.multiply, ROUNDS, updates, 3).apply(value)
    np.testing.assert_array_equal(value, expected)


def test_a_scalar_for_a_hot_row_is_applied_in_pieces_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computed_rows, "_HOT_CHUNK_BYTES", 3 * 2 * FLOAT32.itemsize)
    rounds = Rounds(rows_of(1), (1,), rows_of(0), (10,), np.arange(1, 11))
    value = np.zeros((2, 2), np.float32)
    RowsInRounds(np.add, rounds, np.array(1, np.float32), 2).apply(value)
    assert value.tolist() == [[0, 0], [11, 11]]


def test_updates_may_be_changed_once_they_are_laid_out_in_rounds() -> None:
    value, updates = np.zeros((3, 2), np.float32), np.ones((5, 2), np.float32)
    planned = RowsInRounds(np.add, ROUNDS, updates, 2)
    updates[:] = 99
    planned.apply(value)
    assert value.sum(axis=1).tolist() == [2, 0, 8]


@pytest.mark.parametrize("failing_call", [1, 2])
def test_a_failure_while_computing_changes_nothing(failing_call: int) -> None:
    value, calls = table(3, 2), 0

    def compute(rows: Array, updates: Array, out: Array) -> None:
        nonlocal calls
        calls += 1
        if calls == failing_call:
            raise MemoryError
        np.add(rows, updates, out=out)

    order = OrderGiven(rows_of(2, 2), single_corrections=((0, 1),))
    planned = RowsAsGiven(compute, order, np.ones((2, 2), np.float32), 2)
    with pytest.raises(MemoryError):
        planned.apply(value)
    np.testing.assert_array_equal(value, table(3, 2))


@pytest.mark.parametrize("dtype", [np.int8, np.float64, np.complex128, "S3", np.bool_])
@pytest.mark.parametrize("largest_row", [2**31 - 1, 1])  # as one opaque element a row, and with rows too long for that
def test_of_rows_that_are_stored_twice_the_last_one_stays(
    dtype: Any, largest_row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computed_rows, "_MAX_VOID_BYTES", largest_row)
    value, new = table(4, 2, dtype), table(9, 2, dtype)[6:]
    put_rows(value, rows_of(3, 1, 3), new)
    np.testing.assert_array_equal(value, table(9, 2, dtype)[[0, 7, 2, 8]])


def test_a_scalar_is_stored_in_all_elements_of_its_rows() -> None:
    value = table(3, 2)
    put_rows(value, rows_of(2, 0), np.array(9, np.float32))
    assert value.tolist() == [[9, 9], [2, 3], [9, 9]]
