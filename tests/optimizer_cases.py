"""Settings of each update rule that tests go through, and values and slots to begin with."""

from __future__ import annotations

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from ps_protocol.operations import Array
from ps_protocol.optimizer_rules import RULES, check_settings

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [np.dtype(np.float16), BFLOAT16, np.dtype(np.float32), np.dtype(np.float64)]


class Case(NamedTuple):
    """A rule with settings."""

    rule: str
    settings: dict[str, float]

    @property
    def numbers(self) -> tuple[float, ...]:
        return check_settings(self.rule, self.settings)

    def __str__(self) -> str:
        return "-".join([self.rule, *(name for name in self.settings if name not in ("learning_rate", "momentum"))])


_L1, _L2 = {"l1_regularization_strength": 0.02}, {"l2_regularization_strength": 0.05}
_RATE = {"learning_rate": 0.05}

CASES = [
    Case("gradient_descent", _RATE),
    Case("momentum", {**_RATE, "momentum": 0.9}),
    Case("momentum", {**_RATE, "momentum": 0.9, "use_nesterov": 1.0}),
    Case("adagrad", _RATE),
    Case("adagrad_da", _RATE),
    Case("adagrad_da", {**_RATE, **_L1, **_L2}),
    Case("adadelta", {"learning_rate": 0.5}),
    Case("adam", _RATE),
    Case("adam", {**_RATE, "amsgrad": 1.0}),
    Case("rmsprop", {**_RATE, "momentum": 0.5}),
    Case("rmsprop", {**_RATE, "momentum": 0.5, "centered": 1.0}),
    Case("ftrl", {**_RATE, **_L1, **_L2, "l2_shrinkage_regularization_strength": 0.1, "beta": 0.3}),
    Case("ftrl", {**_RATE, **_L1, "learning_rate_power": -0.7}),
    Case("proximal_gradient_descent", {**_RATE, **_L1, **_L2}),
    Case("proximal_adagrad", {**_RATE, **_L1, **_L2}),
    Case("adamw", {**_RATE, "weight_decay": 0.1}),
    Case("adamw", {**_RATE, "weight_decay": 0.1, "amsgrad": 1.0}),
    Case("lamb", {**_RATE, "weight_decay": 0.1}),
    Case("lars", {**_RATE, "eeta": 0.1}),
    Case("lars", {**_RATE, "eeta": 0.1, "use_nesterov": 1.0}),
    Case("lion", {**_RATE, "weight_decay": 0.1}),
    Case("row_wise_adagrad", _RATE),
    Case("group_ftrl", {**_RATE, **_L1, "l21_regularization_strength": 0.3}),
]
"""Every rule, and each of its forms."""


def initial_slots(case: Case, shape: tuple[int, ...], dtype: np.dtype[Any], mode: str | None = None) -> list[Array]:
    """Slots as a new variable has them."""
    spec = RULES[case.rule]
    named = spec.named(case.numbers)
    return [
        np.full(each.shape(shape), each.initial_number(named), np.dtype(np.int64) if each.is_count else dtype)
        for each in spec.slots(case.numbers, mode)
    ]


def slot_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of slots beside a variable of a dtype, if nothing else is chosen."""
    return dtype if dtype.itemsize == 8 else np.dtype(np.float32)


def some_numbers(random: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Ordinary numbers of several sizes, some zeros among them."""
    numbers = random.standard_normal(shape) * 10.0 ** random.integers(-2, 2, shape)
    return np.asarray(np.where(random.random(shape) < 0.1, 0.0, numbers).astype(dtype))
