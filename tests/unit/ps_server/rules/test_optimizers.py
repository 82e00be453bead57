"""Update rules that TensorFlow 1 does not have, against their papers; rows, modes, dtypes and bad operands."""

from __future__ import annotations

import copy
import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import (
    DTypeMismatchError,
    FailedPreconditionError,
    InvalidArgumentError,
    ShapeMismatchError,
)
from ps_protocol.operations import Array, VariableSpec
from ps_protocol.optimizer_rules import CATCH_UP, LAZY, RULES, TF1, check_settings
from ps_server.rules.optimizers import blocks
from ps_server.rules.optimizers.application import Application
from ps_server.rules.optimizers.bound_rule import BoundRule
from ps_server.rules.optimizers.checks import checked_settings
from ps_server.rules.optimizers.plans import apply_dense, plan_catch_up, plan_dense
from ps_server.rules.optimizers.row_plans import apply_rows, plan_rows
from tests.optimizer_cases import BFLOAT16, CASES, Case, initial_slots, slot_dtype, some_numbers

STEPS = 6
FLOAT64 = np.dtype(np.float64)


def steps_of(
    case: Case, shape: tuple[int, ...] = (4, 3), dtype: np.dtype[Any] = FLOAT64
) -> tuple[Array, list[Array], list[Array]]:
    random = np.random.default_rng(11)
    return (
        random.standard_normal(shape).astype(dtype),
        initial_slots(case, shape, slot_dtype(dtype)),
        list(random.standard_normal((STEPS, *shape)).astype(dtype)),
    )


def trained(case: Case, shape: tuple[int, ...] = (4, 3), dtype: np.dtype[Any] = FLOAT64) -> Array:
    value, slots, gradients = steps_of(case, shape, dtype)
    for step, gradient in enumerate(gradients, 1):
        apply_dense(case.rule, value, slots, gradient, case.numbers, step)
    return value


def assert_close(actual: Array, expected: Array, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * 0.1)


# -- papers -------------------------------------------------------------------------------------


TOLERANCES = {FLOAT64: 1e-12, np.dtype(np.float32): 2e-5, BFLOAT16: 6e-2}
"""What a rule may differ by from its paper's equations in float64, by the dtype of the variable."""


@pytest.fixture(params=TOLERANCES, ids=str)
def dtype(request: pytest.FixtureRequest) -> np.dtype[Any]:
    """Of a variable."""
    dtype: np.dtype[Any] = request.param
    return dtype


def check_against(case: Case, dtype: np.dtype[Any], equations: Callable[..., Array]) -> None:
    """Compares a rule with its paper's equations in float64, given value, gradients and settings."""
    value, _, gradients = steps_of(case, dtype=dtype)
    settings = RULES[case.rule].named(case.numbers)
    expected = equations(value.astype(np.float64), [each.astype(np.float64) for each in gradients], **settings)
    actual = trained(case, dtype=dtype).astype(np.float64)
    tolerance = TOLERANCES[dtype]
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * float(np.abs(expected).max()))


def id_of(case: Case) -> str:
    return "-".join(f"{name}={each:g}" for name, each in case.settings.items()) or "defaults"


def lamb(x: Array, gradients: list[Array], **settings: float) -> Array:
    beta1, beta2 = settings["beta1"], settings["beta2"]
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t, g in enumerate(gradients, 1):
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        r = (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + settings["epsilon"]) + settings["weight_decay"] * x
        x = x - settings["learning_rate"] * np.linalg.norm(x) / np.linalg.norm(r) * r
    return x


@pytest.mark.parametrize(
    "case",
    [
        Case("lamb", {}),
        Case("lamb", {"learning_rate": 0.1, "beta1": 0.8, "beta2": 0.9, "epsilon": 1e-3}),
        Case("lamb", {"learning_rate": 0.1, "beta1": 0.8, "beta2": 0.9, "epsilon": 1e-3, "weight_decay": 0.3}),
        Case("lamb", {"learning_rate": 0.01, "beta1": 0.0, "beta2": 0.0, "epsilon": 0.0, "weight_decay": 10.0}),
        Case("lamb", {"learning_rate": 0.1, "beta1": 0.99, "beta2": 0.9999, "epsilon": 5.0}),
    ],
    ids=id_of,
)
def test_lamb(case: Case, dtype: np.dtype[Any]) -> None:
    check_against(case, dtype, lamb)


def test_lamb_of_zeros_uses_the_plain_rate() -> None:
    value, gradient = np.zeros(3), np.array([1.0, -2.0, 4.0])
    apply_dense("lamb", value, [np.zeros(3), np.zeros(3)], gradient, check_settings("lamb", {"epsilon": 0.0}), 1)
    assert_close(value, np.array([-0.001, 0.001, -0.001]))


def lars(w: Array, gradients: list[Array], **settings: float) -> Array:
    decay, momentum = settings["weight_decay"], settings["momentum"]
    v = np.zeros_like(w)
    for g in gradients:
        size = np.linalg.norm(g) + decay * np.linalg.norm(w) + settings["epsilon"]
        pull = settings["learning_rate"] * settings["eeta"] * np.linalg.norm(w) / size * (g + decay * w)
        v = momentum * v + pull
        w = w - (pull + momentum * v if settings["use_nesterov"] else v)
    return w


@pytest.mark.parametrize("nesterov", [0.0, 1.0])
@pytest.mark.parametrize(
    "case",
    [
        Case("lars", {"learning_rate": 0.5}),
        Case("lars", {"learning_rate": 0.5, "momentum": 0.7, "weight_decay": 0.2, "eeta": 0.1}),
        Case("lars", {"learning_rate": 2.0, "momentum": 0.0, "weight_decay": 0.0, "eeta": 0.1, "epsilon": 10.0}),
        Case("lars", {"learning_rate": 0.1, "momentum": 1.0, "weight_decay": 20.0, "eeta": 1.0}),
    ],
    ids=id_of,
)
def test_lars(case: Case, nesterov: float, dtype: np.dtype[Any]) -> None:
    check_against(Case("lars", {**case.settings, "use_nesterov": nesterov}), dtype, lars)


@pytest.mark.parametrize("zero", ["value", "gradient"])
def test_lars_of_zeros_uses_the_plain_rate(zero: str) -> None:
    value, gradient = np.array([3.0, -4.0]), np.array([1.0, 2.0])
    (value if zero == "value" else gradient)[:] = 0.0
    expected = value - 0.5 * (gradient + 0.1 * value)
    numbers = check_settings("lars", {"learning_rate": 0.5, "weight_decay": 0.1})
    apply_dense("lars", value, [np.zeros(2)], gradient, numbers, 1)
    assert_close(value, expected)


def lion(w: Array, gradients: list[Array], **settings: float) -> Array:
    beta1, beta2, decay = settings["beta1"], settings["beta2"], settings["weight_decay"]
    m = np.zeros_like(w)
    for g in gradients:
        w = w - settings["learning_rate"] * (np.sign(beta1 * m + (1 - beta1) * g) + decay * w)
        m = beta2 * m + (1 - beta2) * g
    return w


@pytest.mark.parametrize(
    "case",
    [
        Case("lion", {}),
        Case("lion", {"learning_rate": 0.1, "beta1": 0.8, "beta2": 0.9, "weight_decay": 0.3}),
        Case("lion", {"learning_rate": 0.1, "beta1": 0.0, "beta2": 0.0, "weight_decay": 30.0}),
        Case("lion", {"learning_rate": 0.1, "beta1": 0.99, "beta2": 0.5}),
    ],
    ids=id_of,
)
def test_lion(case: Case, dtype: np.dtype[Any]) -> None:
    check_against(case, dtype, lion)


def test_lion_stays_where_the_gradient_is_zero() -> None:
    value = np.array([1.0, 2.0])
    apply_dense("lion", value, [np.zeros(2)], np.array([0.0, -1.0]), check_settings("lion", {"learning_rate": 0.5}), 1)
    np.testing.assert_array_equal(value, [1.0, 2.5])


def test_row_wise_adagrad() -> None:
    case = Case("row_wise_adagrad", {"learning_rate": 0.1, "initial_accumulator_value": 0.2, "epsilon": 1e-3})
    w, _, gradients = steps_of(case)
    h = np.full(len(w), 0.2)
    for g in gradients:
        h += np.mean(g * g, axis=1)
        w = w - 0.1 * g / (np.sqrt(h)[:, np.newaxis] + 1e-3)
    assert_close(trained(case), w)


def test_group_ftrl() -> None:
    settings = {
        "learning_rate": 0.3,
        "l1_regularization_strength": 0.1,
        "l2_regularization_strength": 0.2,
        "l21_regularization_strength": 2.0,
    }
    case = Case("group_ftrl", settings)
    w, _, gradients = steps_of(case, (40, 3))
    n, z = np.full_like(w, 0.1), np.zeros_like(w)
    for g in gradients:
        z += g - (np.sqrt(n + g * g) - np.sqrt(n)) / 0.3 * w
        n += g * g
        s = np.sign(z) * np.maximum(np.abs(z) - 0.1, 0)
        norms = np.linalg.norm(s, axis=1, keepdims=True)
        kept = np.maximum(1 - 2.0 * math.sqrt(3) / norms, 0)
        w = -kept * s / (np.sqrt(n) / 0.3 + 2 * 0.2)
    result = trained(case, (40, 3))
    assert_close(result, w)
    zero_rows = (result == 0).all(axis=1)
    assert 0 < zero_rows.sum() < 40
    assert not (result[~zero_rows] == 0).all(axis=1).any()


# -- rows ---------------------------------------------------------------------------------------


def test_duplicates_are_added_up_before_the_rule_is_applied() -> None:
    value, accumulator = np.zeros((3, 2), np.float32), np.full((3, 2), 0.5, np.float32)
    gradient = np.array([[1, 2], [10, 20], [3, 4]], np.float32)
    numbers = check_settings("adagrad", {"learning_rate": 1.0})
    apply_rows("adagrad", value, [accumulator], np.array([2, 0, 2], np.int32), gradient, numbers, 1, LAZY)
    np.testing.assert_array_equal(accumulator, [[100.5, 400.5], [0.5, 0.5], [16.5, 36.5]])
    np.testing.assert_allclose(value, [[-10 / 100.5**0.5, -20 / 400.5**0.5], [0, 0], [-4 / 16.5**0.5, -6 / 36.5**0.5]])


def test_duplicates_are_added_in_the_order_in_which_they_occur() -> None:
    rows = np.array([1, 0, 1, 1], np.int64)
    gradient = np.array([[1e8], [5], [1], [-1e8]], np.float32)  # (1e8 + 1) - 1e8 is 0 in float32
    value = np.zeros((2, 1), np.float32)
    apply_rows("gradient_descent", value, [], rows, gradient, (1.0,), 1, LAZY)
    np.testing.assert_array_equal(value, [[-5], [0]])


def test_lazy_leaves_other_rows_alone_and_tf1_does_not() -> None:
    case = Case("adam", {"learning_rate": 0.1})
    value, slots, gradients = steps_of(case)
    apply_dense("adam", value, slots, gradients[0], case.numbers, 1)
    lazy, every = copy.deepcopy((value, slots)), copy.deepcopy((value, slots))
    for operands, mode in ((lazy, LAZY), (every, TF1)):
        apply_rows("adam", *operands, np.array([1], np.int64), gradients[1][:1], case.numbers, 2, mode)
    np.testing.assert_array_equal(lazy[0][[0, 2, 3]], value[[0, 2, 3]])
    assert (every[0] != value).all()
    assert_close(every[0][1], lazy[0][1])


CATCHING_UP = [
    *(each for each in CASES if CATCH_UP in RULES[each.rule].sparse_modes),
    Case("momentum", {"learning_rate": 0.1, "momentum": 1.0}),
    Case("adam", {"learning_rate": 0.1, "beta1": 0.0}),
    Case("adam", {"learning_rate": 0.1, "beta1": 0.9, "beta2": 0.5}),
    Case("adam", {"learning_rate": 0.1, "beta1": 0.3, "beta2": 0.9}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=str)
@pytest.mark.parametrize(
    "case",
    CATCHING_UP,
    ids=lambda case: "-".join([case.rule, *(f"{name}={each:g}" for name, each in case.settings.items())]),
)
def test_catching_up_is_tf1_to_rounding(case: Case, dtype: Any) -> None:
    random = np.random.default_rng(3)
    shape, dtype = (30, 4), np.dtype(dtype)
    value = random.standard_normal(shape).astype(dtype)
    every = value.copy(), initial_slots(case, shape, dtype)
    late = value.copy(), initial_slots(case, shape, dtype, CATCH_UP)
    for step in range(1, 150):
        rows = random.integers(0, 3 if step < 100 else 30, 2)
        gradient = random.standard_normal((2, 4)).astype(dtype)
        apply_rows(case.rule, *every, rows, gradient, case.numbers, step, TF1)
        apply_rows(case.rule, *late, rows, gradient, case.numbers, step, CATCH_UP)
        assert late[1][-1][rows].tolist() == [step, step]
    tolerance = 2e-5 if dtype.itemsize == 4 else 1e-8
    np.testing.assert_allclose(late[0][rows], every[0][rows], rtol=tolerance, atol=tolerance)
    if case.settings.get("beta1") != 0.0:  # otherwise nothing goes on after a row's last gradient
        assert not np.allclose(late[0], every[0], rtol=1e-3, atol=1e-3)
    settings = checked_settings(case.rule, case.numbers, CATCH_UP)
    plan_catch_up(BoundRule(case.rule, VariableSpec("w", dtype, shape), CATCH_UP), settings).apply(*late, 149)
    np.testing.assert_allclose(late[0], every[0], rtol=tolerance, atol=tolerance)
    for one, other in zip(late[1], every[1], strict=False):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=1e-7)
    assert (late[1][-1] == 149).all()


@pytest.mark.parametrize("shape", [(30, 4), (30,), (30, 70_000)], ids=str)
def test_a_dense_step_catches_all_rows_up(shape: tuple[int, ...]) -> None:
    random, case = np.random.default_rng(3), Case("adam", {"learning_rate": 0.05})
    every = random.standard_normal(shape)
    late = every.copy()
    slots, late_slots = initial_slots(case, shape, FLOAT64), initial_slots(case, shape, FLOAT64, CATCH_UP)
    for step in range(1, 7):
        if step % 3 == 0:
            gradient = random.standard_normal(shape)
            apply_dense(case.rule, every, slots, gradient, case.numbers, step)
            apply_dense(case.rule, late, late_slots, gradient, case.numbers, step, CATCH_UP)
            assert_close(late, every)
            assert (late_slots[-1] == step).all()
        else:
            rows, gradient = np.array([step]), random.standard_normal((1, *shape[1:]))
            apply_rows(case.rule, every, slots, rows, gradient, case.numbers, step, TF1)
            apply_rows(case.rule, late, late_slots, rows, gradient, case.numbers, step, CATCH_UP)


def operands_to_catch_up(case: Case, shape: tuple[int, ...]) -> tuple[Array, list[Array]]:
    """A value with slots whose rows have had different steps."""
    random, float32 = np.random.default_rng(4), np.dtype(np.float32)
    value, slots = random.standard_normal(shape).astype(float32), initial_slots(case, shape, float32, CATCH_UP)
    for step in range(1, 4):
        rows = random.permutation(shape[0])[: shape[0] // 2]
        gradient = random.standard_normal((rows.size, *shape[1:])).astype(float32)
        apply_rows(case.rule, value, slots, rows, gradient, case.numbers, step, CATCH_UP)
    return value, slots


def catching_up(case: Case, shape: tuple[int, ...], way: str) -> Any:
    """A plan of the fifth step that catches rows up: all or some."""
    bound = BoundRule(case.rule, VariableSpec("w", np.dtype(np.float32), shape), CATCH_UP)
    settings = checked_settings(case.rule, case.numbers, CATCH_UP)
    if way == "dense":
        return plan_dense(bound, np.ones(shape, np.float32), settings)
    if way == "rows":
        rows = np.arange(0, shape[0], 2)
        return plan_rows(bound, rows, np.ones((rows.size, *shape[1:]), np.float32), settings)
    return plan_catch_up(bound, settings)


@pytest.mark.parametrize("way", ["dense", "rows", "no step"])
@pytest.mark.parametrize("case", CATCHING_UP[:5], ids=str)
class TestMemoryToCatchUp:
    SHAPE = (6000, 64)  # several blocks

    def test_if_there_is_none_no_row_is_changed(self, case: Case, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
        value, slots = operands_to_catch_up(case, self.SHAPE)
        before, plan = copy.deepcopy((value, slots)), catching_up(case, self.SHAPE, way)

        def refuse(_num_bytes: int) -> Array:
            raise MemoryError

        monkeypatch.setattr(blocks.spare_memory, "take", refuse)
        with pytest.raises(MemoryError):
            plan.apply(value, slots, 5)
        for one, other in zip([value, *slots], [before[0], *before[1]], strict=True):
            np.testing.assert_array_equal(one, other)

    def test_it_is_taken_before_a_row_is_changed(self, case: Case, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
        value, slots = operands_to_catch_up(case, self.SHAPE)
        plan, load, loads, before = catching_up(case, self.SHAPE, way), Application.load, 0, 0

        def load_and_look(self: Application, part: blocks.Part) -> list[Array]:
            nonlocal loads, before
            loads += 1
            if loads == 1:
                before = tracemalloc.get_traced_memory()[0]
                tracemalloc.reset_peak()
            return load(self, part)

        monkeypatch.setattr(Application, "load", load_and_look)
        tracemalloc.start()
        try:
            plan.apply(value, slots, 5)
            most = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        assert loads > 2
        assert most < blocks.BLOCK  # bytes: a quarter of one array of a block
        assert (slots[-1][:: 2 if way == "rows" else 1] == 5).all()


FORMS = [(case, mode) for case in CASES for mode in (None, *RULES[case.rule].sparse_modes)]


@pytest.mark.parametrize("shape", [(4000, 64), (200_000,)], ids=["matrix", "vector"])  # several blocks
@pytest.mark.parametrize("slots_of", [np.dtype(np.float32), BFLOAT16], ids=str)
@pytest.mark.parametrize(("case", "mode"), FORMS, ids=[f"{case}-{mode or 'dense'}" for case, mode in FORMS])
def test_memory_is_taken_before_anything_is_changed(
    case: Case, mode: str | None, slots_of: np.dtype[Any], shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(4)
    value, slots = random.standard_normal(shape).astype(BFLOAT16), initial_slots(case, shape, slots_of, mode)
    bound = BoundRule(case.rule, VariableSpec("w", BFLOAT16, shape), mode, 7 if slots_of == BFLOAT16 else None)
    settings, gradient = checked_settings(case.rule, case.numbers, mode), random.standard_normal(shape)
    gradient = gradient.astype(np.float32)
    plan = plan_dense(bound, gradient, settings) if mode is None else None
    plan = plan or plan_rows(bound, random.permutation(shape[0]), gradient, settings)
    make_room, before = plan._application, 0

    def begun(*operands: Any) -> Application:
        nonlocal before
        application = make_room(*operands)
        before = max(before, tracemalloc.get_traced_memory()[0])
        tracemalloc.reset_peak()
        return application

    monkeypatch.setattr(plan, "_application", begun)
    tracemalloc.start()
    try:
        plan.apply(value, slots, 5)
        most = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert before
    assert most < 4 * blocks.BLOCK  # less than one array of a block


# -- dtypes -------------------------------------------------------------------------------------


def test_bfloat16_slots_are_rounded_at_random_but_repeatably() -> None:
    numbers = check_settings("momentum", {"learning_rate": 0, "momentum": 1})
    gradient = np.full(4000, 1 / 1024, np.float32)  # an eighth of the distance from 1 to the next bfloat16

    def once(key: int | None, step: int) -> Array:
        slot = np.ones(4000, BFLOAT16)
        apply_dense("momentum", np.zeros(4000, BFLOAT16), [slot], gradient, numbers, step, rounding_key=key)
        return slot.astype(np.float32)

    assert (once(None, 1) == 1).all()
    first = once(7, 1)
    assert set(first.tolist()) == {1.0, 1.0 + 2.0**-7}
    assert 0.1 < (first > 1).mean() < 0.15
    np.testing.assert_array_equal(first, once(7, 1))
    assert (first != once(7, 2)).any()
    assert (first != once(8, 1)).any()


def test_a_row_is_rounded_as_the_same_row_of_a_dense_step() -> None:
    numbers = check_settings("momentum", {"learning_rate": 1, "momentum": 1})
    gradient = some_numbers(np.random.default_rng(2), (50, 6), np.dtype(np.float32))
    dense = np.zeros((50, 6), BFLOAT16), np.ones((50, 6), BFLOAT16)
    rows = np.array([44, 3, 20], np.int64)
    by_rows = copy.deepcopy(dense)
    apply_dense("momentum", dense[0], [dense[1]], gradient, numbers, 5, rounding_key=-3)
    apply_rows("momentum", by_rows[0], [by_rows[1]], rows, gradient[rows], numbers, 5, LAZY, rounding_key=-3)
    for one, other in zip(dense, by_rows, strict=True):
        np.testing.assert_array_equal(one[rows].view(np.uint16), other[rows].view(np.uint16))


def test_what_is_not_finite_stays_so_in_bfloat16() -> None:
    numbers = check_settings("momentum", {"learning_rate": 0, "momentum": 1})
    slot = np.zeros(3, BFLOAT16)
    gradient = np.array([np.inf, -np.inf, np.nan], np.float32)
    apply_dense("momentum", np.zeros(3, BFLOAT16), [slot], gradient, numbers, 1, rounding_key=1)
    np.testing.assert_array_equal(slot.astype(np.float32), gradient)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_replayed_step_gives_the_same_bits(case: Case) -> None:
    random = np.random.default_rng(8)
    value, gradient = random.standard_normal((90, 40)), random.standard_normal((90, 40))
    results = []
    for _ in range(2):
        operands = value.copy(), initial_slots(case, value.shape, FLOAT64)
        for step in (1, 2):
            apply_dense(case.rule, *operands, gradient, case.numbers, step)
        results.append([each.tobytes() for each in (operands[0], *operands[1])])
    assert results[0] == results[1]


# -- bad operands -------------------------------------------------------------------------------

SPEC = VariableSpec("layer/w", np.dtype(np.float32), (5, 2))
ADAM = check_settings("adam", {})


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"rule": "adm"}, InvalidArgumentError, "no update rule 'adm'"),
        (
            {"spec": VariableSpec("n", np.dtype(np.int32), (5, 2))},
            InvalidArgumentError,
            "variable n .*cannot be trained",
        ),
        ({"gradient": np.ones((5, 3), np.float32)}, ShapeMismatchError, r"\[5, 3\].*layer/w.*needs \[5, 2\]"),
        ({"gradient": np.ones((5, 2))}, DTypeMismatchError, "layer/w.*float64"),
        ({"numbers": ADAM[:-1]}, InvalidArgumentError, "has 7 settings, not 6"),
        ({"numbers": (math.nan, *ADAM[1:])}, InvalidArgumentError, "learning_rate of the rule adam is nan"),
        ({"step": 0}, InvalidArgumentError, "step 0 of variable layer/w.*counted from 1"),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, dict) else None,
)
def test_bad_operands_of_a_dense_step(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    value, slots = np.ones((5, 2), np.float32), [np.zeros((5, 2), np.float32), np.zeros((5, 2), np.float32)]

    def check(spec: VariableSpec, rule: str, gradient: Array, numbers: tuple[float, ...], step: int) -> None:
        plan_dense(BoundRule(rule, spec), gradient, checked_settings(rule, numbers)).check(value, slots, step)

    given: dict[str, Any] = {"spec": SPEC, "rule": "adam", "gradient": np.ones((5, 2), np.float32), "numbers": ADAM}
    with pytest.raises(error, match=message):
        check(**{**given, "step": 1, **changes})


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"indices": np.array([0, 5])},
            InvalidArgumentError,
            r"row 5 .*outside \[0, 5\).*layer/w.*nothing was changed",
        ),
        ({"indices": np.array([0.0, 1.0])}, DTypeMismatchError, "indices for variable layer/w.*float64"),
        ({"gradient": np.ones((2, 3), np.float32)}, ShapeMismatchError, r"\[2, 3\].*needs \[2, 2\]"),
        ({"mode": "eager"}, InvalidArgumentError, "adam has no sparse mode 'eager'; choose 'tf1' or"),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, dict) else None,
)
def test_bad_operands_of_rows(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    given: dict[str, Any] = {"indices": np.array([0, 1]), "gradient": np.ones((2, 2), np.float32), "mode": LAZY}
    given |= changes
    rule = BoundRule("adam", SPEC, given["mode"])
    with pytest.raises(error, match=message):
        plan_rows(rule, given["indices"], given["gradient"], checked_settings("adam", ADAM))


@pytest.mark.parametrize(
    "slots",
    [
        [np.zeros((5, 2), np.float32)],
        [np.zeros((5, 2), np.float32), np.zeros((5, 3), np.float32)],
        [np.zeros((5, 2), np.float32), np.zeros((5, 2), np.int32)],
        [np.zeros((5, 2), np.float32), np.zeros((5, 2))],
    ],
    ids=["too few", "shape", "integers", "wider"],
)
def test_slots_that_do_not_fit_are_refused(slots: list[Array]) -> None:
    value = np.ones((5, 2), np.float32)
    plan = plan_dense(BoundRule("adam", SPEC), np.ones((5, 2), np.float32), checked_settings("adam", ADAM))
    with pytest.raises(FailedPreconditionError, match="the rule adam keeps m, v beside variable layer/w"):
        plan.check(value, slots, 1)


def test_no_rows_change_nothing() -> None:
    value, slots = np.ones((5, 2), np.float32), [np.ones((5, 2), np.float32)] * 2
    apply_rows("adam", value, slots, np.zeros(0, np.int64), np.zeros((0, 2), np.float32), ADAM, 1, LAZY)
    assert (value == 1).all()


def test_a_gradient_may_be_read_only_and_strided() -> None:
    value = np.zeros((4, 2), np.float32)
    gradient = np.arange(16, dtype=np.float32).reshape(4, 4)[:, ::2]
    gradient.flags.writeable = False
    apply_dense("gradient_descent", value, [], gradient, (1.0,), 1)
    np.testing.assert_array_equal(value, -gradient)
