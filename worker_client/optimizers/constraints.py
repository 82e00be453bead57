"""Constraints of an optimizer's variables, as its caller writes them and as a variable allows them."""

from __future__ import annotations

from typing import TypeAlias

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import VariableSpec
from ps_protocol.optimizer_constraints import CONSTRAINTS, ConstraintSpec, check_constraint, constraint_spec

Constraint: TypeAlias = str | tuple[str] | tuple[str, float] | tuple[str, float, int]


def constraint_of(constraint: Constraint | None) -> ConstraintSpec | None:
    """Returns the constraint that an optimizer's caller has named, its numbers filled in.

    Raises:
        InvalidArgumentError: There is none of that name and those numbers.
    """
    match constraint:
        case None:
            return None
        case str(name):
            return constraint_spec(name)
        case (str(name), *numbers) if len(numbers) <= len(CONSTRAINTS.get(name, numbers)):
            settings = [each.name for each in CONSTRAINTS.get(name, ())]
            return constraint_spec(name, dict(zip(settings, numbers, strict=False)))
        case _:
            raise InvalidArgumentError(f'the constraint is {constraint!r}; give its name, or as ("max_norm", 2.0)')


def check_constraint_of(constraint: ConstraintSpec, spec: VariableSpec) -> None:
    """Makes sure that a constraint suits a variable, or a part of one.

    Raises:
        InvalidArgumentError: The variable has no such axis, or is cut along it, so that a part does not know norms.
    """
    try:
        check_constraint(constraint, len(spec.shape))
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"variable {spec}: {error.message}", variable=spec.name) from None
    settings = dict(zip([each.name for each in CONSTRAINTS[constraint.name]], constraint.numbers, strict=True))
    place = spec.slice
    if place is None or "axis" not in settings:
        return
    axis = int(settings["axis"])
    if spec.shape[axis] != place.full_shape[axis]:
        raise InvalidArgumentError(
            f"variable {place.full_name} is cut along axis {axis}, along which the constraint {constraint.name} takes "
            f"norms: no part knows those of the whole; cut it along another axis, or give the constraint another",
            variable=place.full_name,
        )
