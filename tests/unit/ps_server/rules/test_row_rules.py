from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, ShapeMismatchError
from ps_protocol.operations import Array, ScatterRule, VariableSpec
from ps_server.rules import row_kernels
from ps_server.rules.row_rules import checked_rows, gather_into, in_rows, plan_scatter
from tests.unit.ps_server.rules.values import NUMBERS, spec_of

REAL_NUMBERS = [each for each in NUMBERS if np.dtype(each).kind != "c"]
LIMITED = [(rule, dtype) for rule in ScatterRule for dtype in (np.bool_, "S3")] + [
    (rule, np.complex64) for rule in (ScatterRule.MIN, ScatterRule.MAX)
]


def scatter(value: Array, rule: ScatterRule, indices: Array, updates: Array) -> None:
    plan_scatter(spec_of(value), rule, indices, updates).apply(value)


def truncated_quotient(numerator: Any, divisor: Any) -> int:
    quotient = abs(int(numerator)) // abs(int(divisor))
    return quotient if (int(numerator) < 0) == (int(divisor) < 0) else -quotient


def scatter_row_by_row(value: Array, rule: ScatterRule, indices: Array, updates: Array) -> Array:
    """What a scatter means, in the plainest way."""
    functions: dict[ScatterRule, Callable[[Array, Array], Array]] = {
        ScatterRule.UPDATE: lambda _old, new: new,
        ScatterRule.ADD: np.add,
        ScatterRule.SUB: np.subtract,
        ScatterRule.MUL: np.multiply,
        ScatterRule.DIV: np.true_divide,
        ScatterRule.MIN: np.minimum,
        ScatterRule.MAX: np.maximum,
    }
    result = value.copy()
    updates = np.broadcast_to(updates, (*indices.shape, *value.shape[1:])).reshape(indices.size, *value.shape[1:])
    with np.errstate(all="ignore"):
        for row, change in zip(indices.reshape(-1), updates, strict=True):
            if rule is ScatterRule.DIV and "int" in value.dtype.name:
                quotients = [truncated_quotient(a, b) for a, b in zip(result[row].flat, change.flat, strict=True)]
                result[row] = np.array(quotients, dtype=np.int64).astype(value.dtype).reshape(change.shape)
            else:
                result[row] = functions[rule](result[row], change)
    return result


@pytest.mark.parametrize("dtype", REAL_NUMBERS)
@pytest.mark.parametrize("rule", list(ScatterRule))
@pytest.mark.parametrize("repeats", [False, True])
def test_scatter_is_the_loop_over_its_indices(dtype: Any, rule: ScatterRule, repeats: bool) -> None:
    random = np.random.default_rng(7)
    value = random.integers(0, 7, (6, 3)).astype(dtype)
    indices = np.array([5, 0, 5, 2, 0, 5, 5]) if repeats else np.array([5, 0, 2, 4])
    updates = random.integers(1, 4, (indices.size, 3)).astype(dtype)
    expected = scatter_row_by_row(value, rule, indices, updates)
    scatter(value, rule, indices, updates)
    np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("rule", [ScatterRule.UPDATE, ScatterRule.ADD, ScatterRule.SUB, ScatterRule.MUL])
def test_complex_rows_can_be_scattered(rule: ScatterRule) -> None:
    value = np.array([1 + 1j, 2, 3j], np.complex64)
    indices, updates = np.array([2, 0, 2]), np.array([1j, 2, 1 - 1j], np.complex64)
    expected = scatter_row_by_row(value, rule, indices, updates)
    scatter(value, rule, indices, updates)
    np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("seed", range(20))
def test_many_repeats_are_added_in_their_order(seed: int) -> None:
    random = np.random.default_rng(seed)
    value = random.standard_normal((50, 4), np.float32)
    indices = (random.zipf(1.3, (40, 10)) % 50).astype(np.int32)
    updates = random.standard_normal((40, 10, 4), np.float32)
    rule = list(ScatterRule)[seed % len(ScatterRule)]
    expected = scatter_row_by_row(value, rule, indices, updates)
    scatter(value, rule, indices, updates)
    np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("rule", list(ScatterRule))
@pytest.mark.parametrize("indices", [[1, 3], [3, 1, 3, 3], []])
def test_a_scalar_update_counts_for_each_row(rule: ScatterRule, indices: list[int]) -> None:
    value = np.arange(8, dtype=np.float32).reshape(4, 2)
    rows, scalar = np.array(indices, np.int64), np.array(3, np.float32)
    expected = scatter_row_by_row(value, rule, rows, scalar)
    scatter(value, rule, rows, scalar)
    np.testing.assert_array_equal(value, expected)


def test_one_index_can_be_a_scalar() -> None:
    value = np.zeros((3, 2), np.float32)
    scatter(value, ScatterRule.ADD, np.array(1, np.int32), np.array([1, 2], np.float32))
    assert value.tolist() == [[0, 0], [1, 2], [0, 0]]
    vector = np.zeros(3, np.int32)
    scatter(vector, ScatterRule.UPDATE, np.array(2), np.array(5, np.int32))
    assert vector.tolist() == [0, 0, 5]


@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 2, 2), (5, 0)])
def test_of_repeated_rows_the_last_update_stays(shape: tuple[int, ...]) -> None:
    value = np.zeros(shape, np.int64)
    indices = np.tile(np.array([3, 1, 3]), 400)
    updates = np.broadcast_to(np.arange(1200).reshape(-1, *[1] * (len(shape) - 1)), (1200, *shape[1:]))
    scatter(value, ScatterRule.UPDATE, indices, updates)
    assert (value[3] == 1199).all()
    assert (value[1] == 1198).all()
    assert (value[0] == 0).all()


def test_bytes_rows_can_be_replaced() -> None:
    value = np.array([b"a", b"bb", b"ccc"], "S3")
    scatter(value, ScatterRule.UPDATE, np.array([2, 0]), np.array([b"x", b"yyy"], "S3"))
    assert value.tolist() == [b"yyy", b"bb", b"x"]


@pytest.mark.parametrize(("rule", "dtype"), [each for each in LIMITED if each[0] is not ScatterRule.UPDATE])
def test_what_cannot_be_computed_is_refused(rule: ScatterRule, dtype: Any) -> None:
    value = np.ones(3, dtype)
    with pytest.raises(InvalidArgumentError, match=f"scope/w.*no scatter_{rule.name.lower()}"):
        scatter(value, rule, np.array([0]), value[:1])


@pytest.mark.parametrize("rule", list(ScatterRule))
@pytest.mark.parametrize(("indices", "bad"), [([0, 4], 4), ([-1, 0], -1), ([[0, 1], [1, 2**40]], 2**40)])
def test_an_index_out_of_range_changes_nothing(rule: ScatterRule, indices: list[Any], bad: int) -> None:
    value = np.ones((4, 2), np.float32)
    rows = np.array(indices)
    with pytest.raises(InvalidArgumentError, match=rf"row {bad} .*\[0, 4\).*scope/w"):
        scatter(value, rule, rows, np.full((*rows.shape, 2), 3, np.float32))
    assert (value == 1).all()


def test_the_place_of_a_bad_index_is_named() -> None:
    with pytest.raises(InvalidArgumentError, match=r"indices\[1, 0\]"):
        checked_rows(VariableSpec("w", np.dtype(np.float32), (4,)), np.array([[0, 1], [9, 8]]))


@pytest.mark.parametrize("dtype", [np.int16, np.uint32, np.float32, np.bool_])
def test_indices_are_int32_or_int64(dtype: Any) -> None:
    with pytest.raises(DTypeMismatchError, match="int32 or int64"):
        checked_rows(VariableSpec("w", np.dtype(np.float32), (4,)), np.zeros(1, dtype))


def test_a_scalar_variable_has_no_rows() -> None:
    with pytest.raises(InvalidArgumentError, match=r"scope/w.*scalar"):
        scatter(np.array(1, np.float32), ScatterRule.ADD, np.array([0]), np.array([1], np.float32))


def test_updates_of_another_dtype_or_shape_are_refused() -> None:
    value = np.ones((4, 2), np.float32)
    with pytest.raises(DTypeMismatchError, match=r"float32.*float64"):
        scatter(value, ScatterRule.ADD, np.array([0]), np.ones((1, 2)))
    with pytest.raises(ShapeMismatchError, match=r"\[2\].*\[1, 2\]"):
        scatter(value, ScatterRule.ADD, np.array([0]), np.ones(2, np.float32))


def test_integers_divide_toward_zero() -> None:
    value = np.array([-7, 7, -7, 7, -1], np.int32)
    scatter(value, ScatterRule.DIV, np.arange(5), np.array([2, 2, -2, -2, 2], np.int32))
    assert value.tolist() == [-3, 3, 3, -3, 0]


@pytest.mark.parametrize("updates", [np.array([2, 0, 1], np.int32), np.array(0, np.int32)])
def test_division_of_integers_by_zero_changes_nothing(updates: Array) -> None:
    value = np.array([4, 5, 6], np.int32)
    with pytest.raises(InvalidArgumentError, match=r"row \d of variable scope/w.*by zero"):
        scatter(value, ScatterRule.DIV, np.array([0, 1, 1]), updates)
    assert value.tolist() == [4, 5, 6]


def test_dividing_no_rows_by_zero_is_no_error() -> None:
    value = np.array([4], np.int32)
    scatter(value, ScatterRule.DIV, np.array([], np.int64), np.array(0, np.int32))
    assert value.tolist() == [4]


def test_floats_divide_by_zero_without_a_warning() -> None:
    value = np.array([1, -1, 0], np.float32)
    scatter(value, ScatterRule.DIV, np.array([0, 1, 2, 2]), np.array(0, np.float32))
    assert value[0] == np.inf
    assert value[1] == -np.inf
    assert np.isnan(value[2])


@pytest.mark.parametrize("indices", [[1, 3, 1], [3, 1]])
def test_a_scatter_that_fails_midway_changes_nothing(monkeypatch: pytest.MonkeyPatch, indices: list[int]) -> None:
    failures = []

    def failing(rows: Array, updates: Array, *, out: Array) -> None:
        out[:] = -1
        failures.append(updates)
        raise MemoryError

    monkeypatch.setitem(row_kernels.UFUNCS, ScatterRule.ADD, failing)
    value = np.ones((4, 2), np.float32)
    plan = plan_scatter(spec_of(value), ScatterRule.ADD, np.array(indices), np.ones((len(indices), 2), np.float32))
    with pytest.raises(MemoryError):
        plan.apply(value)
    assert failures
    assert (value == 1).all()


def test_the_indices_of_a_plan_cannot_be_changed_any_more() -> None:
    value = np.zeros((4, 2), np.float32)
    indices = np.array([1, 3])
    plan = plan_scatter(spec_of(value), ScatterRule.ADD, indices, np.array(1, np.float32))
    indices[:] = 10**12
    plan.apply(value)
    assert value.tolist() == [[0, 0], [1, 1], [0, 0], [1, 1]]


@pytest.mark.parametrize("dtype", [np.float32, np.bool_, "S2", ml_dtypes.bfloat16, ml_dtypes.int4, np.complex128])
@pytest.mark.parametrize("indices", [[2, 0, 2], [[1, 1], [0, 2]], [], 1])
def test_gathers_rows(dtype: Any, indices: Any) -> None:
    value = np.arange(6).reshape(3, 2).astype(dtype)
    rows = np.array(indices, np.int32)
    out = np.empty((rows.size, 2), dtype)
    gather_into(value, checked_rows(spec_of(value), rows), out)
    np.testing.assert_array_equal(out.reshape(*rows.shape, 2), value[rows])


def test_gathers_nothing_from_a_variable_without_rows() -> None:
    value = np.zeros((0, 2), np.float32)
    out = np.empty((0, 2), np.float32)
    gather_into(value, checked_rows(spec_of(value), np.array([], np.int64)), out)
    with pytest.raises(InvalidArgumentError, match=r"row 0 .*\[0, 0\)"):
        checked_rows(spec_of(value), np.array([0]))


def test_a_row_that_there_is_not_is_named_with_its_place_if_there_are_many() -> None:
    value = np.zeros((3, 2), np.float32)
    with pytest.raises(InvalidArgumentError, match=r"^row -1 is outside \[0, 3\) of variable"):
        checked_rows(spec_of(value), np.array(-1))
    with pytest.raises(InvalidArgumentError, match=r"^row 3 \(indices\[1, 0\]\) is outside \[0, 3\)"):
        checked_rows(spec_of(value), np.array([[1], [3]]))


def test_several_dimensions_as_one() -> None:
    spec = VariableSpec("scope/w", np.dtype(np.int32), (2, 3, 4))
    assert [in_rows(spec, depth).shape for depth in (1, 2, 3)] == [(2, 3, 4), (6, 4), (24,)]
    assert in_rows(spec, 1) is spec
    for depth in (0, -1, 4):
        with pytest.raises(InvalidArgumentError, match=r"scope/w .* has 3 dimensions"):
            in_rows(spec, depth)
