"""The variables that an optimizer keeps beside a variable: its slots, and the count of its steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from ps_protocol.dtype_traits import is_ml_dtype
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import PartitionSlice, VariableSpec
from ps_protocol.optimizer_constraints import CONSTRAINTS, ConstraintSpec, check_constraint
from ps_protocol.optimizer_rules import RULES, SlotSpec
from ps_protocol.optimizer_spec import OptimizerSpec
from worker_client.placement.beside import Beside
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.parts import EagerVariable
from worker_client.variables.variable import Variable

STEP: Final = "step"
"""Name of the variable that counts the steps, beside those of the slots."""

_COUNT: Final = np.dtype(np.int64)
_FLOAT32: Final = np.dtype(np.float32)


@dataclass(frozen=True, slots=True)
class SlotVariables:
    """What one optimizer keeps beside one variable, or beside one part of a partitioned one.

    Attributes:
        slots: Specs of the slots, by the names that the rule gives them and in its order.
        step: Spec of the count of the steps, which says how the optimizer is declared.
        initial: The initial value of each slot, in their order.
        ps_task: Where all of them are; None for this worker's own store.
    """

    slots: dict[str, VariableSpec]
    step: VariableSpec
    initial: tuple[float, ...]
    ps_task: int | None

    @property
    def full_names(self) -> tuple[str, ...]:
        """Names of the slot variables, in the rule's order."""
        return tuple([spec.name for spec in self.slots.values()])

    def declarations(self) -> list[Beside]:
        """What declares them, the slots first."""
        made = [
            Beside(spec, InitializerSpec(ConstantKind(number)), self.ps_task)
            for spec, number in zip(self.slots.values(), self.initial, strict=True)
        ]
        return [*made, Beside(self.step, InitializerSpec(ConstantKind(0.0)), self.ps_task)]


def slot_variables(
    spec: VariableSpec,
    ps_task: int | None,
    optimizer: OptimizerSpec,
    *,
    name: str,
    slot_dtype: np.dtype[Any] | None,
) -> SlotVariables:
    """Returns what an optimizer keeps beside a variable.

    Args:
        spec: Of the variable, or of a part of one.
        ps_task: Where it is.
        optimizer: How the optimizer changes it.
        name: Name of the optimizer, which names of slots have in them.
        slot_dtype: Type of the slots; None for the variable's own, or float32 beside one of 16 bits.
    """
    rule = RULES[optimizer.function]
    settings = rule.named(optimizer.numbers)
    kept = rule.slots(settings, optimizer.sparse.name.lower())
    dtype = slot_dtype or (
        _FLOAT32 if spec.dtype.itemsize < _FLOAT32.itemsize or is_ml_dtype(spec.dtype) else spec.dtype
    )
    slots = {each.name: _slot_spec(spec, each, f"{name}/{each.name}", dtype) for each in kept}
    step = VariableSpec(f"{spec.name}/{name}/{STEP}", _COUNT, (), None, spec.name, optimizer)
    return SlotVariables(slots, step, tuple([each.initial_number(settings) for each in kept]), ps_task)


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


def _slot_spec(spec: VariableSpec, slot: SlotSpec, name: str, dtype: np.dtype[Any]) -> VariableSpec:
    return VariableSpec(
        f"{spec.name}/{name}",
        _COUNT if slot.is_count else dtype,
        slot.shape(spec.shape),
        _place_in_whole(spec, slot, name),
        spec.name,
    )


def _place_in_whole(spec: VariableSpec, slot: SlotSpec, name: str) -> PartitionSlice | None:
    """Where the slot of a part lies in the slot of the whole; None if the whole has none that it would be a part of."""
    part = spec.slice
    if part is None or slot.per == "scalar":
        return None
    whole = replace(part, full_name=f"{part.full_name}/{name}")
    if slot.per == "element":
        return whole
    if spec.shape[1:] != part.full_shape[1:]:
        return None  # each part has numbers of its own for the same rows
    return replace(whole, full_shape=part.full_shape[:1], offset=part.offset[:1])


def whole_slot(variable: EagerVariable, parts: list[Variable]) -> Any:
    """Returns the slot of a whole variable, given those of its parts; a list of them if they make up no whole."""
    place = parts[0].spec.slice
    if not isinstance(variable, PartitionedVariable):
        return parts[0]
    if place is None:
        return parts
    partitions = variable.partitions[: len(place.full_shape)]
    return PartitionedVariable(place.full_name, place.full_shape, parts[0].dtype, parts, partitions)
