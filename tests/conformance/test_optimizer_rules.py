"""Replays TensorFlow's recorded optimizers by the update rules: values and slots after each step.

``optimizers.json`` came with the project; ``more_optimizers.json`` was recorded by ``record_optimizers.py``, and
``torch_optimizers.json`` by ``record_torch_optimizers.py``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from ps_protocol.operations import Array
from ps_protocol.optimizer_rules import LAZY, RULES, RuleSpec, check_settings
from ps_server.rules.optimizers.plans import apply_dense
from ps_server.rules.optimizers.row_plans import apply_rows

TRACES = Path(__file__).parent / "reference" / "traces"
CASES = [
    case for name in ("optimizers", "more_optimizers") for case in json.loads((TRACES / f"{name}.json").read_text())
]
TORCH_CASES = json.loads((TRACES / "torch_optimizers.json").read_text())
DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16)}
TOLERANCES = {"float64": 1e-12, "float32": 1e-6, "float16": 4e-3}


def rule_name(optimizer: str) -> str:
    """The rule of a class of TensorFlow's: AdagradDAOptimizer is adagrad_da, RMSPropOptimizer is rmsprop."""
    words = optimizer.removesuffix("Optimizer").replace("RMSProp", "Rmsprop").replace("DA", "Da")
    return re.sub(r"(?<!^)(?=[A-Z])", "_", words).lower()


def case_name(case: dict[str, Any]) -> str:
    switches = [name for name, value in case["options"].items() if value is True]
    return "-".join([rule_name(case["optimizer"]), *switches, case["kind"], case.get("dtype", "float32")])


class BetaPowers:
    """``beta1**t`` and ``beta2**t`` as TensorFlow 1 keeps them: multiplied in float32 at each step."""

    def __init__(self, spec: RuleSpec, settings: dict[str, float]):
        self._names = [each.name for each in spec.settings if each.name.endswith("_power") and each.derived]
        self._betas = [np.float32(settings[each.removesuffix("_power")]) for each in self._names]
        self._powers = list(self._betas)

    def next(self, dtype: np.dtype[Any]) -> dict[str, float]:
        current = {name: as_setting(float(each), dtype) for name, each in zip(self._names, self._powers, strict=True)}
        self._powers = [power * beta for power, beta in zip(self._powers, self._betas, strict=True)]
        return current


def test_all_cases_are_there() -> None:
    assert len(json.loads((TRACES / "optimizers.json").read_text())) == 24
    assert {rule_name(each["optimizer"]) for each in CASES} == {
        name for name, each in RULES.items() if each.tensorflow_mode is not None
    }


@pytest.mark.parametrize("case", [pytest.param(each, id=f"{at}-{case_name(each)}") for at, each in enumerate(CASES)])
def test_rules_do_what_tensorflow_does(case: dict[str, Any]) -> None:
    dtype_name = case.get("dtype", "float32")
    dtype = DTYPES.get(dtype_name) or np.dtype(dtype_name)
    rule = rule_name(case["optimizer"])
    spec = RULES[rule]
    named = spec.named(check_settings(rule, {name: float(value) for name, value in case["options"].items()}))
    # TensorFlow's constructors make float32 tensors of the settings, which kernels take in the variable's dtype.
    settings = {name: as_setting(each, dtype) for name, each in named.items()}
    numbers = check_settings(rule, settings)
    value = np.array(case["initial"], dtype)
    slots = {
        each.name: np.full(each.shape(value.shape), each.initial_number(named), dtype) for each in spec.slots(numbers)
    }
    for name, slot in slots.items():
        np.testing.assert_allclose(as_doubles(slot), np.array(case["initial_slots"][name]), rtol=TOLERANCES[dtype_name])
    powers = BetaPowers(spec, named)
    for count, step in enumerate(case["steps"], 1):
        numbers = check_settings(rule, {**settings, **powers.next(dtype)})
        gradient = np.array(step["gradient"], dtype)
        if case["kind"] == "dense":
            apply_dense(rule, value, list(slots.values()), gradient, numbers, count)
        else:
            indices = np.array(step["indices"], np.int64)
            mode = spec.tensorflow_mode or ""
            apply_rows(rule, value, list(slots.values()), indices, gradient, numbers, count, mode)
        for name, actual in {"value": value, **slots}.items():
            expected = np.array(step["value"] if name == "value" else step["slots"][name])
            assert_close(actual, expected, dtype_name, f"{name} after step {count}")


def torch_case_name(case: dict[str, Any]) -> str:
    switches = [
        name for name, value in case["settings"].items() if value == 1.0 and name in ("amsgrad", "use_nesterov")
    ]
    return "-".join([case["rule"], *switches, "rows" if "indices" in case["steps"][0] else "dense", case["dtype"]])


@pytest.mark.parametrize(
    "case", [pytest.param(each, id=f"{at}-{torch_case_name(each)}") for at, each in enumerate(TORCH_CASES)]
)
def test_rules_do_what_torch_does(case: dict[str, Any]) -> None:
    rule, dtype = case["rule"], np.dtype(case["dtype"])
    numbers = check_settings(rule, case["settings"])
    named = RULES[rule].named(numbers)
    value = np.array(case["initial"], dtype)
    slots = [np.full(value.shape, each.initial_number(named), dtype) for each in RULES[rule].slots(numbers)]
    # A beta2 of 0 divides by the gradient alone, which may be small; torch has another order of operations.
    rounding = {"float64": (1e-11, 1e-14), "float32": (5e-6, 5e-7)}[case["dtype"]]
    for count, step in enumerate(case["steps"], 1):
        gradient = np.array(step["gradient"], dtype)
        if "indices" in step:
            apply_rows(rule, value, slots, np.array(step["indices"]), gradient, numbers, count, LAZY)
        else:
            apply_dense(rule, value, slots, gradient, numbers, count)
        np.testing.assert_allclose(value, np.array(step["value"]), rtol=rounding[0], atol=rounding[1])


def as_setting(number: float, dtype: np.dtype[Any]) -> float:
    in_float32 = np.float32(number)
    return float(in_float32 if dtype.itemsize > 2 else in_float32.astype(dtype))


def as_doubles(array: Array) -> Array:
    return array.astype(np.float64)


def assert_close(actual: Array, expected: Array, dtype_name: str, what: str) -> None:
    # Where numbers cancel, what is left of them has the rounding of what was there before; TensorFlow's kernels for
    # float16 round after each operation.
    floor = {"float64": 1e-14, "float32": 1e-7, "float16": 4e-3}[dtype_name] * float(np.max(np.abs(expected)))
    np.testing.assert_allclose(as_doubles(actual), expected, rtol=TOLERANCES[dtype_name], atol=floor, err_msg=what)
