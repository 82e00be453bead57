"""Which ps task reads what in a restore: pure decisions about the variables that were saved and those that are there.

Variables are matched as wholes, by name, dtype and shape, so that how they are partitioned may differ. A slot belongs
to the variable beside which it is kept, and goes where that goes: the slots of new parts are cut out of the slots of
the parts that were saved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ps_protocol.checkpoints.boxes import overlap
from ps_protocol.checkpoints.manifest import CheckpointManifest
from ps_protocol.checkpoints.service import Source, Target
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import PartitionSlice, VariableSpec
from ps_protocol.service_types import Placement
from ps_protocol.shared_objects import OBJECTS_PS_TASK
from worker_client.checkpoints.counts import slot_suffix, whole_name
from worker_client.checkpoints.name_patterns import selected
from worker_client.checkpoints.report import Outcome, RestoredVariable, table

ChoosePs: TypeAlias = Callable[[VariableSpec], int]
"""Chooses the ps task of a variable that the cluster does not have yet."""

_MOST_NAMED = 20
_NO_SOURCE = Source(0, 0)
_NO_SLOTS = "a slot of what was saved before it was trained"


@dataclass(frozen=True, slots=True)
class Held:
    """A variable, or a part of one, that a ps task has, or that the directory has placed there.

    Attributes:
        spec: What is fixed about it.
        ps_task: Where it is.
        is_there: Whether the task has it; one that was started again without its state has not.
        is_placed: Whether the directory has it; ps task 0, started again without its state, has an empty one.
    """

    spec: VariableSpec
    ps_task: int
    is_there: bool = True
    is_placed: bool = True


@dataclass(frozen=True, slots=True)
class _Part:
    """A variable, or a part of one: of the checkpoint (with its source), or of the cluster (with its ps task)."""

    spec: VariableSpec
    version: int = 0
    initialized: bool = True
    declared: VariableSpec | None = None
    source: Source = _NO_SOURCE
    ps_task: int = 0
    is_there: bool = True
    is_placed: bool = True


@dataclass(slots=True)
class _Whole:
    """A whole variable, or a slot of one."""

    name: str
    parts: list[_Part] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        spec = self.parts[0].spec
        return spec.shape if spec.slice is None else spec.slice.full_shape

    @property
    def is_initialized(self) -> bool:
        return not [part for part in self.parts if not part.initialized]

    @property
    def is_there(self) -> bool:
        return bool([part for part in self.parts if part.is_there])

    def __str__(self) -> str:
        spec = self.parts[0].spec
        return f"a {spec.object_kind}" if spec.object_kind else f"{spec.dtype.name}{list(self.shape)}"


@dataclass(slots=True)
class _Variables:
    """Variables by name, and slots by the name of their variable and what follows it in theirs."""

    plain: dict[str, _Whole] = field(default_factory=dict)
    slots: dict[str, dict[str, _Whole]] = field(default_factory=dict)

    @classmethod
    def of(cls, parts: Iterable[_Part]) -> _Variables:
        parts = sorted(parts, key=lambda each: (_offset(each.spec), each.spec.name))
        wholes = {each.spec.name: whole_name(each.spec) for each in parts}
        found = cls()
        for part in parts:
            spec, name = part.spec, whole_name(part.spec)
            owner = wholes.get(spec.slot_of, spec.slot_of)
            suffix = slot_suffix(spec, owner)
            if spec.slot_of and owner in wholes.values() and suffix:
                slots = found.slots.setdefault(owner, {})
                slots.setdefault(suffix, _Whole(f"{owner}/{suffix}")).parts.append(part)
            else:
                found.plain.setdefault(name, _Whole(name)).parts.append(part)
        return found


@dataclass(slots=True)
class RestorePlan:
    """What a restore does.

    Attributes:
        targets: What each ps task is to have, by its index.
        placements: Of variables that the directory does not have yet.
        rows: What becomes of each variable.
    """

    targets: list[list[Target]]
    placements: list[Placement] = field(default_factory=list)
    rows: list[RestoredVariable] = field(default_factory=list)


def plan_restore(
    manifest: CheckpointManifest,
    held: Sequence[Held],
    num_ps: int,
    choose_ps: ChoosePs,
    *,
    names: Mapping[str, str] | None = None,
    partial: bool = False,
) -> RestorePlan:
    """Plans a restore.

    Args:
        manifest: Of the checkpoint.
        held: What the ps tasks have.
        num_ps: How many there are.
        choose_ps: Places variables that they do not have yet.
        names: For names in the cluster, those in the checkpoint; "*" at most once in each stands for the same. None:
            each has its own name, and all are restored.
        partial: Whether variables may stay as they are, and saved ones be left out.

    Raises:
        InvalidArgumentError: Variables differ, or one of the cluster has no value in the checkpoint, although the
            restore is not partial; or a pattern fits nothing.
    """
    planner = _Planner(manifest, held, num_ps, choose_ps, partial=partial, is_selection=names is not None)
    planner.plan(names)
    rows = sorted(planner.plan_made.rows, key=lambda each: (list(Outcome).index(each.outcome), each.name))
    planner.plan_made.rows = rows
    _check(rows, may_be_fresh=partial or names is not None, may_differ=partial, where=manifest.name)
    return planner.plan_made


class _Planner:
    def __init__(
        self,
        manifest: CheckpointManifest,
        held: Sequence[Held],
        num_ps: int,
        choose_ps: ChoosePs,
        *,
        partial: bool,
        is_selection: bool,
    ):
        self._saved = _Variables.of(
            [
                _Part(each.spec, each.version, each.initialized, each.declared, Source(number, index))
                for number, part in enumerate(manifest.parts)
                for index, each in enumerate(part.variables)
            ]
        )
        self._there = _Variables.of(
            [_Part(each.spec, ps_task=each.ps_task, is_there=each.is_there, is_placed=each.is_placed) for each in held]
        )
        self._names_there = {each.spec.name for each in held}
        self._names_made: set[str] = set()
        self._choose_ps = choose_ps
        self._partial = partial
        self._is_selection = is_selection
        self.plan_made = RestorePlan([[] for _ in range(num_ps)])

    def plan(self, names: Mapping[str, str] | None) -> None:
        wanted = {name: name for name in self._saved.plain} if names is None else selected(names, self._saved.plain)
        for name, saved_name in wanted.items():
            self._restore(name, self._saved.plain[saved_name])
        used = set(wanted.values())
        for name in self._saved.plain:
            if name not in used:
                self._row(name, Outcome.IGNORED)
        for name, whole in self._there.plain.items():
            if name not in wanted:
                self._leave(whole)
                for slot in self._there.slots.get(name, {}).values():
                    self._leave(slot, is_slot=True)

    def _restore(self, name: str, saved: _Whole) -> None:
        """Restores one whole variable and its slots."""
        there = self._there.plain.get(name)
        if there is None and self._partial:
            self._row(saved.name, Outcome.IGNORED, "the cluster has no such variable")
            return
        if there is not None and not _agree(there, saved):
            self._row(name, Outcome.DIFFERING, f"{there} in the cluster, {saved} in the checkpoint")
            return
        missing = math.prod(saved.shape) - sum([math.prod(part.spec.shape) for part in saved.parts])
        if missing:
            self._row(name, Outcome.DIFFERING, f"{missing} elements of {saved} are not in the checkpoint")
            return
        if there is not None and not saved.is_initialized:
            self._row(name, Outcome.FRESH, "it had no value when it was saved")
            return
        known = [] if there is None else there.parts
        parts = [*known, *self._new_parts(name, saved, known)]
        lacking = math.prod(saved.shape) - sum([math.prod(part.spec.shape) for part in parts])
        if lacking:
            found = ", ".join([part.spec.name for part in known])
            self._row(name, Outcome.DIFFERING, f"of {there} the cluster has only {found}, in parts of another size")
            return
        for number, part in enumerate(parts):
            target = self._target(part.spec, saved, saved.parts)
            self._add(target, part.ps_task, is_known=number < len(known), is_new=not part.is_placed)
        self._row(name, Outcome.RESTORED, "" if name == saved.name else f"from {saved.name}")
        slots_there = self._there.slots.get(name, {})
        slots_saved = self._saved.slots.get(saved.name, {})
        for suffix, slot in slots_saved.items():
            self._restore_slot(f"{name}/{suffix}", suffix, slot, saved, parts, slots_there.get(suffix))
        for suffix, slot in slots_there.items():
            if suffix not in slots_saved:
                self._leave(slot, _NO_SLOTS if not slots_saved else "the checkpoint has no such slot", is_slot=True)

    def _new_parts(self, name: str, saved: _Whole, known: Sequence[_Part]) -> list[_Part]:
        """The saved parts of which the cluster has nothing: all, or those of tasks that have lost their state."""
        parts = []
        for part in saved.parts:
            spec = _renamed(part.spec, saved.name, name)
            is_known = bool(known) and not math.prod(spec.shape)
            if not is_known and not [each for each in known if overlap(each.spec, spec) is not None]:
                ps_task = OBJECTS_PS_TASK if spec.object_kind else self._choose_ps(spec)
                parts.append(replace(part, spec=spec, ps_task=ps_task, is_placed=False))
        return parts

    def _restore_slot(
        self, name: str, suffix: str, slot: _Whole, saved: _Whole, parts: Sequence[_Part], there: _Whole | None
    ) -> None:
        """Restores one slot, beside each part of its variable."""
        if not slot.is_initialized:
            self._slot_row(name, Outcome.FRESH if there else Outcome.IGNORED, "it had no value when it was saved")
            return
        by_name = {} if there is None else {part.spec.name: part for part in there.parts}
        made: list[tuple[Target, int, bool, bool]] = []
        for part in parts:
            spec = _slot_spec(part.spec, name, suffix, slot, saved)
            if spec is None:
                self._slot_row(
                    name, Outcome.DIFFERING, f"{slot} cannot be divided as the parts of {saved.name} are now"
                )
                return
            kept = by_name.get(spec.name)
            if kept is not None and (kept.spec.dtype != spec.dtype or kept.spec.shape != spec.shape):
                self._slot_row(name, Outcome.DIFFERING, f"{there} in the cluster, {slot} in the checkpoint")
                return
            is_scalar = spec.slice is None and not spec.shape
            sources = _alike(part.spec, slot, saved) if is_scalar else _covering(slot.parts, spec)
            if not sources:  # a part that had not been trained yet
                if kept is not None:
                    self._slot_row(spec.name, Outcome.FRESH, "it is not in the checkpoint")
                continue
            is_new = kept is None or not kept.is_placed
            made.append((self._target(spec, slot, sources), part.ps_task, kept is not None, is_new))
        for target, ps_task, is_known, is_new in made:
            self._add(target, ps_task, is_known=is_known, is_new=is_new)
        self._slot_row(name, Outcome.RESTORED, "" if name == slot.name else f"from {slot.name}")

    def _target(self, spec: VariableSpec, saved: _Whole, parts: Sequence[_Part]) -> Target:
        """What a variable of the cluster gets from some saved parts."""
        if len(parts) == 1 and parts[0].spec.slice is None and spec.slice is None:
            part = parts[0]  # its layout may be another one than was declared
            layout = replace(spec, dtype=part.spec.dtype, shape=part.spec.shape)
            declared = None
            if part.declared is not None:
                declared = replace(spec, dtype=part.declared.dtype, shape=part.declared.shape)
            return Target(layout, part.version, (part.source,) if part.initialized else (), declared)
        version = max([part.version for part in parts])
        if not saved.is_initialized:
            return Target(spec, version, ())
        sources = [part.source for part in parts if overlap(spec, part.spec) is not None]
        return Target(spec, version, tuple(sources or [parts[0].source]))

    def _add(self, target: Target, ps_task: int, *, is_known: bool, is_new: bool) -> None:
        name = target.spec.name
        is_twice = name in self._names_made
        if is_twice or (not is_known and name in self._names_there):
            why = "so is another one" if is_twice else "the cluster has a slot or a part of another one of that name"
            raise InvalidArgumentError(
                f"a variable of the checkpoint is to be restored as {name}, and {why}; nothing was changed. Say in "
                f"names= what it is to be called, or which others are wanted",
                variable=name,
            )
        self._names_made.add(name)
        self.plan_made.targets[ps_task].append(target)
        if is_new:
            self.plan_made.placements.append(Placement(target.declared or target.spec, ps_task))

    def _leave(self, whole: _Whole, why: str = "", *, is_slot: bool = False) -> None:
        if whole.is_there and not whole.parts[0].spec.object_kind:  # what a barrier was before nobody misses
            detail = f"{whole}{f', {why}' if why else ''}"
            self.plan_made.rows.append(RestoredVariable(whole.name, Outcome.FRESH, detail, is_slot))

    def _row(self, name: str, outcome: Outcome, detail: str = "") -> None:
        self.plan_made.rows.append(RestoredVariable(name, outcome, detail))

    def _slot_row(self, name: str, outcome: Outcome, detail: str = "") -> None:
        self.plan_made.rows.append(RestoredVariable(name, outcome, detail, is_slot=True))


def _check(rows: list[RestoredVariable], *, may_be_fresh: bool, may_differ: bool, where: str) -> None:
    wrong = [
        each
        for each in rows
        if (each.outcome is Outcome.FRESH and not may_be_fresh)
        or (each.outcome is Outcome.DIFFERING and not may_differ)
    ]
    if wrong:
        are_slots = not [each for each in wrong if not each.detail.endswith(_NO_SLOTS)]
        remedy = (
            "Restore it before the first step of the optimizer, which then makes new slots; or give partial=True to go "
            "on with these as they are"
            if are_slots
            else "Restore the checkpoint of this model; or give partial=True to leave these as they are, or "
            "names={...} to say which variables to restore from which"
        )
        more = f"\nand {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        raise InvalidArgumentError(
            f"the checkpoint {where} does not fit the variables of the cluster, and nothing was changed:\n"
            f"{table(wrong[:_MOST_NAMED])}{more}\n{remedy}",
            variable=wrong[0].name,
        )


def _agree(there: _Whole, saved: _Whole) -> bool:
    spec, of_saved = there.parts[0].spec, saved.parts[0]
    is_text = spec.dtype.kind == of_saved.spec.dtype.kind == "S"
    if (spec.dtype != of_saved.spec.dtype and not is_text) or spec.object_kind != of_saved.spec.object_kind:
        return False
    declared = of_saved.declared
    return there.shape == saved.shape or (declared is not None and there.shape == declared.shape)


def _slot_spec(part: VariableSpec, name: str, suffix: str, slot: _Whole, saved: _Whole) -> VariableSpec | None:
    """The spec of a slot beside one part of its variable, cut out of the saved slot; None if that is not possible."""
    first = slot.parts[0].spec
    own_name = f"{part.name}/{suffix}"
    whole_shape = saved.shape
    if not first.shape and first.slice is None:
        return replace(first, name=own_name, slot_of=part.name)
    if slot.shape == whole_shape:
        shape, place = part.shape, part.slice
    elif slot.shape == whole_shape[:1] and part.shape[1:] == whole_shape[1:]:
        shape, place = part.shape[:1], part.slice
        if place is not None:
            place = replace(place, full_shape=place.full_shape[:1], offset=place.offset[:1])
    elif len(slot.parts) == 1 and part.slice is None:
        shape, place = first.shape, None
    else:
        return None
    if first.slice is None and len(slot.parts) > 1:
        return None  # each saved part had one of its own, and they make up no whole
    own = None if place is None else PartitionSlice(name, place.full_shape, place.offset)
    return VariableSpec(own_name, first.dtype, shape, own, part.name, first.optimizer)


def _covering(parts: Sequence[_Part], spec: VariableSpec) -> Sequence[_Part]:
    """The parts of a slot, of which none overlap, if they have all elements of a variable; else none."""
    common = [overlap(spec, part.spec) for part in parts]
    number = sum([math.prod(each[1]) for each in common if each is not None])
    return parts if number == math.prod(spec.shape) else ()


def _alike(part: VariableSpec, slot: _Whole, saved: _Whole) -> Sequence[_Part]:
    """Of scalars beside the saved parts, the one beside the saved part that lies where this part does, or the first.

    Empty if there is such a part, and it has no such scalar.
    """
    beside = {each.spec.name for each in saved.parts if _offset(each.spec) == _offset(part)}
    fitting = [each for each in slot.parts if each.spec.slot_of in beside]
    return fitting[:1] if beside else slot.parts[:1]


def _renamed(spec: VariableSpec, before: str, now: str) -> VariableSpec:
    place = spec.slice if spec.slice is None else replace(spec.slice, full_name=now)
    return replace(spec, name=now + spec.name.removeprefix(before), slice=place)


def _offset(spec: VariableSpec) -> tuple[int, ...]:
    return () if spec.slice is None else spec.slice.offset
