"""Which variables a saver saves, and under which names: what ``Saver(var_list)`` takes, checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ps_protocol.operations import PartitionSlice
from worker_client.deferred.variable import DeferredVariable
from worker_client.graph.graph import Graph
from worker_client.graph.keys import GraphKeys
from worker_client.variables.partitioned import PartitionedVariable


class SavedVariable(NamedTuple):
    """A variable, or a part of one, as it stands in checkpoints.

    Attributes:
        key: The name there; that of the whole for a part.
        variable: The variable.
        place: Where it lies in what has the name; None if it is all of it.
    """

    key: str
    variable: DeferredVariable
    place: PartitionSlice | None = None

    @property
    def full_shape(self) -> tuple[int, ...]:
        """Shape of what has the name."""
        return self.variable.spec.shape if self.place is None else self.place.full_shape

    @property
    def shape_and_slice(self) -> str:
        """Where it lies, as TensorFlow writes it: "4 3 0,2:0,3"; "" for all."""
        info = None if self.place is None else self.variable._get_save_slice_info()
        return "" if info is None else info.spec


def all_saveable(graph: Graph) -> list[Any]:
    """Returns what a saver saves that is not told what to save."""
    return [*graph.get_collection(GraphKeys.GLOBAL_VARIABLES), *graph.get_collection(GraphKeys.SAVEABLE_OBJECTS)]


def saved_variables(var_list: Any) -> list[SavedVariable]:
    """Returns what a saver saves, in the order of the names, parts in their order.

    Args:
        var_list: Variables, partitioned ones and parts among them, or a mapping of names to those.

    Raises:
        TypeError: It holds something else.
        ValueError: Two variables have the same name, or one would be saved under two.
    """
    by_name = dict(var_list) if isinstance(var_list, Mapping) else _named(var_list)
    for name in by_name:
        if not isinstance(name, str):
            raise TypeError(f"variables are saved under names that are texts, not under {name!r}")
    found: list[SavedVariable] = []
    names: dict[DeferredVariable, str] = {}
    for name, given in sorted(by_name.items(), key=lambda item: item[0]):
        for each in _parts_of(name, given):
            if each.variable in names:
                raise ValueError(
                    f"The same saveable will be restored with two names: {each.variable.op.name} as "
                    f"{names[each.variable]!r} and as {name!r}"
                )
            names[each.variable] = name
            found.append(each)
    return found


def _named(var_list: Any) -> dict[str, Any]:
    """Returns variables by their own names; parts of one variable together by that of the whole."""
    if not isinstance(var_list, list | tuple | set):
        raise TypeError(f"Variables to save should be passed in a dict or a list. Got {var_list!r}")
    by_name: dict[str, Any] = {}
    for each in sorted(_flat(var_list), key=lambda variable: variable.name):
        if isinstance(each, DeferredVariable) and each.spec.slice is not None:
            together = by_name.setdefault(each.spec.slice.full_name, [])
            if not isinstance(together, list):
                raise ValueError(f"Mixing slices and non-slices with the same name: {each.spec.slice.full_name}")
            together.append(each)
            continue
        name = each.name if isinstance(each, PartitionedVariable) else each.op.name
        if name in by_name:
            raise ValueError(f"At least two variables have the same name: {name}")
        by_name[name] = each
    return by_name


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for each in values:
        if isinstance(each, list | tuple | set):
            yield from _flat(each)
        elif isinstance(each, DeferredVariable | PartitionedVariable):
            yield each
        else:
            raise TypeError(f"Variable to save is not a Variable: {each!r}")


def _parts_of(name: str, given: Any) -> list[SavedVariable]:
    if isinstance(given, DeferredVariable):
        return [SavedVariable(name, given)]  # a part as well: what is named alone is all of what has the name
    if not isinstance(given, list | tuple | PartitionedVariable):
        raise TypeError(f"variables are saved; what is to be saved as {name!r} is {given!r}")
    parts = list(given)
    places = [each.spec.slice if isinstance(each, DeferredVariable) else None for each in parts]
    for each, place in zip(parts, places, strict=True):
        if place is None:
            raise ValueError(f"Slices must all be slices: {each!r}, which is to be saved as {name!r}, is none")
        if places[0] is not None and place.full_name != places[0].full_name:
            raise ValueError(f"Slices must all be from the same tensor: {places[0].full_name} != {place.full_name}")
    ordered = sorted(zip(parts, places, strict=True), key=lambda pair: pair[1].offset if pair[1] else ())
    return [SavedVariable(name, each, place) for each, place in ordered]
