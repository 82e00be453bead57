"""What a variable has to be like after each step: constraints by name, as client and ps agree on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.optimizer_rules import Range, SettingSpec


@dataclass(frozen=True, slots=True)
class ConstraintSpec:
    """A constraint, as it travels.

    Attributes:
        name: A key of ``CONSTRAINTS``.
        numbers: In the order of its settings.
    """

    name: str
    numbers: tuple[float, ...] = ()


_AXIS = SettingSpec("axis", 0.0, Range())

CONSTRAINTS: Final[dict[str, tuple[SettingSpec, ...]]] = {
    "non_negative": (),
    "unit_norm": (_AXIS,),
    "max_norm": (SettingSpec("max_value", 2.0, Range(0.0)), _AXIS),
}
"""The settings of all constraints, as in Keras: ``NonNeg``, ``UnitNorm``, ``MaxNorm``."""


def constraint_spec(name: str, settings: Mapping[str, float] | None = None) -> ConstraintSpec:
    """Returns a constraint, defaults filled in.

    Raises:
        InvalidArgumentError: There is no such constraint or setting, or its number is not allowed.
    """
    given = settings or {}
    specs = _settings_of(name)
    unknown = set(given) - {each.name for each in specs}
    if unknown:
        known = ", ".join(each.name for each in specs) or "none"
        raise InvalidArgumentError(f"the constraint {name} has no setting {min(unknown)!r}; it has {known}")
    constraint = ConstraintSpec(name, tuple(float(given.get(each.name, each.default or 0.0)) for each in specs))
    check_constraint(constraint)
    return constraint


def check_constraint(constraint: ConstraintSpec, ndim: int | None = None) -> None:
    """Makes sure that a constraint can be applied.

    Args:
        constraint: The constraint.
        ndim: Dimensions of the variable, if they are known.

    Raises:
        InvalidArgumentError: There is no such constraint, or a number of it is not allowed.
    """
    specs = _settings_of(constraint.name)
    if len(constraint.numbers) != len(specs):
        raise InvalidArgumentError(
            f"the constraint {constraint.name} has {len(specs)} settings, not {len(constraint.numbers)}"
        )
    for spec, number in zip(specs, constraint.numbers, strict=True):
        if not spec.is_allowed(number) or (spec is _AXIS and not _is_axis(number, ndim)):
            allowed = spec.allowed if spec is not _AXIS else "a whole number that is a dimension of the variable"
            raise InvalidArgumentError(
                f"the setting {spec.name} of the constraint {constraint.name} is {number:g}; give {allowed}"
            )


def _is_axis(number: float, ndim: int | None) -> bool:
    return math.floor(number) == number and (ndim is None or -ndim <= number < ndim)


def _settings_of(name: str) -> tuple[SettingSpec, ...]:
    try:
        return CONSTRAINTS[name]
    except KeyError:
        raise InvalidArgumentError(f"there is no constraint {name!r}; choose one of {', '.join(CONSTRAINTS)}") from None
