"""Whole and partitioned variables alike, where many variables move at once, and what a caller gave for some of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Final, SupportsIndex, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array
from worker_client.values.versions import Version, VersionedValue
from worker_client.variables.part_reads import PartVersions
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.variable import Variable

EagerVariable: TypeAlias = Variable | PartitionedVariable
"""A variable of a connection, whole or partitioned."""
Pair: TypeAlias = tuple[EagerVariable, npt.ArrayLike]
Pairs: TypeAlias = Iterable[Pair] | Mapping[EagerVariable, npt.ArrayLike]
AnyVersion: TypeAlias = SupportsIndex | Sequence[SupportsIndex]
AnyVersionedValue: TypeAlias = VersionedValue[Version] | VersionedValue[PartVersions]

Key = TypeVar("Key", bound=Hashable)
_VARIABLES: Final = (Variable, PartitionedVariable)


def new_array(variable: EagerVariable) -> Array:
    """Returns an array that the value of the whole fits into, of undefined content."""
    spec = variable.whole_spec
    return np.empty(spec.shape, spec.dtype)


def some_variables(function: str, variables: object) -> list[EagerVariable]:
    """Returns the variables that a function was given; InvalidArgumentError, with what it wants, for anything else."""
    if isinstance(variables, _VARIABLES):
        raise InvalidArgumentError(
            f"{function} takes a list of variables, not one: give [{variables.name}], or use its own method",
            variable=variables.whole_spec.name,
        )
    if not isinstance(variables, Iterable) or isinstance(variables, str):
        raise _wants(function, "a list of variables", variables)
    found = list(variables)
    for each in found:
        _check(function, each)
    return found


def some_pairs(function: str, pairs: object, what: str = "its value") -> list[tuple[Any, Any]]:
    """Returns variables and what belongs to each, given as pairs or as a dictionary; otherwise as above."""
    wanted = f"pairs of a variable and {what}, in a list or as a dictionary"
    if isinstance(pairs, Mapping):
        pairs = pairs.items()
    if isinstance(pairs, (*_VARIABLES, str)) or not isinstance(pairs, Iterable):
        raise _wants(function, wanted, pairs)
    found = list(pairs)
    for each in found:
        if not isinstance(each, tuple | list) or len(each) != 2:
            raise _wants(function, wanted, each)
        _check(function, each[0])
    return found


def _check(function: str, variable: object) -> None:
    if not isinstance(variable, _VARIABLES):
        raise _wants(function, "variables", variable)


def _wants(function: str, wanted: str, given: object) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{function} takes {wanted} of a connection, not {given!r}; those of a deferred graph are read and updated by "
        f"Session.run"
    )
