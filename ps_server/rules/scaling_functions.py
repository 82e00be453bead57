"""Multiplying a value by a number as a function of the ps, for what several workers multiply at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np

from ps_protocol.errors import InvalidArgumentError, ShardscopeError
from ps_protocol.operations import Array, VariableSpec, Verdict
from ps_server.rules.arithmetic import quiet
from ps_server.rules.functions import FunctionPlan, FunctionSubject, PreparedFunction, VariableFunction
from ps_server.rules.optimizers.checks import compute_dtype


def _prepared(subject: FunctionSubject) -> PreparedFunction:
    compute_dtype(subject.spec)
    return partial(_planned, subject.spec, len(subject.slots))


def _planned(spec: VariableSpec, num_slots: int, operands: Sequence[Array], numbers: Array) -> FunctionPlan:
    """The number is the factor; it is rounded to the dtype of the variable, which holds floats."""
    if num_slots or operands or numbers.size != 1:
        raise InvalidArgumentError(
            f"variable {spec}: multiply takes one number, and computes with the variable alone; it was given "
            f"{num_slots} variables, {len(operands)} operands and {numbers.size} numbers",
            variable=spec.name,
        )
    return _Multiplied(numbers.astype(spec.dtype).reshape(()))


class _Multiplied:
    __slots__ = ("_factor", "num_read", "refusal", "verdict")

    def __init__(self, factor: Array):
        self._factor = factor
        self.num_read = 0
        self.verdict = Verdict.APPLIED
        self.refusal: ShardscopeError | None = None

    def apply(self, value: Array, slots: Sequence[Array], step: int) -> None:  # noqa: ARG002 - only the value changes
        quiet.run(np.multiply, value, self._factor, value)


SCALING_FUNCTIONS: Final[dict[str, VariableFunction]] = {"multiply": _prepared}
