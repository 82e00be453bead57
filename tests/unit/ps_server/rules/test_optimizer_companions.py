"""What stands beside update rules: constraints, moving averages, the search for what is not finite."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from ps_protocol.errors import InvalidArgumentError, ShapeMismatchError
from ps_protocol.operations import VariableSpec
from ps_protocol.optimizer_constraints import ConstraintSpec, constraint_spec
from ps_protocol.optimizer_spec import OptimizerSpec
from ps_server.rules.built_in_functions import BUILT_IN_FUNCTIONS
from ps_server.rules.functions import FunctionSubject
from ps_server.rules.optimizers import constraints
from ps_server.rules.optimizers.constraints import apply_constraint
from ps_server.rules.optimizers.finiteness import first_nonfinite
from ps_server.rules.optimizers.moving_average import apply_moving_average, debiased, share_of_new
from tests.optimizer_cases import DTYPES

# -- constraints; expected values are Keras's ---------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("non_negative", {}, [[3.0, 0.0, 0.0], [4.0, 2.0, 0.0]]),
        ("unit_norm", {}, [[0.6000000238, -0.4472135901, 0.0], [0.8000000119, 0.8944271802, 0.0]]),
        ("unit_norm", {"axis": -1}, [[0.9486832618, -0.3162277638, 0.0], [0.8944271802, 0.4472135901, 0.0]]),
        ("max_norm", {}, [[1.2000000477, -0.8944271802, 0.0], [1.6000000238, 1.7888543605, 0.0]]),
        ("max_norm", {"max_value": 3.5, "axis": 1}, [[3.0, -1.0, 0.0], [3.1304950714, 1.5652475357, 0.0]]),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_constraints_are_keras_s(name: str, settings: dict[str, float], expected: Any, dtype: np.dtype[Any]) -> None:
    value = np.array([[3, -1, 0], [4, 2, 0]], dtype)
    apply_constraint(constraint_spec(name, settings), value)
    rounding = {np.float32: 1e-6, np.float64: 2e-7, np.float16: 1e-3}.get(dtype.type, 8e-3)
    np.testing.assert_allclose(value.astype(np.float64), expected, rtol=rounding)


def test_a_norm_in_the_middle() -> None:
    value = np.random.default_rng(1).standard_normal((3, 50, 4)).astype(np.float32)
    expected = value / np.linalg.norm(value.astype(np.float64), axis=1, keepdims=True)
    apply_constraint(constraint_spec("unit_norm", {"axis": 1}), value)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_nothing_is_constrained(shape: tuple[int, ...]) -> None:
    apply_constraint(constraint_spec("unit_norm"), np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (ConstraintSpec("sparse"), "no constraint 'sparse'; choose one of non_negative"),
        (ConstraintSpec("max_norm", (1.0,)), "max_norm has 2 settings, not 1"),
        (ConstraintSpec("max_norm", (-1.0, 0.0)), r"max_value of the constraint max_norm is -1; give a number in \[0"),
        (ConstraintSpec("unit_norm", (2.0,)), "axis of the constraint unit_norm is 2; give a whole number"),
        (ConstraintSpec("unit_norm", (0.5,)), "axis of the constraint unit_norm is 0.5"),
    ],
    ids=lambda each: each.name if isinstance(each, ConstraintSpec) else None,
)
def test_bad_constraints_change_nothing(constraint: ConstraintSpec, message: str) -> None:
    value = np.array([[3, -1]], np.float32)
    with pytest.raises(InvalidArgumentError, match=message):
        apply_constraint(constraint, value)
    np.testing.assert_array_equal(value, [[3, -1]])


def test_a_setting_that_a_constraint_does_not_have() -> None:
    with pytest.raises(InvalidArgumentError, match="non_negative has no setting 'axis'; it has none"):
        constraint_spec("non_negative", {"axis": 1})


# -- moving averages; expected values are TensorFlow's ------------------------------------------

VALUES = [[3.0, -1.0], [0.5, 4.0], [7.0, 0.25]]


@pytest.mark.parametrize(
    ("counted", "expected"),
    [
        (False, [[1.100000023, 1.849999904], [1.070000052, 1.957499980], [1.366500139, 1.872124910]]),
        (True, [[2.799999952, -0.699999809], [0.918181777, 3.145454645], [5.479545593, 0.973863601]]),
    ],
    ids=["decay", "num_updates"],
)
def test_moving_averages_are_tensorflow_s(counted: bool, expected: list[list[float]]) -> None:
    shadow = np.array([1, 2], np.float32)
    for count, (value, after) in enumerate(zip(VALUES, expected, strict=True)):
        share = share_of_new(0.95, count if counted else None)
        apply_moving_average(shadow, np.array(value, np.float32), share)
        np.testing.assert_allclose(shadow, after, rtol=1e-6)


def test_an_average_that_began_at_zero_is_debiased_as_in_tensorflow() -> None:
    expected = [[2.999999523, -0.999999761], [1.684210181, 1.631578445], [3.645755529, 1.121770858]]
    biased, average, share = np.zeros(2, np.float32), np.zeros(2, np.float32), share_of_new(0.9)
    for count, (value, after) in enumerate(zip(VALUES, expected, strict=True), 1):
        apply_moving_average(biased, np.array(value, np.float32), share)
        debiased(biased, share, count, average)
        np.testing.assert_allclose(average, after, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_average_of_many_elements(dtype: np.dtype[Any]) -> None:
    random = np.random.default_rng(4)
    shadow, value = random.standard_normal((2, 200, 300)).astype(dtype)
    wide = np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)
    old, new = shadow.astype(wide), value.astype(wide)
    expected = (old - (old - new) * wide.type(0.25)).astype(dtype)
    apply_moving_average(shadow, value, 0.25)
    np.testing.assert_array_equal(shadow, expected)


def test_bad_averages() -> None:
    with pytest.raises(InvalidArgumentError, match=r"decay of a moving average is 1.5; give a number in \[0, 1\]"):
        share_of_new(1.5)
    with pytest.raises(InvalidArgumentError, match="number of updates of a moving average is -1"):
        share_of_new(0.5, -1)
    with pytest.raises(ShapeMismatchError, match=r"average is float32\[2\], the value float32\[3\]"):
        apply_moving_average(np.zeros(2, np.float32), np.zeros(3, np.float32), 0.1)
    with pytest.raises(InvalidArgumentError, match="cannot be debiased"):
        debiased(np.zeros(2), 0.1, 0, np.zeros(2))


# -- what is not finite -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_finite_numbers_of_any_size_are_finite(dtype: np.dtype[Any]) -> None:
    limits = ml_dtypes.finfo(dtype)
    extremes = np.array([limits.max, limits.min, limits.smallest_subnormal, 0, -0.0, limits.max] * 20_000).astype(dtype)
    assert first_nonfinite(extremes.reshape(6, -1)) is None
    assert first_nonfinite(extremes[:0]) is None
    assert first_nonfinite(extremes[0].reshape(())) is None


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_first_that_is_not_finite_is_found(dtype: np.dtype[Any], bad: float) -> None:
    for at in (0, 32_767, 32_768, 99_999):
        gradient = np.ones(100_000, dtype)
        gradient[at] = bad
        gradient[99_999] = np.nan
        assert first_nonfinite(gradient.reshape(100, -1)) == at
    assert first_nonfinite(np.full((4, 4), bad, dtype)[::2, 1::2]) == 0


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("shape", [(2, 3, 5), (300, 7, 40), (1, 70000, 1)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_norms_by_blocks_are_those_of_the_whole(shape: tuple[int, ...], axis: int, dtype: np.dtype[Any]) -> None:
    value = np.random.default_rng(3).standard_normal(shape).astype(dtype)
    norms = np.sqrt(np.sum(np.square(value.astype(np.float64)), axis=axis, keepdims=True))
    expected = value.astype(np.float64) * np.minimum(norms, 1.5) / (1e-7 + norms)
    apply_constraint(constraint_spec("max_norm", {"max_value": 1.5, "axis": axis}), value)
    rounding = {np.float32: 1e-6, np.float64: 1e-12, np.float16: 2e-3}.get(dtype.type, 2e-2)
    np.testing.assert_allclose(value.astype(np.float64), expected, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("name", ["unit_norm", "max_norm"])
def test_a_step_changes_nothing_if_there_is_no_memory_for_its_constraint(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = VariableSpec("w", np.dtype(np.float32), (3, 2))
    optimizer = OptimizerSpec("momentum", (0.1, 0.9, 0.0), constraint=constraint_spec(name))
    value, slot = np.full((3, 2), 2.0, np.float32), np.zeros((3, 2), np.float32)
    asked = []

    def no_room(num_bytes: int) -> Any:
        asked.append(num_bytes)
        raise MemoryError

    monkeypatch.setattr(constraints, "spare_memory", SimpleNamespace(take=no_room))
    prepared = BUILT_IN_FUNCTIONS.find("momentum", "w")(FunctionSubject(spec, (spec,), optimizer))
    step = prepared((np.ones((3, 2), np.float32),), np.full(3, np.nan))
    with pytest.raises(MemoryError):
        step.apply(value, (slot,), 1)
    assert asked
    assert value.tolist() == [[2.0, 2.0]] * 3
    assert slot.tolist() == [[0.0, 0.0]] * 3
