"""Moving averages as functions of the ps: the average changes, and the variable that it follows is only read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Final

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, ShapeMismatchError, ShardscopeError
from ps_protocol.operations import Array, VariableSpec, Verdict
from ps_server.rules.functions import (
    FunctionPlan,
    FunctionSubject,
    PreparedFunction,
    VariableFunction,
    checked_for,
)
from ps_server.rules.optimizers.checks import compute_dtype
from ps_server.rules.optimizers.moving_average import apply_moving_average, debiased, share_of_new


def _prepared(subject: FunctionSubject) -> PreparedFunction:
    """The slots are the variable; or an average that began at zero, the count of its updates, and the variable.

    The numbers are the decay, and how many updates there were, or NaN if that does not matter.
    """
    spec, slots = subject.spec, subject.slots
    for each in slots if len(slots) == 1 else slots[::2]:
        if each.shape != spec.shape or each.dtype != spec.dtype:
            raise ShapeMismatchError(
                f"average {spec} cannot follow {each}, which has another shape or dtype", variable=spec.name
            )
    if len(slots) == 3 and (slots[1].shape or slots[1].dtype.kind != "i"):
        raise DTypeMismatchError(
            f"average {spec}: {slots[1]} cannot count its updates; it should be an integer scalar", variable=spec.name
        )
    compute_dtype(spec)
    return partial(_planned, spec, len(slots))


def _planned(spec: VariableSpec, num_slots: int, operands: Sequence[Array], numbers: Array) -> FunctionPlan:
    if num_slots not in (1, 3) or operands or numbers.size != 2:
        raise InvalidArgumentError(
            f"average {spec}: moving_average takes a decay and a number of updates, and computes with the variable "
            f"alone or with an average that began at zero, the count of its updates and the variable; it was given "
            f"{num_slots} variables, {len(operands)} operands and {numbers.size} numbers",
            variable=spec.name,
        )
    decay, num_updates = numbers.tolist()
    share = checked_for(spec, share_of_new, decay, None if math.isnan(num_updates) else num_updates)
    return _Moved(share)


class _Moved:
    """One move of an average."""

    __slots__ = ("_share", "num_read", "refusal", "verdict")

    def __init__(self, share: float):
        self._share = share
        self.num_read = 1
        self.verdict = Verdict.APPLIED
        self.refusal: ShardscopeError | None = None

    def apply(self, value: Array, slots: Sequence[Array], step: int) -> None:  # noqa: ARG002 - nothing counts steps
        if len(slots) == 1:
            apply_moving_average(value, slots[0], self._share)
            return
        biased, count, followed = slots
        apply_moving_average(biased, followed, self._share)
        count += 1
        debiased(biased, self._share, int(count), value)


AVERAGE_FUNCTIONS: Final[dict[str, VariableFunction]] = {"moving_average": _prepared}
