"""Steps of optimizers as functions of the ps: settings as declared and as sent, and gradients that are not finite."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from ps_protocol.errors import InvalidArgumentError, ShapeMismatchError
from ps_protocol.operations import Array, VariableSpec, Verdict
from ps_protocol.optimizer_constraints import check_constraint
from ps_protocol.optimizer_rules import RULES, RuleSpec, SlotSpec
from ps_protocol.optimizer_schedules import ScheduleSpec, learning_rate
from ps_protocol.optimizer_spec import OnNonfinite
from ps_server.rules.functions import FunctionPlan, FunctionSubject, VariableFunction, checked_for
from ps_server.rules.optimizers.bound_rule import BoundRule
from ps_server.rules.optimizers.checks import Settings, check_slots, checked_settings
from ps_server.rules.optimizers.constraints import prepared_constraint
from ps_server.rules.optimizers.finiteness import first_nonfinite
from ps_server.rules.optimizers.plans import Plan, plan_dense
from ps_server.rules.optimizers.row_plans import plan_rows
from ps_server.rules.optimizers.stochastic_rounding import BFLOAT16

_APPLY: Final = OnNonfinite.APPLY  # looking a member up takes as long as a call


class _Kept(NamedTuple):
    """What the numbers of a call have said."""

    sent: bytes
    settings: Settings
    schedule: ScheduleSpec | None


class _OptimizerOfVariable:
    """Prepares the steps of an optimizer for one variable; called with operands and numbers."""

    def __init__(self, spec: RuleSpec, subject: FunctionSubject):
        self.subject: Final = subject
        self._spec: Final = spec
        declared = subject.optimizer
        mode = spec.tensorflow_mode if declared is None else declared.sparse.name.lower()
        self.rule: Final = BoundRule(spec.name, subject.spec, mode or spec.default_mode, _rounding_key(subject))
        # NaN is one object here, so that equal settings of many variables are found to be equal.
        self._declared: Final = (
            None if declared is None else [math.nan if math.isnan(each) else each for each in declared.numbers]
        )
        self._on_nonfinite: Final = OnNonfinite.APPLY if declared is None else declared.on_nonfinite
        self._schedule: Final = None if declared is None else declared.schedule
        self.constraint: Final = None if declared is None else declared.constraint
        if self.constraint is not None:
            checked_for(subject.spec, check_constraint, self.constraint, len(subject.spec.shape))
        self._kept: _Kept | None = None  # mostly the next call says the same
        self._fitting: tuple[SlotSpec, ...] | None = None  # what the slots were found to be

    def __call__(self, operands: Sequence[Array], numbers: Array) -> FunctionPlan:
        sent, kept = numbers.tobytes(), self._kept
        if kept is None or kept.sent != sent:
            kept = self._kept = self._said(sent, numbers.tolist())
        if len(operands) == 1:
            plan = plan_dense(self.rule, operands[0], kept.settings)
        else:
            plan = self._plan_rows(operands, kept.settings)
        first = None if self._on_nonfinite is _APPLY else first_nonfinite(operands[-1])
        if first is not None:
            if self._on_nonfinite is OnNonfinite.REFUSE:
                plan.refusal = _not_finite(self.subject.spec, operands[-1], first)
            else:
                plan.verdict = Verdict.SKIPPED
        elif kept.settings.slots != self._fitting:
            check_slots(self.subject.spec, self.rule.name, kept.settings.slots, self.subject.slots)
            self._fitting = kept.settings.slots
        if kept.schedule is not None or self.constraint is not None:
            return _Step(self, plan, kept.schedule)
        return plan

    def _plan_rows(self, operands: Sequence[Array], settings: Settings) -> Plan:
        spec = self.subject.spec
        if len(operands) != 2:
            raise InvalidArgumentError(
                f"variable {spec}: {self.rule.name} takes a gradient, or row indices and a gradient, not "
                f"{len(operands)} operands",
                variable=spec.name,
            )
        indices, gradient = operands
        if indices.ndim != 1:
            raise ShapeMismatchError(
                f"variable {spec}: the row indices of a gradient have the shape {list(indices.shape)}; they should "
                f"have one dimension",
                variable=spec.name,
            )
        return plan_rows(self.rule, indices, gradient, settings)

    def _said(self, sent: bytes, numbers: list[float]) -> _Kept:
        """Checks settings: they are as sent, and where those are NaN or missing, as declared."""
        spec, rule = self.subject.spec, self._spec
        if self._declared is not None and not numbers:
            numbers = [math.nan] * len(rule.settings)
        if len(numbers) != len(rule.settings):
            raise InvalidArgumentError(
                f"variable {spec}: {rule.name} has {len(rule.settings)} settings, but {len(numbers)} were sent",
                variable=spec.name,
            )
        declared = numbers if self._declared is None else self._declared
        merged = tuple([old if math.isnan(new) else new for new, old in zip(numbers, declared, strict=True)])
        settings = checked_for(spec, checked_settings, rule.name, merged, self.rule.mode)
        if settings.follow_step and self._declared is None:
            unknown = [each.name for each, number in zip(rule.settings, merged, strict=True) if math.isnan(number)]
            raise InvalidArgumentError(
                f"variable {spec}: the setting {unknown[0]} of the rule {rule.name} is nan, for what follows from the "
                f"count of steps, but nothing counts them; give its number",
                variable=spec.name,
            )
        return _Kept(sent, settings, self._schedule if math.isnan(numbers[0]) else None)


class _Step:
    """A step whose learning rate follows from its count, or after which the value is held to a constraint."""

    __slots__ = ("_of", "_plan", "_schedule", "num_read", "refusal", "verdict")

    def __init__(self, of: _OptimizerOfVariable, plan: Plan, schedule: ScheduleSpec | None):
        self._of, self._plan, self._schedule = of, plan, schedule
        self.verdict, self.refusal, self.num_read = plan.verdict, plan.refusal, plan.num_read

    def apply(self, value: Array, slots: Sequence[Array], step: int) -> None:
        plan, rule, constraint = self._plan, self._of.rule, self._of.constraint
        if self._schedule is not None:
            numbers = (checked_for(rule.spec, learning_rate, self._schedule, step - 1), *plan.settings.numbers[1:])
            plan.settings = checked_for(rule.spec, checked_settings, rule.name, numbers, rule.mode)
        constrain = None if constraint is None else prepared_constraint(constraint, value)
        plan.apply(value, slots, step)
        if constrain is not None:
            constrain()


def _rounding_key(subject: FunctionSubject) -> int | None:
    """Follows from the variable's name, so that a step that is replayed rounds alike; None if no slot is rounded."""
    if not any(slot.dtype == BFLOAT16 for slot in subject.slots):
        return None
    digest = hashlib.blake2b(subject.spec.name.encode("utf-8"), digest_size=8).digest()
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


OPTIMIZER_FUNCTIONS: Final[dict[str, VariableFunction]] = {
    name: partial(_OptimizerOfVariable, rule) for name, rule in RULES.items()
}
"""By the names of the rules."""
