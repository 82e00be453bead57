"""Steps of optimizers as functions of the ps: settings as declared and as sent, and gradients that are not finite."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from ps_protocol.errors import InvalidArgumentError, ShapeMismatchError, ShardscopeError
from ps_protocol.operations import Array, VariableSpec, Verdict
from ps_protocol.optimizer_constraints import ConstraintSpec, check_constraint
from ps_protocol.optimizer_rules import RULES, RuleSpec
from ps_protocol.optimizer_schedules import ScheduleSpec, learning_rate
from ps_protocol.optimizer_spec import OnNonfinite
from ps_server.rules.functions import FunctionCall, FunctionPlan, VariableFunction, checked_for
from ps_server.rules.optimizers.constraints import prepared_constraint
from ps_server.rules.optimizers.finiteness import first_nonfinite
from ps_server.rules.optimizers.plans import Plan, plan_dense, plan_rows
from ps_server.rules.optimizers.stochastic_rounding import BFLOAT16


def _function_of(rule: RuleSpec) -> VariableFunction:
    return lambda call: _planned(rule, call)


def _planned(rule: RuleSpec, call: FunctionCall) -> FunctionPlan:
    optimizer = call.optimizer
    numbers = _merged_numbers(rule, call)
    plan, gradient = _plan(rule, call, numbers)
    if optimizer is not None and optimizer.constraint is not None:
        checked_for(call.spec, check_constraint, optimizer.constraint, len(call.spec.shape))
    verdict, refusal = Verdict.APPLIED, None
    if optimizer is not None and optimizer.on_nonfinite is not OnNonfinite.APPLY:
        first = first_nonfinite(gradient)
        if first is not None and optimizer.on_nonfinite is OnNonfinite.REFUSE:
            refusal = _not_finite(call.spec, gradient, first)
        elif first is not None:
            verdict = Verdict.SKIPPED
    schedule = None if optimizer is None or not math.isnan(call.numbers[0]) else optimizer.schedule
    constraint = None if optimizer is None else optimizer.constraint
    return _Step(call.spec, plan, numbers, schedule, constraint, verdict, refusal, len(call.slots))


class _Step:
    """One step whose operands have been checked."""

    __slots__ = ("_constraint", "_numbers", "_plan", "_schedule", "_spec", "num_written", "refusal", "verdict")

    def __init__(
        self,
        spec: VariableSpec,
        plan: Plan,
        numbers: list[float],
        schedule: ScheduleSpec | None,
        constraint: ConstraintSpec | None,
        verdict: Verdict,
        refusal: ShardscopeError | None,
        num_written: int,
    ):
        self._spec, self._plan, self._numbers = spec, plan, numbers
        self._schedule, self._constraint = schedule, constraint
        self.verdict = verdict
        self.refusal = refusal
        self.num_written = num_written

    def apply(self, value: Array, slots: Sequence[Array], step: int) -> None:
        if step:
            numbers = self._numbers
            if self._schedule is not None:
                numbers = [checked_for(self._spec, learning_rate, self._schedule, step - 1), *numbers[1:]]
            self._plan.set_step(step, numbers)
        constrain = None if self._constraint is None else prepared_constraint(self._constraint, value)
        self._plan.apply(value, slots)
        if constrain is not None:
            constrain()


def _plan(rule: RuleSpec, call: FunctionCall, numbers: Sequence[float]) -> tuple[Plan, Array]:
    """Returns what carries the step out, and the gradient."""
    spec, key = call.spec, _rounding_key(call)
    declared = rule.tensorflow_mode if call.optimizer is None else call.optimizer.sparse.name.lower()
    mode = declared or rule.default_mode
    match call.operands:
        case [gradient]:
            return plan_dense(spec, rule.name, gradient, numbers, 1, mode=mode, rounding_key=key), gradient
        case [indices, gradient]:
            if indices.ndim != 1:
                raise ShapeMismatchError(
                    f"variable {spec}: the row indices of a gradient have the shape {list(indices.shape)}; they should "
                    f"have one dimension",
                    variable=spec.name,
                )
            return plan_rows(spec, rule.name, indices, gradient, numbers, 1, mode, rounding_key=key), gradient
        case operands:
            raise InvalidArgumentError(
                f"variable {spec}: {rule.name} takes a gradient, or row indices and a gradient, not {len(operands)} "
                f"operands",
                variable=spec.name,
            )


def _merged_numbers(rule: RuleSpec, call: FunctionCall) -> list[float]:
    """The settings as sent, and where those are NaN, as declared."""
    sent: list[float] = call.numbers.tolist()
    if len(sent) != len(rule.settings):
        raise InvalidArgumentError(
            f"variable {call.spec}: {rule.name} has {len(rule.settings)} settings, but {len(sent)} were sent",
            variable=call.spec.name,
        )
    declared: Sequence[float] = sent if call.optimizer is None else call.optimizer.numbers
    merged = [old if math.isnan(new) else new for new, old in zip(sent, declared, strict=True)]
    for setting, number in zip(rule.settings, merged, strict=True):
        if not setting.is_allowed(number) or (call.optimizer is None and math.isnan(number)):
            raise InvalidArgumentError(
                f"variable {call.spec}: the setting {setting.name} of {rule.name} is {number:g}; give "
                f"{setting.allowed}",
                variable=call.spec.name,
            )
    return merged


def _rounding_key(call: FunctionCall) -> int | None:
    """Follows from the variable's name, so that a step that is replayed rounds alike; None if no slot is rounded."""
    if not any(slot.dtype == BFLOAT16 for slot in call.slots):
        return None
    digest = hashlib.blake2b(call.spec.name.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _not_finite(spec: VariableSpec, gradient: Array, first: int) -> InvalidArgumentError:
    place = list(map(int, np.unravel_index(first, gradient.shape)))
    num_bad = gradient.size - int(np.count_nonzero(np.isfinite(gradient)))
    return InvalidArgumentError(
        f"variable {spec}: {num_bad} of the {gradient.size} elements of the gradient are not finite, the first is "
        f"{float(gradient.flat[first])} at {place}; the step was refused and nothing was changed. Lower the "
        f'learning rate, clip gradients, or declare the optimizer with on_nonfinite="skip"',
        variable=spec.name,
    )


OPTIMIZER_FUNCTIONS: Final[dict[str, VariableFunction]] = {name: _function_of(rule) for name, rule in RULES.items()}
"""By the names of the rules."""
