"""How the variables of a checkpoint are counted: one definition for all that lists, checks, saves or restores one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ps_protocol.operations import VariableSpec


@dataclass(frozen=True, slots=True)
class Counts:
    """What a checkpoint has, each as a whole: a partitioned variable is one, and so is a slot of it.

    Attributes:
        variables: Without slots.
        slots: What optimizers keep beside variables, counts of steps among them.
    """

    variables: int
    slots: int

    def __str__(self) -> str:
        variables = f"{self.variables} variable{'' if self.variables == 1 else 's'}"
        return f"{variables}, {self.slots} slot{'' if self.slots == 1 else 's'}" if self.slots else variables


def counts_of(specs: Iterable[VariableSpec]) -> Counts:
    """Counts variables, of which some may be parts or slots."""
    specs = list(specs)
    wholes = {each.name: whole_name(each) for each in specs}
    owners = {*wholes.values()}
    found: set[tuple[str, str]] = set()
    for spec in specs:
        owner = wholes.get(spec.slot_of, spec.slot_of)
        suffix = slot_suffix(spec, owner) if spec.slot_of and owner in owners else ""
        found.add((owner, suffix) if suffix else (whole_name(spec), ""))
    num_slots = len([suffix for _, suffix in found if suffix])
    return Counts(len(found) - num_slots, num_slots)


def whole_name(spec: VariableSpec) -> str:
    """The name of a variable; of a part that of the whole."""
    return spec.name if spec.slice is None else spec.slice.full_name


def slot_suffix(spec: VariableSpec, owner: str) -> str:
    """What follows the name of its variable in the name of a slot; empty if it does not follow that."""
    for name, of in ((whole_name(spec), owner), (spec.name, spec.slot_of)):
        if name.startswith(f"{of}/") and (spec.slice is not None or of == spec.slot_of):
            return name.removeprefix(f"{of}/")
    return ""
