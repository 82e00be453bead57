"""Scatter and gather against the plainest loop over the indices: bit for bit, whatever repeats."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ps_protocol.dtype_traits import DTypeCategory, dtype_category, integer_limits, is_ml_dtype
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array, ScatterRule, VariableSpec
from ps_server.rules import row_kernels
from ps_server.rules.compiled_row_kernels import RowKernel, compiled_kernel, has_kernel
from ps_server.rules.row_rules import checked_rows, gather_into, plan_scatter
from ps_server.rules.row_schedule import OrderGiven, order_of_updates

INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint64, ml_dtypes.int4, ml_dtypes.uint4]
FLOATS = [np.float16, np.float32, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]
OTHERS = [np.complex64, np.complex128, np.bool_, "S3"]
DTYPES = [np.dtype(each) for each in (*INTEGERS, *FLOATS, *OTHERS)]
COMPILED = [
    (rule, np.dtype(dtype))
    for rule in ScatterRule
    for dtype in (*INTEGERS, *FLOATS, *OTHERS)
    if has_kernel(rule, np.dtype(dtype))
]

seeds = st.integers(0, 2**32 - 1)
widths = st.sampled_from([(), (1,), (2,), (3,), (2, 2), (8,), (33,), (64,), (0,)])


def some_elements(random: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Among ordinary elements the largest, and what is no number."""
    category = dtype_category(dtype)
    if category is DTypeCategory.INTEGER:
        least, greatest = integer_limits(dtype)
        choices = [least, greatest, 0, 1, 3, greatest - 1, -1 if least else 2]
        # Through Python's integers, since no type of NumPy holds the limits of both int64 and uint64.
        chosen = np.array(choices, object)[random.integers(0, len(choices), shape)]
        wide = np.dtype(f"{'i' if least else 'u'}{8}")
        return np.asarray(np.asarray(chosen).astype(wide).astype(dtype))
    if category is DTypeCategory.BOOL:
        return np.asarray(random.integers(0, 2, shape).astype(dtype))
    if category is DTypeCategory.BYTES:
        return np.asarray(random.integers(0, 999, shape).astype(dtype))
    with np.errstate(all="ignore"):
        elements = np.asarray(random.standard_normal(shape) * 10.0 ** random.integers(-3, 4, shape))
        special = random.random(shape) < 0.02
        elements = np.where(special, random.choice([np.inf, -np.inf, np.nan, 0.0], shape), elements)
        return np.asarray(elements.astype(dtype))


def some_indices(random: np.random.Generator, size: int, num_rows: int, skew: str) -> Array:
    if skew == "zipf":
        return np.asarray((random.zipf(1.3, size) - 1) % num_rows)
    if skew == "ascending":
        return np.arange(min(size, num_rows)) + int(random.integers(0, num_rows - min(size, num_rows) + 1))
    if skew == "distinct":
        return random.permutation(num_rows)[:size]
    if skew == "same":
        return np.full(size, random.integers(0, num_rows))
    return random.integers(0, num_rows, size)


def row_by_row(value: Array, rule: ScatterRule, indices: Array, updates: Array) -> Array:
    functions: dict[ScatterRule, Callable[[Any, Any], Any]] = {
        ScatterRule.UPDATE: lambda _old, new: new,
        ScatterRule.ADD: np.add,
        ScatterRule.SUB: np.subtract,
        ScatterRule.MUL: np.multiply,
        ScatterRule.DIV: np.true_divide,
        ScatterRule.MIN: np.minimum,
        ScatterRule.MAX: np.maximum,
    }
    result = value.copy()
    row_shape = value.shape[1:]
    changes = np.broadcast_to(updates, (*indices.shape, *row_shape)).reshape(indices.size, *row_shape)
    with np.errstate(all="ignore"):
        for row, change in zip(indices.reshape(-1), changes, strict=True):
            if rule is ScatterRule.DIV and dtype_category(value.dtype) is DTypeCategory.INTEGER:
                result[row] = truncated_quotients(result[row], change)
            else:
                result[row] = functions[rule](result[row], change)
    return result


def truncated_quotients(dividends: Array, divisors: Array) -> Array:
    bits = 8 * dividends.dtype.itemsize if not is_ml_dtype(dividends.dtype) else 4
    least, _ = integer_limits(dividends.dtype)
    quotients = []
    for dividend, divisor in zip(np.asarray(dividends).flat, np.asarray(divisors).flat, strict=True):
        quotient = abs(int(dividend)) // abs(int(divisor))
        signed = quotient if (int(dividend) < 0) == (int(divisor) < 0) else -quotient
        quotients.append((signed - least) % 2**bits + least)
    wide = np.int64 if least else np.uint64
    return np.array(quotients, wide).astype(dividends.dtype).reshape(np.shape(dividends))


def assert_same(actual: Array, expected: Array) -> None:
    """The same elements; whether a zero or what is no number has a sign may depend on the processor."""
    assert actual.dtype == expected.dtype
    if dtype_category(actual.dtype) in (DTypeCategory.FLOAT, DTypeCategory.COMPLEX):
        wide = np.complex128 if actual.dtype.kind == "c" else np.float64
        actual, expected = actual.astype(wide), expected.astype(wide)
    np.testing.assert_array_equal(actual, expected)


def is_computable(rule: ScatterRule, dtype: np.dtype[Any]) -> bool:
    category = dtype_category(dtype)
    if rule is ScatterRule.UPDATE:
        return True
    if category is DTypeCategory.COMPLEX:
        return rule not in (ScatterRule.MIN, ScatterRule.MAX)
    return category in (DTypeCategory.INTEGER, DTypeCategory.FLOAT)


@given(
    seed=seeds,
    rule=st.sampled_from(list(ScatterRule)),
    dtype=st.sampled_from(DTYPES),
    index_dtype=st.sampled_from([np.int32, np.int64]),
    row_shape=widths,
    num_rows=st.sampled_from([1, 2, 7, 100, 2000]),
    size=st.sampled_from([0, 1, 2, 5, 30, 150, 300]),
    skew=st.sampled_from(["uniform", "zipf", "ascending", "distinct", "same"]),
    scalar=st.booleans(),
    strided=st.booleans(),
)
@example(7, ScatterRule.ADD, np.dtype(np.float32), np.int64, (64,), 100, 150, "zipf", False, False)
@example(7, ScatterRule.DIV, np.dtype(np.int8), np.int64, (3,), 2, 150, "same", False, False)
@example(7, ScatterRule.SUB, np.dtype(np.float16), np.int32, (2,), 7, 150, "same", True, False)
def test_scatter_is_the_loop_over_its_indices(
    seed: int,
    rule: ScatterRule,
    dtype: np.dtype[Any],
    index_dtype: Any,
    row_shape: tuple[int, ...],
    num_rows: int,
    size: int,
    skew: str,
    scalar: bool,
    strided: bool,
) -> None:
    random = np.random.default_rng(seed)
    value = some_elements(random, (num_rows, *row_shape), dtype)
    indices = some_indices(random, size, num_rows, skew).astype(index_dtype)
    if indices.size % 2 == 0:
        indices = indices.reshape(2, -1)
    shape = () if scalar else (*indices.shape, *row_shape)
    updates = some_elements(random, shape, dtype)
    if rule is ScatterRule.DIV and dtype_category(dtype) is DTypeCategory.INTEGER:
        updates = np.where(updates == np.zeros((), dtype), np.ones((), dtype), updates)
    if strided and updates.ndim:
        updates = np.repeat(updates, 2, axis=-1)[..., ::2]
    spec = VariableSpec("w", dtype, value.shape)
    if not is_computable(rule, dtype):
        with pytest.raises(InvalidArgumentError):
            plan_scatter(spec, rule, indices, updates)
        return
    expected = row_by_row(value, rule, indices, updates)
    plan_scatter(spec, rule, indices, updates).apply(value)
    assert_same(value, expected)


@given(
    seed=seeds,
    dtype=st.sampled_from(DTYPES),
    index_dtype=st.sampled_from([np.int32, np.int64]),
    row_shape=widths,
    size=st.sampled_from([0, 1, 30]),
)
def test_gather_is_the_loop_over_its_indices(
    seed: int, dtype: np.dtype[Any], index_dtype: Any, row_shape: tuple[int, ...], size: int
) -> None:
    random = np.random.default_rng(seed)
    value = some_elements(random, (9, *row_shape), dtype)
    indices = random.integers(0, 9, size).astype(index_dtype)
    out = np.empty((size, *row_shape), dtype)
    gather_into(value, checked_rows(VariableSpec("w", dtype, value.shape), indices), out)
    for row, each in zip(indices, out, strict=True):
        assert_same(np.asarray(each), np.asarray(value[row]))


@given(seed=seeds, bad=st.sampled_from([-1, 9, -(2**31), 2**31 - 1]), rule=st.sampled_from(list(ScatterRule)))
def test_a_row_out_of_range_refuses_the_whole_scatter(seed: int, bad: int, rule: ScatterRule) -> None:
    random = np.random.default_rng(seed)
    indices = random.integers(0, 9, 20).astype(np.int32)
    indices[random.integers(0, 20)] = bad
    with pytest.raises(InvalidArgumentError, match=rf"row {bad} "):
        plan_scatter(VariableSpec("w", np.dtype(np.float32), (9, 2)), rule, indices, np.ones((20, 2), np.float32))


@given(
    rows=st.lists(st.integers(0, 12), min_size=1, max_size=300)
    | st.lists(st.integers(0, 300), min_size=129, max_size=200),
    num_rows=st.sampled_from([301, 2**40, 2**62]),
    allow_hot_rows=st.booleans(),
)
@example([*range(180), 3, 3, 5, 3], 301, True)
@example([*range(180), 3, 3, 5, 3, 3, 3], 301, True)
def test_an_order_has_every_update_once_and_those_of_a_row_in_their_order(
    rows: list[int], num_rows: int, allow_hot_rows: bool
) -> None:
    order = order_of_updates(np.array(rows, np.intp), num_rows, allow_hot_rows=allow_hot_rows)
    in_order = {row: [at for at, each in enumerate(rows) if each == row] for row in set(rows)}
    if isinstance(order, OrderGiven):
        assert order.rows.tolist() == rows
        pairs = list(order.single_corrections)
        for before, after in order.corrections:
            pairs += zip(before.tolist(), after.tolist(), strict=True)
        expected = {pair for positions in in_order.values() for pair in itertools.pairwise(positions)}
        assert len(pairs) == len(expected)
        assert set(pairs) == expected
        made: set[int] = set()
        for earlier, later in pairs:  # what an update builds upon is there
            assert earlier in made or earlier == in_order[rows[later]][0]
            made.add(later)
        return
    assert sorted(order.rows.tolist()) == sorted(set(rows))
    updates_of: dict[int, list[int]] = {row: [] for row in rows}
    positions = iter([*order.positions.tolist(), *order.hot_positions.tolist()])
    for size in order.sizes:
        for row in order.rows[:size].tolist():
            updates_of[row].append(next(positions))
    for row, length in zip(order.rows.tolist(), order.hot_lengths, strict=False):
        updates_of[row] += [next(positions) for _ in range(length)]
    assert next(positions, None) is None
    assert updates_of == in_order
    assert allow_hot_rows or not order.hot_lengths


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba, of the extra `fast`, is not installed")
@pytest.mark.parametrize(("rule", "dtype"), COMPILED, ids=str)
def test_compiled_kernels_do_what_numpy_does(rule: ScatterRule, dtype: np.dtype[Any]) -> None:
    kernel: RowKernel = compiled_kernel(rule, dtype)

    @given(
        seed=seeds,
        width=st.sampled_from([1, 2, 3, 8, 33, 64]),
        size=st.sampled_from([1, 5, 30, 150]),
        skew=st.sampled_from(["uniform", "zipf", "ascending", "distinct", "same"]),
    )
    def check(seed: int, width: int, size: int, skew: str) -> None:
        random = np.random.default_rng(seed)
        value = some_elements(random, (50, width), dtype)
        rows = some_indices(random, size, 50, skew).astype(np.intp)
        updates = some_elements(random, (rows.size, width), dtype)
        updates.flags.writeable = False
        expected = value.copy()
        row_kernels.plan(rule, rows, updates, 50, width).apply(expected)
        kernel(value, rows, updates)
        assert_same(value, expected)

    check()
