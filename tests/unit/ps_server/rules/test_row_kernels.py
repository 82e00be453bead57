from __future__ import annotations

import numpy as np
import pytest

from ps_protocol.operations import Array, ScatterRule
from ps_server.memory.spare_arrays import prepared_array
from ps_server.rules import computed_rows
from ps_server.rules.computed_rows import RowsAsGiven, RowsInRounds
from ps_server.rules.row_kernels import ElementUpdate, NoRows, Replacement, SliceUpdate, plan


def test_each_kind_of_scatter_has_its_way() -> None:
    rows, updates = np.array([4, 1, 4]), np.ones((3, 2), np.float32)
    many = np.array([4, 1] * 100)
    assert isinstance(plan(ScatterRule.ADD, many, np.ones((200, 2), np.float32), 9, 2), RowsInRounds)
    assert isinstance(plan(ScatterRule.ADD, rows, updates, 9, 2), RowsAsGiven)
    assert isinstance(plan(ScatterRule.ADD, rows[:2], updates[:2], 9, 2), RowsAsGiven)
    assert isinstance(plan(ScatterRule.ADD, np.arange(0, 9, 2), np.ones((5, 2), np.float32), 9, 2), RowsAsGiven)
    assert isinstance(plan(ScatterRule.UPDATE, rows, updates, 9, 2), Replacement)
    assert isinstance(plan(ScatterRule.ADD, rows, updates[:, :1], 9, 1), ElementUpdate)
    assert isinstance(plan(ScatterRule.DIV, rows, np.ones((3, 1), np.int32), 9, 1), RowsAsGiven)
    assert isinstance(plan(ScatterRule.ADD, rows[:0], updates[:0], 9, 2), NoRows)
    assert isinstance(plan(ScatterRule.ADD, rows, updates[:, :0], 9, 0), NoRows)


@pytest.mark.parametrize("rule", [ScatterRule.ADD, ScatterRule.MAX, ScatterRule.UPDATE])
def test_rows_that_follow_on_each_other_are_a_slice(rule: ScatterRule) -> None:
    value = np.zeros((9, 2), np.float32)
    planned = plan(rule, np.array([3, 4, 5]), np.ones((3, 2), np.float32), 9, 2)
    assert isinstance(planned, SliceUpdate)
    planned.apply(value)
    assert value.sum(axis=1).tolist() == [0, 0, 0, 2, 2, 2, 0, 0, 0]


def test_plans_that_live_at_the_same_time_do_not_share_memory() -> None:
    value = np.zeros((9, 2), np.float32)
    plans = [plan(ScatterRule.ADD, np.array([4, 1, 4]), np.full((3, 2), k, np.float32), 9, 2) for k in (1, 10, 100)]
    for planned in plans:
        planned.apply(value)
    assert value[4].tolist() == [222, 222]
    assert value[1].tolist() == [111, 111]


@pytest.mark.parametrize("width", [1, 2, 64])
@pytest.mark.parametrize("scalar", [False, True])
def test_the_hottest_row_gets_its_updates_in_order(width: int, scalar: bool) -> None:
    value = np.full((3, width), 1, np.float32)
    rows = np.array([1] * 3000 + [2, 0, 2])
    updates = np.array(0.1, np.float32) if scalar else np.random.default_rng(1).random((3003, width), np.float32)
    expected = value.copy()
    for at, row in enumerate(rows):
        expected[row] += updates if scalar else updates[at]
    plan(ScatterRule.ADD, rows, updates, 3, width).apply(value)
    np.testing.assert_array_equal(value, expected)


def test_a_scalar_for_a_hot_wide_row_takes_little_room() -> None:
    width = 1_000_000
    value = np.zeros((2, width), np.int8)
    taken = []

    def watched(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
        array = prepared_array(shape, dtype)
        taken.append(array.nbytes)
        return array

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(computed_rows, "prepared_array", watched)
        plan(ScatterRule.ADD, np.array([1] * 140), np.array(1, np.int8), 2, width).apply(value)
    assert (value[1] == 140 - 256).all()
    assert sum(taken) < 4 * width


def test_rows_too_long_for_one_opaque_element(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computed_rows, "_MAX_VOID_BYTES", 7)
    value = np.zeros((5, 2), np.float32)
    plan(ScatterRule.UPDATE, np.array([3, 1, 3]), np.arange(6, dtype=np.float32).reshape(3, 2), 5, 2).apply(value)
    plan(ScatterRule.ADD, np.array([3, 1, 3]), np.array(1, np.float32), 5, 2).apply(value)
    assert value.tolist() == [[0, 0], [3, 4], [0, 0], [6, 7], [0, 0]]
