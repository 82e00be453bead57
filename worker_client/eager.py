"""Functions over many variables of the default connection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Literal, overload

from ps_protocol.operations import Array
from worker_client.default_client import get_default_client
from worker_client.values.wire_names import WireDTypeName
from worker_client.variables.mirror import Mirror
from worker_client.variables.parts import EagerVariable, Pair


def read_all(
    variables: Iterable[EagerVariable],
    *,
    out: Sequence[Array] | None = None,
    wire_dtype: WireDTypeName | None = None,
    copy: bool = True,
) -> list[Array]:
    """``Client.read_all`` of the default connection."""
    return get_default_client().read_all(variables, out=out, wire_dtype=wire_dtype, copy=copy)


@overload
def assign_add_all(
    pairs: Iterable[Pair], *, wait: Literal[True] = True, wire_dtype: WireDTypeName | None = None
) -> None: ...
@overload
def assign_add_all(
    pairs: Iterable[Pair], *, wait: Literal[False], wire_dtype: WireDTypeName | None = None
) -> Future[None]: ...
def assign_add_all(
    pairs: Iterable[Pair], *, wait: bool = True, wire_dtype: WireDTypeName | None = None
) -> Future[None] | None:
    """``Client.assign_add_all`` of the default connection."""
    client = get_default_client()
    if wait:
        client.assign_add_all(pairs, wire_dtype=wire_dtype)
        return None
    return client.assign_add_all(pairs, wait=False, wire_dtype=wire_dtype)


def assign_all(pairs: Iterable[Pair], *, wire_dtype: WireDTypeName | None = None) -> None:
    """``Client.assign_all`` of the default connection."""
    get_default_client().assign_all(pairs, wire_dtype=wire_dtype)


def mirror(variables: Iterable[EagerVariable]) -> Mirror:
    """``Client.mirror`` of the default connection."""
    return get_default_client().mirror(variables)
