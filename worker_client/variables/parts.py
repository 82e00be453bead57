"""Whole and partitioned variables alike, where many variables move at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt

from ps_protocol.operations import Array, VariableSpec
from worker_client.values.versions import Version, VersionedValue
from worker_client.values.wire_names import WireDTypeName
from worker_client.variables.part_reads import PartVersions, WholeRead
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.variable import Variable

EagerVariable: TypeAlias = Variable | PartitionedVariable
"""A variable of a connection, whole or partitioned."""
Pair: TypeAlias = tuple[EagerVariable, npt.ArrayLike]
AnyVersion: TypeAlias = SupportsIndex | Sequence[SupportsIndex]
AnyVersionedValue: TypeAlias = VersionedValue[Version] | VersionedValue[PartVersions]


def parts_of(variable: EagerVariable) -> list[Variable]:
    """Returns the variables on the ps tasks that make it up: itself, or its parts in order."""
    return list(variable) if isinstance(variable, PartitionedVariable) else [variable]


def pieces_of(variable: EagerVariable, value: npt.ArrayLike) -> Sequence[npt.ArrayLike]:
    """Returns what of a value belongs to each part; ValueError if it has another shape."""
    return variable.pieces(value) if isinstance(variable, PartitionedVariable) else [value]


def spec_of(variable: EagerVariable) -> VariableSpec:
    """Returns name, dtype and shape of the whole."""
    return variable.whole_spec if isinstance(variable, PartitionedVariable) else variable.spec


def new_array(variable: EagerVariable) -> Array:
    """Returns an array that the value of the whole fits into, of undefined content."""
    spec = spec_of(variable)
    return np.empty(spec.shape, spec.dtype)


def whole_read(
    variable: EagerVariable, out: Array | None = None, wire_dtype: WireDTypeName | None = None, *, view: bool = False
) -> WholeRead:
    """Returns the read of the whole into ``out``, or into a new array; checks ``out``."""
    if isinstance(variable, PartitionedVariable):
        return variable.whole_read(out, wire_dtype, view=view)
    return WholeRead(variable.spec, [variable], out=out, wire_dtype=wire_dtype, view=view)


def part_versions(variable: EagerVariable, version: AnyVersion | None) -> Sequence[SupportsIndex | None]:
    """Returns the version known of each part; InvalidArgumentError if there is not one for each."""
    if isinstance(variable, PartitionedVariable):
        if isinstance(version, SupportsIndex):
            version = (version,)  # which is right for a variable of one part
        return variable.part_versions(version)
    return [version]  # type: ignore[list-item] # a sequence is refused by unless_version, which checks each


def of_one_part(newer: VersionedValue[PartVersions]) -> VersionedValue[Version]:
    """Returns what was read of a variable that is not cut, with its one version."""
    return VersionedValue(newer.value, newer.version[0])
