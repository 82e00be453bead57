"""Whole and partitioned variables alike, where many variables move at once, and what a caller gave for some of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Final, SupportsIndex, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array
from worker_client.values.conversion import IndexedSlices
from worker_client.values.versions import Version, VersionedValue
from worker_client.variables.base import OperationRunner, VariableBase
from worker_client.variables.part_reads import PartVersions
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.variable import Variable

EagerVariable: TypeAlias = Variable | PartitionedVariable
"""A variable of a connection, whole or partitioned."""
NamedOrVariable: TypeAlias = EagerVariable | str
"""A variable, or its full name in the cluster."""
Pair: TypeAlias = tuple[NamedOrVariable, npt.ArrayLike | IndexedSlices]
Pairs: TypeAlias = (
    Iterable[Pair]
    | Mapping[EagerVariable, npt.ArrayLike]
    | Mapping[str, npt.ArrayLike]
    | Mapping[NamedOrVariable, npt.ArrayLike]
)
Find: TypeAlias = Callable[[str], EagerVariable]
"""Finds a variable by its name; NotFoundError if there is none."""
AnyVersion: TypeAlias = SupportsIndex | Sequence[SupportsIndex]
AnyVersionedValue: TypeAlias = VersionedValue[Version] | VersionedValue[PartVersions]

Key = TypeVar("Key", bound=Hashable)
_VARIABLES: Final = (Variable, PartitionedVariable)


def new_array(variable: EagerVariable) -> Array:
    """Returns an array that the value of the whole fits into, of undefined content."""
    spec = variable.whole_spec
    return np.empty(spec.shape, spec.dtype)


def some_variables(function: str, variables: object, find: Find) -> list[EagerVariable]:
    """Returns the variables that a function was given, themselves or by their names.

    Raises:
        InvalidArgumentError: It was given anything else; the error says what the function takes.
        NotFoundError: There is no variable of a name.
    """
    if isinstance(variables, (*_VARIABLES, str)):
        one = repr(variables) if isinstance(variables, str) else variables.name
        raise InvalidArgumentError(
            f"{function} takes a list of variables, not one: give [{one}], or use its own method",
            variable=variables if isinstance(variables, str) else variables.whole_spec.name,
        )
    if not isinstance(variables, Iterable):
        raise _wants(function, "a list of variables of a connection, or of their names", variables)
    return [_found(function, each, find) for each in variables]


def some_pairs(function: str, pairs: object, find: Find, what: str = "its value") -> list[tuple[Any, Any]]:
    """Returns variables and what belongs to each, given as pairs or as a dictionary; otherwise as above."""
    wanted = f"pairs of a variable of a connection, or its name, and {what}, in a list or as a dictionary"
    if isinstance(pairs, Mapping):
        pairs = pairs.items()
    if isinstance(pairs, (*_VARIABLES, str)) or not isinstance(pairs, Iterable):
        raise _wants(function, wanted, pairs)
    given = list(pairs)
    for each in given:
        if not isinstance(each, tuple | list) or len(each) != 2:
            raise _wants(function, wanted, each)
    return [(_found(function, variable, find), value) for variable, value in given]


def check_of_cluster(function: str, variables: Iterable[EagerVariable], fanout: OperationRunner) -> None:
    """Makes sure that variables are of the cluster that will be asked for them, by this connection or another one.

    Raises:
        InvalidArgumentError: One is of another cluster, or in the own store of another connection.
    """
    for variable in variables:
        runner = variable.runner if isinstance(variable, Variable) else variable.parts_runner
        if runner is fanout or all(_is_in(part, fanout) for part, _ in variable.placed_parts()):
            continue
        raise InvalidArgumentError(
            f"{function}: variable {variable.whole_spec.name} is of another connection, to another cluster; use the "
            f"{function} of that",
            variable=variable.whole_spec.name,
        )


def _is_in(part: VariableBase, fanout: OperationRunner) -> bool:
    """Whether another connection reaches the very store that has a variable."""
    try:
        return part.ps_task is not None and part.runner.store(part.ps_task) == fanout.store(part.ps_task)
    except IndexError:  # a cluster of fewer ps tasks
        return False


def _found(function: str, variable: object, find: Find) -> EagerVariable:
    if isinstance(variable, str):
        return find(variable)
    if not isinstance(variable, _VARIABLES):
        raise _wants(function, "variables of a connection, or their names", variable)
    return variable


def _wants(function: str, wanted: str, given: object) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{function} takes {wanted}, not {given!r}; those of a deferred graph are read and updated by Session.run"
    )
