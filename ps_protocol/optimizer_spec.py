"""What is fixed about an optimizer when it is first declared for a variable."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Final

from ps_protocol.optimizer_constraints import ConstraintSpec
from ps_protocol.optimizer_rules import RULES
from ps_protocol.optimizer_schedules import ScheduleSpec

MOVING_AVERAGE: Final = "moving_average"
"""The function that moves an average. Its spec has that and the decay for an optimizer, so that workers agree on it."""


class OnNonfinite(enum.IntEnum):
    """What becomes of a gradient that holds an infinity or a NaN; numbers of ``OptimizerSpec.OnNonfinite``."""

    REFUSE = 0
    SKIP = 1
    APPLY = 2


class SparseMode(enum.IntEnum):
    """What a step with rows does to the rows that are not in it; numbers of ``OptimizerSpec.SparseMode``.

    ``TF1``: what a dense step with a gradient of zero does to them. ``LAZY``: nothing. ``CATCH_UP``: nothing yet; the
    steps that a row has missed are made up for when it is next in one.
    """

    TF1 = 0
    LAZY = 1
    CATCH_UP = 2


@dataclass(frozen=True, slots=True)
class OptimizerSpec:
    """How steps of an optimizer change a variable.

    It belongs to the spec of the variable that counts the steps, so that it is declared, agreed upon, journalled and
    replicated like any spec.

    Attributes:
        function: Name of the rule, in ``optimizer_rules.RULES``; or ``MOVING_AVERAGE``.
        numbers: Its settings, in the order of the rule; NaN for one that follows from the number of the step.
        sparse: What steps with rows do to the others.
        on_nonfinite: What becomes of a gradient that is not finite.
        schedule: Gives the learning rate of each step, in place of the setting; None for none.
        constraint: Applied to the value after each step; None for none.
    """

    function: str
    numbers: tuple[float, ...]
    sparse: SparseMode = SparseMode.TF1
    on_nonfinite: OnNonfinite = OnNonfinite.REFUSE
    schedule: ScheduleSpec | None = None
    constraint: ConstraintSpec | None = None


def describe_optimizer(optimizer: OptimizerSpec) -> str:
    """An optimizer for messages, as "adam(learning_rate=0.001, beta1=0.9, sparse='lazy')"; equal for equal ones."""
    if optimizer.function == MOVING_AVERAGE:
        return f"a moving average with the decay {', '.join(map(repr, optimizer.numbers))}"
    words = [f"{name}={value}" for name, value in settings_in_words(optimizer).items()]
    return f"{optimizer.function}({', '.join(words)})"


def settings_in_words(optimizer: OptimizerSpec) -> dict[str, str]:
    """What is fixed about an optimizer, by the names that it has in constructors; equal for equal ones."""
    rule = RULES.get(optimizer.function)
    names = [each.name for each in rule.settings] if rule is not None else []
    if len(names) != len(optimizer.numbers):
        names = [f"setting_{index}" for index in range(len(optimizer.numbers))]
    settings = zip(names, optimizer.numbers, strict=True)
    words = {name: repr(number) for name, number in settings if not math.isnan(number)}
    if optimizer.schedule is not None:
        words["learning_rate"] = repr(optimizer.schedule)
    words["sparse"] = repr(optimizer.sparse.name.lower())
    words["on_nonfinite"] = repr(optimizer.on_nonfinite.name.lower())
    if optimizer.constraint is not None:
        words["constraint"] = f"{optimizer.constraint.name}({', '.join(map(repr, optimizer.constraint.numbers))})"
    return words
