"""What an update needs of its operands, and what is said if they do not fit."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

import ml_dtypes
import numpy as np

from ps_protocol.errors import DTypeMismatchError, FailedPreconditionError, InvalidArgumentError
from ps_protocol.operations import Array, VariableSpec
from ps_protocol.optimizer_rules import RULES, SlotSpec, check_numbers
from ps_server.rules.operand_checks import dtype_label, refuse_operand

FLOATS: Final = tuple(np.dtype(each) for each in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64))
"""Dtypes of variables that rules can change."""
FLOAT32: Final = np.dtype(np.float32)


def compute_dtype(spec: VariableSpec) -> np.dtype[Any]:
    """Returns the dtype in which a variable's updates are computed.

    Raises:
        InvalidArgumentError: It does not hold floats.
    """
    if spec.dtype not in FLOATS:
        raise InvalidArgumentError(
            f"variable {spec} cannot be trained: an optimizer changes {', '.join(each.name for each in FLOATS)}",
            variable=spec.name,
        )
    return spec.dtype if spec.dtype.itemsize == 8 else FLOAT32


@functools.lru_cache(maxsize=1024)
def _checked(rule: str, numbers: tuple[float, ...]) -> None:
    """Checks settings that mostly are those of the step before."""
    check_numbers(rule, numbers)


@functools.lru_cache(maxsize=1024)
def _wanted_slots(
    rule: str, numbers: tuple[float, ...], mode: str | None, shape: tuple[int, ...]
) -> tuple[tuple[SlotSpec, tuple[int, ...]], ...]:
    return tuple((each, each.shape(shape)) for each in RULES[rule].slots(numbers, mode))


def check_step(spec: VariableSpec, rule: str, numbers: Sequence[float], step: int) -> None:
    """Makes sure that settings and the count of a step can be used.

    Raises:
        InvalidArgumentError: There is no such rule, a setting is not allowed, or the step is not counted from 1.
    """
    _checked(rule, tuple(numbers))
    if step < 1:
        raise InvalidArgumentError(f"step {step} of variable {spec}: steps are counted from 1", variable=spec.name)


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


def check_slots(
    spec: VariableSpec, rule: str, numbers: Sequence[float], mode: str | None, value: Array, slots: Sequence[Array]
) -> None:
    """Makes sure that value and slots are those that the plan was made for; nothing has been changed yet.

    Raises:
        FailedPreconditionError: They are not.
    """
    if value.dtype != spec.dtype or value.shape != spec.shape or not value.flags.c_contiguous:
        raise FailedPreconditionError(f"variable {spec} has changed its layout; plan again", variable=spec.name)
    wanted = _wanted_slots(rule, tuple(numbers), mode, spec.shape)
    widest = compute_dtype(spec).itemsize
    if len(slots) != len(wanted) or not all(
        _fits(*each, slot, widest) for each, slot in zip(wanted, slots, strict=True)
    ):
        raise FailedPreconditionError(
            f"the rule {rule} keeps {', '.join(each.name for each, _ in wanted) or 'no slots'} beside variable {spec}, "
            f"not {', '.join(f'{dtype_label(each.dtype)}{list(each.shape)}' for each in slots) or 'nothing'}; "
            f"declare the optimizer again",
            variable=spec.name,
        )


def _fits(wanted: SlotSpec, shape: tuple[int, ...], slot: Array, widest: int) -> bool:
    if slot.shape != shape or not slot.flags.c_contiguous:
        return False
    if wanted.is_count:
        return slot.dtype == np.dtype(np.int64)
    return slot.dtype in FLOATS and slot.dtype.itemsize <= widest
