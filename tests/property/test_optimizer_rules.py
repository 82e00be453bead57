"""Update rules on random operands: plain equations, blocks and compiled loops agree, bit for bit."""

from __future__ import annotations

import copy
import functools
import importlib.util
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps_protocol.operations import Array
from ps_protocol.optimizer_rules import CATCH_UP, LAZY, RULES, TF1
from ps_server.rules.optimizers import compiled_loops
from ps_server.rules.optimizers.compiled_loops import Loop, LoopKey, SumKey, compiled_loop
from ps_server.rules.optimizers.constants import ELEMENTWISE_RULES, elementwise, rounded_settings
from ps_server.rules.optimizers.plans import apply_dense
from ps_server.rules.optimizers.row_plans import apply_rows
from tests.optimizer_cases import CASES, DTYPES, Case, initial_slots, slot_dtype, some_numbers

seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from(DTYPES)
shapes = st.sampled_from([(), (1,), (7,), (5, 3), (40, 2, 4), (3, 0), (0, 3), (300, 64), (2, 20_000)])
few = settings(max_examples=25)


def assert_same_bits(actual: list[Array], expected: list[Array]) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one.view(f"u{one.itemsize}"), other.view(f"u{other.itemsize}"))


def some_rows(random: np.random.Generator, num_rows: int, size: int) -> Array:
    """Row numbers of which some repeat often."""
    return np.asarray(np.minimum(random.zipf(1.5, size) - 1, num_rows - 1).astype(np.int64))


def plain_step(case: Case, value: Array, slots: list[Array], gradient: Array, step: int) -> list[Array]:
    """The equations on whole arrays."""
    dtype = slot_dtype(value.dtype)
    with np.errstate(all="ignore"):
        one = elementwise(case.rule, rounded_settings(case.rule, case.numbers, step, dtype), dtype)
        wide = [each.astype(dtype) for each in (value, *slots, gradient)]
        results = one.body(*wide, *one.constants)
        return [np.asarray(new).astype(old.dtype) for new, old in zip(results, (value, *slots), strict=True)]


@pytest.mark.parametrize("case", [each for each in CASES if each.rule in ELEMENTWISE_RULES], ids=str)
@few
@given(seed=seeds, dtype=dtypes, shape=shapes, step=st.integers(1, 10**6))
def test_a_dense_step_is_its_equations(
    case: Case, seed: int, dtype: np.dtype[Any], shape: tuple[int, ...], step: int
) -> None:
    random = np.random.default_rng(seed)
    value, gradient = some_numbers(random, shape, dtype), some_numbers(random, shape, dtype)
    slots = initial_slots(case, shape, slot_dtype(dtype))
    expected = plain_step(case, value, slots, gradient, step)
    apply_dense(case.rule, value, slots, gradient, case.numbers, step)
    assert_same_bits([value, *slots], expected)


@pytest.mark.parametrize("case", CASES, ids=str)
@few
@given(seed=seeds, dtype=dtypes, shape=shapes.filter(bool), size=st.sampled_from([0, 1, 5, 200]))
def test_rows_that_are_given_change_as_in_a_dense_step(
    case: Case, seed: int, dtype: np.dtype[Any], shape: tuple[int, ...], size: int
) -> None:
    random = np.random.default_rng(seed)
    mode = RULES[case.rule].sparse_modes[-1] if case.rule in ("lamb", "lars") else LAZY
    rows = some_rows(random, shape[0], size) if shape[0] else np.zeros(0, np.int64)
    value = some_numbers(random, shape, dtype)
    slots = initial_slots(case, shape, slot_dtype(dtype))
    gradient = some_numbers(random, (rows.size, *shape[1:]), dtype)
    total = np.zeros(shape, slot_dtype(dtype))
    for row, each in zip(rows, gradient, strict=True):
        total[row] += each
    # Given as float32 also beside half precision: the sum is not rounded.
    dense = copy.deepcopy((value, slots))
    apply_dense(case.rule, *dense, total, case.numbers, 3)
    before = copy.deepcopy((value, slots))
    apply_rows(case.rule, value, slots, rows, gradient, case.numbers, 3, mode)
    touched = np.zeros(shape[:1], np.bool_)
    touched[rows] = True
    touched |= mode == TF1
    for new, all_new, old in zip([value, *slots], [dense[0], *dense[1]], [before[0], *before[1]], strict=True):
        expected = old.copy()
        expected[touched] = all_new[touched]
        assert_same_bits([new], [expected])


@pytest.mark.parametrize("case", [each for each in CASES if TF1 in RULES[each.rule].sparse_modes], ids=str)
@few
@given(seed=seeds, dtype=dtypes, shape=shapes.filter(bool), size=st.sampled_from([0, 1, 30]))
def test_tf1_is_a_dense_step_with_zeros_in_the_other_rows(
    case: Case, seed: int, dtype: np.dtype[Any], shape: tuple[int, ...], size: int
) -> None:
    random = np.random.default_rng(seed)
    rows = some_rows(random, shape[0], size) if shape[0] else np.zeros(0, np.int64)
    value, slots = some_numbers(random, shape, dtype), initial_slots(case, shape, slot_dtype(dtype))
    apply_dense(case.rule, value, slots, some_numbers(random, shape, dtype), case.numbers, 1)
    gradient = some_numbers(random, (rows.size, *shape[1:]), np.dtype(slot_dtype(dtype)))
    total = np.zeros(shape, slot_dtype(dtype))
    for row, each in zip(rows, gradient, strict=True):
        total[row] += each
    dense = copy.deepcopy((value, slots))
    apply_dense(case.rule, *dense, total, case.numbers, 2)
    apply_rows(case.rule, value, slots, rows, gradient, case.numbers, 2, TF1)
    if case.rule == "adam" and not case.settings.get("amsgrad"):  # in the order of TensorFlow's, which is another one
        rounding = 4 * max(float(np.finfo(np.float32).eps) if dtype.itemsize < 8 else 4e-16, _epsilon(dtype))
        for one, other in zip([value, *slots], [dense[0], *dense[1]], strict=True):
            np.testing.assert_allclose(one.astype(np.float64), other.astype(np.float64), rtol=rounding, atol=rounding)
    else:
        assert_same_bits([value, *slots], [dense[0], *dense[1]])


def _epsilon(dtype: np.dtype[Any]) -> float:
    return 2.0**-7 if dtype not in DTYPES[2:] and dtype != np.float16 else float(np.finfo(dtype).eps)


# -- compiled -----------------------------------------------------------------------------------

kept_loop = functools.cache(compiled_loop)


class CompilesAtOnce:
    """Has every loop that is asked for compiled, and counts them."""

    def __init__(self) -> None:
        self.found: set[LoopKey | SumKey] = set()

    def __call__(self, key: LoopKey | SumKey) -> Loop:
        self.found.add(key)
        return kept_loop(key)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba, of the extra `fast`, is not installed")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_compiled_loops_do_what_numpy_does(case: Case, dtype: np.dtype[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = CompilesAtOnce()
    forms: list[str | None] = [None, *(each for each in RULES[case.rule].sparse_modes if each != CATCH_UP)]

    @settings(max_examples=12, deadline=None)
    @given(
        seed=seeds,
        shape=st.sampled_from([(7,), (5, 3), (40, 2, 4), (300, 64)]),
        form=st.sampled_from(forms),
        step=st.integers(1, 10**6),
    )
    def check(seed: int, shape: tuple[int, ...], form: str | None, step: int) -> None:
        random = np.random.default_rng(seed)
        rows = some_rows(random, shape[0], 50)
        value, slots = some_numbers(random, shape, dtype), initial_slots(case, shape, slot_dtype(dtype))
        gradient = some_numbers(random, shape if form is None else (rows.size, *shape[1:]), dtype)
        if seed % 4 == 0 and gradient.size:
            gradient.reshape(-1)[:: 1 + seed % 5] = np.inf
        plain = copy.deepcopy((value, slots))
        for operands, find in ((plain, lambda _key: None), ((value, slots), compiler)):
            with monkeypatch.context() as patched:
                patched.setattr(compiled_loops, "find", find)
                if form is None:
                    apply_dense(case.rule, *operands, gradient, case.numbers, step)
                else:
                    apply_rows(case.rule, *operands, rows, gradient, case.numbers, step, form)
        for one, other in zip([value, *slots], [plain[0], *plain[1]], strict=True):
            unknown = np.isnan(one)
            np.testing.assert_array_equal(unknown, np.isnan(other))
            assert_same_bits([np.where(unknown, 0, one)], [np.where(unknown, 0, other)])

    check()
    has_loops = case.rule not in ("row_wise_adagrad", "group_ftrl") and "learning_rate_power" not in case.settings
    assert any(isinstance(each, LoopKey) for each in compiler.found) == has_loops
