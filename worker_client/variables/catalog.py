"""What variables a cluster has, and any of them by its name alone.

The ps tasks say what they hold. A variable that is found here is no part of the connection's table of names: nothing is
declared, and ``get_variable`` of the same name goes its own way.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from ps_protocol.operations import VariableSpec
from ps_protocol.service_types import VariableInfo
from ps_protocol.task_id import TaskId
from worker_client.connection.fanout import Fanout
from worker_client.variables.found import FoundVariables


@dataclass(frozen=True, slots=True)
class VariablePart:
    """One part of a partitioned variable.

    Attributes:
        name: Its full name, as "table/part_0".
        task: The ps task that holds it, as "ps:1".
        offset: Where in the whole it begins.
        shape: Of the part.
    """

    name: str
    task: str
    offset: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class VariableEntry:
    """A variable of the cluster, a partitioned one as a whole.

    Attributes:
        name: Its full name, without ":0".
        shape: Of the whole.
        dtype: Of its elements.
        task: The ps task that holds it, as "ps:1"; of a partitioned one those of its parts, as "ps:0,ps:1".
        parts: Of a partitioned one the parts, in the order of their offsets; empty for one that is not.
        initialized: Whether it has a value, or all its parts have.
        size_bytes: Bytes that its value takes, or those of its parts.
        slot_of: Of a slot that an optimizer keeps beside a variable, that variable's full name; else empty.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    task: str
    parts: tuple[VariablePart, ...]
    initialized: bool
    size_bytes: int
    slot_of: str = ""


class _Held(NamedTuple):
    """What a ps task holds."""

    info: VariableInfo
    ps_task: int

    @property
    def whole_name(self) -> str:
        part = self.info.spec.slice
        return self.info.spec.name if part is None else part.full_name

    @property
    def offset(self) -> tuple[int, ...]:
        part = self.info.spec.slice
        return () if part is None else part.offset

    @property
    def task(self) -> str:
        return str(TaskId("ps", self.ps_task))


class Catalog:
    """The variables of a cluster. Thread-safe.

    Args:
        fanout: The way to the ps tasks.
        num_ps: How many there are.
    """

    def __init__(self, fanout: Fanout, num_ps: int):
        self._fanout = fanout
        self._num_ps = num_ps
        self._found = FoundVariables(fanout)
        self._known: dict[str, Any] = {}  # set and read as a whole

    def entries(self) -> list[VariableEntry]:
        """All variables by name, as the ps tasks tell now.

        Raises:
            ShardscopeError: A ps task does not answer.
        """
        held = sorted(self._held(), key=lambda each: (each.whole_name, each.offset))
        wholes = {each.info.spec.name: each.whole_name for each in held}
        return [_entry(list(parts), wholes) for _, parts in groupby(held, key=lambda each: each.whole_name)]

    def variable(self, name: str) -> Any:
        """Finds a variable of the cluster, or a part of one.

        Args:
            name: Its full name, with ":0" or without. The name of a partitioned variable gives the whole.

        Raises:
            InvalidArgumentError: The name is no text.
            NotFoundError: There is none of that name.
            FailedPreconditionError: Parts of it are missing.
            ShardscopeError: A ps task does not answer.
        """
        if not isinstance(name, str):
            raise InvalidArgumentError(f"a variable is found by its full name, as 'scope/name', not by {name!r}")
        name = name.removesuffix(":0")
        held = self._held()
        for each in held:
            if each.info.spec.name == name:
                return self._found.variable(each.info.spec, each.ps_task)
        parts = sorted((each for each in held if each.whole_name == name), key=lambda each: each.offset)
        if not parts:
            raise NotFoundError(_not_found(name, {each.whole_name for each in held}), variable=name)
        _check_complete(name, parts)
        return self._found.whole(
            name,
            _whole_shape(parts[0].info.spec),
            [self._found.variable(each.info.spec, each.ps_task) for each in parts],
            [len(set(offsets)) for offsets in zip(*(each.offset for each in parts), strict=True)],
        )

    def known(self, name: str) -> Any:
        """As ``variable``, but asks for each name once: for names that a training step gives."""
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = self.variable(name)
        return found

    def _held(self) -> list[_Held]:
        held: list[_Held] = []
        for ps_task in range(self._num_ps):
            variables = self._fanout.handle(ps_task).call(
                lambda service, timeout_s: service.list_variables(timeout_s=timeout_s), what="to list its variables"
            )
            held += [_Held(each, ps_task) for each in variables]
        return held


def _whole_shape(spec: VariableSpec) -> tuple[int, ...]:
    return spec.shape if spec.slice is None else spec.slice.full_shape


def _entry(held: Sequence[_Held], wholes: Mapping[str, str]) -> VariableEntry:
    """Puts the parts of one variable together, given the whole that each part belongs to."""
    first = held[0].info.spec
    parts = [
        VariablePart(each.info.spec.name, each.task, each.offset, each.info.spec.shape)
        for each in held
        if each.info.spec.slice is not None
    ]
    return VariableEntry(
        name=held[0].whole_name,
        shape=_whole_shape(first),
        dtype=first.dtype,
        task=",".join(str(TaskId("ps", index)) for index in sorted({each.ps_task for each in held})),
        parts=tuple(parts),
        initialized=all(each.info.initialized for each in held),
        size_bytes=sum(each.info.size_bytes for each in held),
        slot_of=wholes.get(first.slot_of, first.slot_of),
    )


def _check_complete(name: str, parts: Sequence[_Held]) -> None:
    whole = _whole_shape(parts[0].info.spec)
    there = sum(int(np.prod(each.info.spec.shape, dtype=np.int64)) for each in parts)
    if there != int(np.prod(whole, dtype=np.int64)):
        names = ", ".join(each.info.spec.name for each in parts)
        raise FailedPreconditionError(
            f"variable {name} {list(whole)} is partitioned, but of its parts there are only {names}; wait until a "
            f"worker has declared the others, or take the parts one by one",
            variable=name,
        )


def _not_found(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=3) or _related(name, known)
    if close:
        hint = f"did you mean {' or '.join(close)}?"
    elif known:
        hint = f"it has {len(known)} {'other' if len(known) == 1 else 'others'}, which `shardscope ls` lists"
    else:
        hint = "it has no variables yet"
    return f"there is no variable {name or repr(name)} in the cluster; {hint}"


def _related(name: str, known: set[str]) -> list[str]:
    """A few names of which this one is the end or the scope, the shortest first."""
    related = [each for each in known if name and (each.endswith(f"/{name}") or each.startswith(f"{name}/"))]
    return sorted(related, key=lambda each: (len(each), each))[:3]
