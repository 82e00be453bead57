"""Functions over many variables of the default connection."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Literal, overload

from ps_protocol.operations import Array
from worker_client.default_client import get_default_client
from worker_client.variable_parts import AnyVariable, Pair


def read_all(variables: Iterable[AnyVariable]) -> list[Array]:
    """``Client.read_all`` of the default connection."""
    return get_default_client().read_all(variables)


@overload
def assign_add_all(pairs: Iterable[Pair], *, wait: Literal[True] = True) -> None: ...
@overload
def assign_add_all(pairs: Iterable[Pair], *, wait: Literal[False]) -> Future[None]: ...
def assign_add_all(pairs: Iterable[Pair], *, wait: bool = True) -> Future[None] | None:
    """``Client.assign_add_all`` of the default connection."""
    client = get_default_client()
    if wait:
        client.assign_add_all(pairs)
        return None
    return client.assign_add_all(pairs, wait=False)


def assign_all(pairs: Iterable[Pair]) -> None:
    """``Client.assign_all`` of the default connection."""
    get_default_client().assign_all(pairs)
