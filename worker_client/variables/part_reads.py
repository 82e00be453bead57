"""Reads of whole values that may be cut into parts, each straight into its place: one exchange for each ps task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, SupportsIndex, TypeAlias

import numpy as np

from ps_protocol.operations import Array, Read, Result, VariableSpec, WireDType
from ps_protocol.out_arrays import check_out
from worker_client.connection.fanout import Routed
from worker_client.values.out_arrays import check_no_view, direct_target, read_only, received
from worker_client.values.versions import Version, VersionedValue, unless_version
from worker_client.values.wire_names import WireDTypeName
from worker_client.variables.base import OperationRunner, VariableBase

Slices: TypeAlias = tuple[slice, ...]
"""Where a part lies in the whole: a slice for each dimension up to the one that is cut."""


class PartRead(NamedTuple):
    """One variable on a ps task, and where its value belongs.

    Attributes:
        part: The variable.
        place: The array, or the slice of one, to fill; None for a new array.
        wire: The form in which it travels.
        view: Whether the value may be memory that is not this process's own.
    """

    part: VariableBase
    place: Array | None
    wire: WireDType
    view: bool = False

    def routed(self, known: int | None = None) -> Routed:
        """Returns the read; with ``known``, it is answered with a value only if the variable has another version."""
        spec = self.part.spec
        read = Read(spec.name, known, self.wire, direct_target(self.place), view=self.view)
        return Routed(self.part.ps_task, read, spec.size_bytes)

    def beside(self) -> PartRead:
        """Returns the same read with an array of its own to fill."""
        spec = self.part.spec
        return self._replace(place=np.empty(spec.shape, spec.dtype))

    def value(self, result: Result) -> Array:
        """Returns the value that the read was answered with, in its place."""
        return received(result, self.place)


class WholeRead:
    """The value of a variable, of one or of many parts, on its way into one array.

    The parts of a value that is cut along its first dimension are contiguous slices of it, which transports fill
    themselves; others take the way over a temporary array each.

    Args:
        whole: Name, dtype and shape of the whole.
        parts: What it consists of, in order.
        slices: Where each part lies in the whole; not needed for one part.
        out: Where the value is to be put; without it a new array.
        wire_dtype: The form in which it travels; None for that of each part.
        view: Whether the value is read-only, and then need not be this process's own memory. Not with ``out``.

    Raises:
        InvalidArgumentError: ``out`` is no writable array of the right dtype and shape or is given for a view, or the
            form does not exist.

    Attributes:
        name: Full name of the whole.
        out: The array that the value is put into; None if the only part's value is the whole.
        parts: The reads of the parts.
    """

    def __init__(
        self,
        whole: VariableSpec,
        parts: Sequence[VariableBase],
        *,
        slices: Sequence[Slices] = (),
        out: Array | None = None,
        wire_dtype: WireDTypeName | None = None,
        view: bool = False,
    ):
        if out is not None:
            check_no_view(out, whole, view=view)
            check_out(out, whole)
        elif len(parts) > 1:
            out = np.empty(whole.shape, whole.dtype)
        self.name = whole.name
        self.out = out
        self._view = view
        if out is None or len(parts) == 1:
            self.parts = [PartRead(parts[0], out, parts[0].pull_wire(wire_dtype), view and out is None)]
        else:
            self.parts = [
                PartRead(part, out[place], part.pull_wire(wire_dtype))
                for part, place in zip(parts, slices, strict=True)
            ]

    def value(self, results: Iterable[Result]) -> Array:
        """Returns the value of the whole, given what its parts were answered."""
        values = [part.value(result) for part, result in zip(self.parts, results, strict=True)]
        value = values[0] if self.out is None else self.out
        return read_only(value) if self._view else value


def read(runner: OperationRunner, reads: Sequence[WholeRead]) -> list[Array]:
    """Returns the values: one exchange for each ps task, all tasks at once."""
    results = iter(runner.run_all([part.routed() for whole in reads for part in whole.parts]))
    return [whole.value([next(results) for _ in whole.parts]) for whole in reads]


PartVersions = tuple[Version, ...]


def read_if_newer(
    runner: OperationRunner, reads: Sequence[WholeRead], versions: Sequence[Sequence[SupportsIndex | None]]
) -> list[VersionedValue[PartVersions] | None]:
    """Returns the values that have another version than the one known: one exchange for each ps task.

    Of a value of which only some parts have changed the others are read as well, in a second exchange.

    Args:
        runner: Carries out the reads.
        reads: What to read.
        versions: For each of them the versions known of its parts.

    Returns:
        For each the value and the versions of its parts, or None if all parts still have the versions known.
    """
    parts = [part for whole in reads for part in whole.parts]
    stores = [runner.store(each.part.ps_task) for each in parts]
    flat = [version for known in versions for version in known]
    known = [
        unless_version(version, store, each.part.spec.name)
        for each, version, store in zip(parts, flat, stores, strict=True)
    ]
    results = runner.run_all([each.routed(version) for each, version in zip(parts, known, strict=True)])
    changed = [_has_come(result, version) for result, version in zip(results, known, strict=True)]
    spans = _spans(reads)
    missing = [index for span in spans if any(changed[index] for index in span) for index in span if not changed[index]]
    for index, result in zip(missing, runner.run_all([parts[index].routed() for index in missing]), strict=True):
        results[index] = result
    return [
        VersionedValue(
            whole.value([results[index] for index in span]),
            tuple(Version(results[index].version, stores[index]) for index in span),
        )
        if any(changed[index] for index in span)
        else None
        for whole, span in zip(reads, spans, strict=True)
    ]


def _has_come(result: Result, known: int | None) -> bool:
    """Whether a read brought a value. One without a version must, and if it has not, taking the value will say so."""
    return result.tensor is not None or known is None


def _spans(reads: Sequence[WholeRead]) -> list[range]:
    """Where the parts of each value stand in the list of all parts."""
    ends = np.cumsum([len(whole.parts) for whole in reads]).tolist()
    return [range(end - len(whole.parts), end) for whole, end in zip(reads, ends, strict=True)]
