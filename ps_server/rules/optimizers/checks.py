"""What an update needs of its operands, and what is said if they do not fit."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ps_protocol.dtype_traits import TRAINABLE_DTYPES
from ps_protocol.errors import DTypeMismatchError, FailedPreconditionError, InvalidArgumentError
from ps_protocol.operations import Array, VariableSpec
from ps_protocol.optimizer_rules import RULES, SlotSpec, check_numbers
from ps_server.rules.operand_checks import dtype_label, refuse_operand

FLOAT32: Final = np.dtype(np.float32)
_COUNT: Final = np.dtype(np.int64)


def compute_dtype(spec: VariableSpec) -> np.dtype[Any]:
    """Returns the dtype in which a variable's updates are computed.

    Raises:
        InvalidArgumentError: It does not hold floats.
    """
    if spec.dtype not in TRAINABLE_DTYPES:
        trainable = ", ".join([each.name for each in TRAINABLE_DTYPES])
        raise InvalidArgumentError(
            f"variable {spec} cannot be trained: an optimizer changes {trainable}",
            variable=spec.name,
        )
    return spec.dtype if spec.dtype.itemsize == 8 else FLOAT32


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """What a rule is set to, checked.

    Attributes:
        numbers: In the rule's order; NaN for what follows from the count of the step.
        slots: Those that the rule has with these numbers.
        follow_step: Whether any number follows from the count of the step.
    """

    numbers: tuple[float, ...]
    slots: tuple[SlotSpec, ...]
    follow_step: bool


@functools.lru_cache(maxsize=1024)
def checked_settings(rule: str, numbers: tuple[float, ...], mode: str | None = None) -> Settings:
    """Returns the settings of a rule; kept, since they mostly are those of the step before.

    Args:
        rule: Its name.
        numbers: In its order.
        mode: The sparse mode; "catch_up" needs one slot more.

    Raises:
        InvalidArgumentError: There is no such rule, it has another number of settings, or a number is not allowed.
    """
    check_numbers(rule, numbers)
    return Settings(numbers, RULES[rule].slots(numbers, mode), any(map(math.isnan, numbers)))


def check_gradient(spec: VariableSpec, rule: str, gradient: Array, expected: tuple[int, ...]) -> None:
    """Makes sure that a gradient fits a variable.

    Raises:
        DTypeMismatchError: It has neither the variable's dtype nor float32.
        ShapeMismatchError: It has not the expected shape.
    """
    if gradient.dtype not in (spec.dtype, FLOAT32):
        refuse_operand(spec, f"apply by {rule}", gradient, expected)
    if gradient.dtype == FLOAT32 and spec.dtype.itemsize == 8:
        raise DTypeMismatchError(
            f"variable {spec} is float64, the gradient is float32; convert it first", variable=spec.name
        )
    if gradient.shape != expected:
        _refuse_shape(spec, gradient, expected)


def _refuse_shape(spec: VariableSpec, gradient: Array, expected: tuple[int, ...]) -> None:
    as_expected = VariableSpec(spec.name, gradient.dtype, spec.shape, spec.slice)
    refuse_operand(as_expected, "apply as gradient", gradient, expected)


def check_value(spec: VariableSpec, value: Array) -> None:
    """Makes sure that a value is of the variable that a plan was made for; FailedPreconditionError if not."""
    if value.dtype != spec.dtype or value.shape != spec.shape or not value.flags.c_contiguous:
        raise FailedPreconditionError(f"variable {spec} has changed its layout; plan again", variable=spec.name)


def check_slots(
    spec: VariableSpec, rule: str, wanted: Sequence[SlotSpec], slots: Sequence[Array | VariableSpec]
) -> None:
    """Makes sure that slots, or what they are declared as, are those that a rule wants.

    Raises:
        FailedPreconditionError: They are not.
    """
    widest = compute_dtype(spec).itemsize
    if len(slots) != len(wanted) or not all(
        slot.shape == each.shape(spec.shape) and _holds(each, slot.dtype, widest)
        for each, slot in zip(wanted, slots, strict=True)
    ):
        raise FailedPreconditionError(
            f"the rule {rule} keeps {', '.join(each.name for each in wanted) or 'no slots'} beside variable {spec}, "
            f"not {', '.join(f'{dtype_label(each.dtype)}{list(each.shape)}' for each in slots) or 'nothing'}; "
            f"declare the optimizer again",
            variable=spec.name,
        )


def _holds(wanted: SlotSpec, dtype: np.dtype[Any], widest: int) -> bool:
    return dtype == _COUNT if wanted.is_count else dtype in TRAINABLE_DTYPES and dtype.itemsize <= widest
