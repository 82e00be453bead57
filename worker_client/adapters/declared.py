"""Declares the arrays of a model as variables under a scope, unless the cluster has another model of that name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array
from worker_client.client import Client
from worker_client.initializers.base import Initializer
from worker_client.scopes.arguments import AUTO_REUSE
from worker_client.scopes.variable_scope import get_variable, variable_scope
from worker_client.variables.catalog import VariableEntry
from worker_client.variables.partitioners import Partitioner
from worker_client.variables.parts import EagerVariable

Initializers: TypeAlias = Initializer | Mapping[str, Initializer] | None
"""What parameters start with: the ps's own for all or for some by their names; where there is none, the value here."""

_MOST_LISTED: Final = 20


def scope_of(client: Client, name: str) -> str:
    """Returns the full name of the scope that a model of this name has, below the current variable scope.

    Raises:
        InvalidArgumentError: The name is no text, or empty.
    """
    if not isinstance(name, str) or not name:
        raise InvalidArgumentError(f"a model is shared under a name, as 'net', not {name!r}")
    with client.as_default(), variable_scope(name, reuse=AUTO_REUSE) as scope:
        return scope.name


def declare(
    client: Client,
    name: str,
    arrays: Mapping[str, Array],
    *,
    initializer: Initializers = None,
    partitioner: Partitioner | None = None,
    beside: Collection[str] = (),
) -> dict[str, EagerVariable]:
    """Declares a variable for each array, or finds those that others have declared, whose values then count.

    Args:
        client: The connection.
        name: Of the model, a scope below the current one.
        arrays: By the names of the parameters in the model; each is the first value of its variable.
        initializer: What to start with instead.
        partitioner: Cuts the variables into parts, but for scalars and empty ones; by default that of the current
            scope, if it has one.
        beside: Full names of variables that may be under the scope, and are none of these.

    Raises:
        InvalidArgumentError: The cluster has variables under the scope that the model has not, or of another shape or
            dtype; all are listed, and nothing was declared. Or an initializer is for no parameter.
        ShardscopeError: The cluster has refused one.
    """
    scope = scope_of(client, name)
    by_name = initializer if isinstance(initializer, Mapping) else dict.fromkeys(arrays, initializer)
    unknown = [each for each in by_name if each not in arrays]
    if unknown:
        raise InvalidArgumentError(
            f"{scope}: there is an initializer for {unknown[0]}, but no such parameter; there are "
            f"{_listed(list(arrays))}"
        )
    _check_same(client, scope, arrays, beside, "nothing was declared")
    # Weights and biases take turns in most models: in their order, all weights came to one of two ps tasks.
    largest_first = sorted(arrays.items(), key=lambda each: each[1].nbytes, reverse=True)
    with client.as_default(), variable_scope(name, reuse=AUTO_REUSE) as opened:
        partitioner = partitioner or opened.partitioner
        opened.set_partitioner(None)  # which would be asked for those that are not to be cut
        found = {}
        for path, array in largest_first:
            cut_by = partitioner if array.ndim and array.size else None
            found[path] = get_variable(
                path,
                list(array.shape) if cut_by or by_name.get(path) else None,
                dtype=array.dtype,
                initializer=by_name.get(path) or array,
                partitioner=cut_by,
            )
    _check_same(client, scope, arrays, beside, "another worker has declared them at the same time")
    return {path: found[path] for path in arrays}


def _check_same(client: Client, scope: str, arrays: Mapping[str, Array], beside: Collection[str], then: str) -> None:
    there = _there(client, scope, beside)
    only_there = [_described(path, entry) for path, entry in there.items() if path not in arrays]
    different = [
        f"{path} is {_form(array.dtype, array.shape)} here and {_form(there[path].dtype, there[path].shape)} there"
        for path, array in arrays.items()
        if path in there and (there[path].dtype, there[path].shape) != (array.dtype, array.shape)
    ]
    if not only_there and not different:
        return
    missing = [f"{path} ({_form(array.dtype, array.shape)})" for path, array in arrays.items() if path not in there]
    words = [
        f"{what}: {_listed(names)}"
        for what, names in (
            ("only in the cluster", only_there),
            ("only in this model", missing),
            ("different", different),
        )
        if names
    ]
    raise InvalidArgumentError(
        f"the cluster has another model of the name {scope}; {'; '.join(words)}; {then}. Share the same model on all "
        f"workers, or this one under another name"
    )


def _there(client: Client, scope: str, beside: Collection[str]) -> dict[str, VariableEntry]:
    """The variables under a scope, by their names in it, without what optimizers keep beside them."""
    begin = f"{scope}/"
    found = {
        each.name[len(begin) :]: each
        for each in client.variables()
        if each.name.startswith(begin) and not each.slot_of and each.name not in beside
    }
    return {path: each for path, each in found.items() if not _is_kept_beside(path, found)}


def _is_kept_beside(path: str, paths: Collection[str]) -> bool:
    """Whether something is called as a slot of another variable: such as averages, which are no slots."""
    parts = path.split("/")
    return any("/".join(parts[:length]) in paths for length in range(1, len(parts)))


def _described(path: str, entry: VariableEntry) -> str:
    return f"{path} ({_form(entry.dtype, entry.shape)})"


def _form(dtype: np.dtype[Any], shape: Sequence[int]) -> str:
    return f"{dtype.name} {list(shape)}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
