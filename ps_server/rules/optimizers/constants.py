"""Which body a rule runs with its settings, and the constants of it.

Settings are rounded to the dtype of the computation first and combined then, as TensorFlow does: ``1 - beta2`` in
float32 is not 1 - 0.999 rounded. What follows from the count of the step is computed in float64 and rounded once.

Numbers may overflow, so callers run these functions without NumPy's warnings.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from ps_protocol.optimizer_rules import RULES, TF1
from ps_server.rules.optimizers import bodies
from ps_server.rules.optimizers.compiled_loops import LoopKey
from ps_server.rules.optimizers.tape import Body

Constants: TypeAlias = Mapping[str, Any]
"""Settings by name, each a number of the dtype of the computation; derived ones of float64."""


@dataclass(frozen=True, slots=True)
class Elementwise:
    """A body with its constants.

    Attributes:
        body: Takes the value, slots and a gradient.
        constants: Numbers of the dtype of the computation.
        loop: The loop that does the same for all elements; None if numba does not give the bits that NumPy does.
    """

    body: Body
    constants: tuple[Any, ...]
    loop: LoopKey | None


def rounded_settings(rule: str, numbers: Sequence[float], step: int, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Returns the settings of a rule for one step.

    Args:
        rule: Its name.
        numbers: In the rule's order, checked.
        step: The count of the step, from 1.
        dtype: Of the computation.
    """
    fixed = _fixed_settings(rule, tuple(numbers), dtype)
    derived = {
        name: float(step) if name == "global_step" else float(fixed[name.removesuffix("_power")]) ** step
        for name, number in fixed.items()
        if number is None
    }
    return {**fixed, **derived}


@functools.lru_cache(maxsize=256)
def _fixed_settings(rule: str, numbers: tuple[float, ...], dtype: np.dtype[Any]) -> Constants:
    """Returns settings rounded; None for those that follow from the step."""
    named = RULES[rule].named(numbers)
    return {name: None if math.isnan(number) else dtype.type(number) for name, number in named.items()}


def elementwise(rule: str, settings: Constants, dtype: np.dtype[Any], mode: str | None = None) -> Elementwise:
    """Returns what an elementwise rule does in one step.

    Args:
        rule: Its name.
        settings: Those of ``rounded_settings``.
        dtype: Of the computation.
        mode: The sparse mode, if the gradient is for some rows.
    """
    is_for_rows = (rule, mode) == ("adam", TF1) and not settings["amsgrad"]
    body, constants = (_adam_for_rows if is_for_rows else _ELEMENTWISE[rule])(settings)
    num_targets = body.__code__.co_argcount - 1 - len(constants)
    loop = LoopKey(body, num_targets, 1, len(constants), dtype) if body not in _NOT_COMPILED else None
    return Elementwise(body, rounded(constants, dtype), loop)


@functools.lru_cache(maxsize=256)
def elementwise_step(
    rule: str, numbers: tuple[float, ...], step: int, dtype: np.dtype[Any], mode: str | None = None
) -> Elementwise:
    """Returns what an elementwise rule does in one step; kept, since many variables are at the same step.

    Args:
        rule: Its name.
        numbers: In the rule's order, checked.
        step: The count of the step; always the same number if no setting follows from it.
        dtype: Of the computation.
        mode: As of ``elementwise``.
    """
    return elementwise(rule, rounded_settings(rule, numbers, step, dtype), dtype, mode)


def rounded(constants: Sequence[Any], dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Returns constants in the dtype of the computation."""
    return tuple(dtype.type(each) for each in constants)


def adam_rate(settings: Constants) -> float:
    """Returns ``learning_rate * sqrt(1 - beta2**t) / (1 - beta1**t)``."""
    root = math.sqrt(1.0 - float(settings["beta2_power"]))
    return float(settings["learning_rate"]) * root / (1.0 - float(settings["beta1_power"]))


def _gradient_descent(s: Constants) -> tuple[Any, ...]:
    return bodies.gradient_descent, (s["learning_rate"],)


def _momentum(s: Constants) -> tuple[Any, ...]:
    body = bodies.nesterov_momentum if s["use_nesterov"] else bodies.momentum
    return body, (s["learning_rate"], s["momentum"])


def _adagrad(s: Constants) -> tuple[Any, ...]:
    return bodies.adagrad, (s["learning_rate"],)


def _adagrad_da(s: Constants) -> tuple[Any, ...]:
    rate, step = float(s["learning_rate"]), float(s["global_step"])
    threshold = float(s["l1_regularization_strength"]) * step
    return bodies.adagrad_da, (rate, threshold, float(s["l2_regularization_strength"]) * step * rate, 0.0)


def _adadelta(s: Constants) -> tuple[Any, ...]:
    return bodies.adadelta, (s["learning_rate"], s["rho"], 1 - s["rho"], s["epsilon"])


def _adam(s: Constants) -> tuple[Any, ...]:
    body = bodies.amsgrad if s["amsgrad"] else bodies.adam
    return body, (adam_rate(s), 1 - s["beta1"], 1 - s["beta2"], s["epsilon"])


def _adam_for_rows(s: Constants) -> tuple[Any, ...]:
    constants = (adam_rate(s), 1 - s["beta1"], 1 - s["beta2"], s["epsilon"], s["beta1"], s["beta2"])
    return bodies.adam_for_rows, constants


def _adamw(s: Constants) -> tuple[Any, ...]:
    body = bodies.amsgrad_w if s["amsgrad"] else bodies.adamw
    rate = float(s["learning_rate"]) / (1.0 - float(s["beta1_power"]))
    kept = 1.0 - float(s["learning_rate"]) * float(s["weight_decay"])
    root = math.sqrt(1.0 - float(s["beta2_power"]))
    return body, (rate, 1 - s["beta1"], 1 - s["beta2"], s["epsilon"], kept, root)


def _rmsprop(s: Constants) -> tuple[Any, ...]:
    body = bodies.centered_rmsprop if s["centered"] else bodies.rmsprop
    return body, (s["learning_rate"], 1 - s["decay"], s["momentum"], s["epsilon"])


def _ftrl(s: Constants) -> tuple[Any, ...]:
    rate, l1 = s["learning_rate"], s["l1_regularization_strength"]
    l2 = float(s["l2_regularization_strength"]) + float(s["beta"]) / (2.0 * max(float(rate), 1e-36))
    constants = (rate, l1, 2.0 * l2, 2 * s["l2_shrinkage_regularization_strength"], np.finfo(rate.dtype).tiny)
    if s["learning_rate_power"] == -0.5:
        return bodies.ftrl, constants
    return bodies.ftrl_of_any_power, (*constants, -s["learning_rate_power"])


def _proximal_gradient_descent(s: Constants) -> tuple[Any, ...]:
    rate = s["learning_rate"]
    shrinkage = 1 + s["l2_regularization_strength"] * rate
    return bodies.proximal_gradient_descent, (rate, rate * s["l1_regularization_strength"], shrinkage, 0.0)


def _proximal_adagrad(s: Constants) -> tuple[Any, ...]:
    strengths = (s["l1_regularization_strength"], s["l2_regularization_strength"])
    return bodies.proximal_adagrad, (s["learning_rate"], *strengths, 0.0, 1.0)


def _lion(s: Constants) -> tuple[Any, ...]:
    return bodies.lion, (s["learning_rate"], s["beta1"], 1 - s["beta1"], 1 - s["beta2"], s["weight_decay"])


_ELEMENTWISE: Final[dict[str, Callable[[Constants], tuple[Any, ...]]]] = {
    "gradient_descent": _gradient_descent,
    "momentum": _momentum,
    "adagrad": _adagrad,
    "adagrad_da": _adagrad_da,
    "adadelta": _adadelta,
    "adam": _adam,
    "rmsprop": _rmsprop,
    "ftrl": _ftrl,
    "proximal_gradient_descent": _proximal_gradient_descent,
    "proximal_adagrad": _proximal_adagrad,
    "adamw": _adamw,
    "lion": _lion,
}

_NOT_COMPILED: Final = frozenset({bodies.ftrl_of_any_power})

ELEMENTWISE_RULES: Final = frozenset(_ELEMENTWISE)
"""Rules whose elements have nothing to do with each other; ``norm_rules`` has the others."""
