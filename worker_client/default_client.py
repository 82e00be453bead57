"""Which connection the module-level functions use, and those that read and update many of its variables at once.

The innermost ``with client:`` or ``with client.as_default():`` of this thread; outside of any, the connection that was
opened last and is still open, so that threads started by a program with one connection find it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Literal, SupportsIndex, overload

from ps_protocol.checkpoints.retention import Retention
from ps_protocol.operations import Array
from worker_client.checkpoints.periodic import Metrics, PeriodicSaves, Step
from worker_client.checkpoints.report import RestoreReport, SavedCheckpoint, ShowProgress
from worker_client.client import Client
from worker_client.connection.completes import Completes, exchange_of
from worker_client.graph.defaults import STACK, find_newest_client, not_connected
from worker_client.values.wire_names import WireDTypeName
from worker_client.variables.mirror import Mirror
from worker_client.variables.parts import Key, NamedOrVariable, Pairs


def find_default_client() -> Client | None:
    """The default connection, or None if there is none."""
    entered: list[Client] = [entry.client for entry in STACK if entry.client is not None]
    return entered[0] if entered else find_newest_client()


def get_default_client() -> Client:
    """The default connection.

    Raises:
        FailedPreconditionError: No connection is open.
    """
    client = find_default_client()
    if client is None:
        raise not_connected()
    return client


@overload
def read_all(  # type: ignore[overload-overlap] # a dictionary is more than what is iterated over
    variables: Mapping[Key, NamedOrVariable],
    *,
    out: Mapping[Key, Array] | None = None,
    wire_dtype: WireDTypeName | None = None,
    copy: bool = True,
) -> dict[Key, Array]: ...
@overload
def read_all(
    variables: Iterable[NamedOrVariable],
    *,
    out: Sequence[Array] | None = None,
    wire_dtype: WireDTypeName | None = None,
    copy: bool = True,
) -> list[Array]: ...
def read_all(
    variables: Any,
    *,
    out: Any = None,
    wire_dtype: WireDTypeName | None = None,
    copy: bool = True,
) -> Any:
    """``Client.read_all`` of the default connection."""
    return get_default_client().read_all(variables, out=out, wire_dtype=wire_dtype, copy=copy)


@overload
def assign_add_all(
    pairs: Pairs,
    *,
    wait: Literal[True] = True,
    wire_dtype: WireDTypeName | None = None,
    completes: Completes | None = None,
) -> None: ...
@overload
def assign_add_all(pairs: Pairs, *, wait: Literal[False], wire_dtype: WireDTypeName | None = None) -> Future[None]: ...
def assign_add_all(
    pairs: Pairs,
    *,
    wait: bool = True,
    wire_dtype: WireDTypeName | None = None,
    completes: Completes | None = None,
) -> Future[None] | None:
    """``Client.assign_add_all`` of the default connection."""
    client = get_default_client()
    if wait or completes is not None:
        exchange_of(client.fanout, completes, wait=wait)
        client.assign_add_all(pairs, wire_dtype=wire_dtype, completes=completes)
        return None
    return client.assign_add_all(pairs, wait=False, wire_dtype=wire_dtype)


@overload
def assign_all(pairs: Pairs, *, wait: Literal[True] = True, wire_dtype: WireDTypeName | None = None) -> None: ...
@overload
def assign_all(pairs: Pairs, *, wait: Literal[False], wire_dtype: WireDTypeName | None = None) -> Future[None]: ...
def assign_all(pairs: Pairs, *, wait: bool = True, wire_dtype: WireDTypeName | None = None) -> Future[None] | None:
    """``Client.assign_all`` of the default connection."""
    client = get_default_client()
    if wait:
        client.assign_all(pairs, wire_dtype=wire_dtype)
        return None
    return client.assign_all(pairs, wait=False, wire_dtype=wire_dtype)


def barrier(name: str, timeout_s: float = 600.0, *, count: SupportsIndex | None = None) -> None:
    """``Client.barrier`` of the default connection."""
    get_default_client().barrier(name, timeout_s, count=count)


@overload
def mirror(
    variables: Mapping[Key, NamedOrVariable],
    *,
    trained_by: Sequence[str] = (),
    out: Mapping[Key, Array] | None = None,
) -> Mirror: ...
@overload
def mirror(
    variables: Iterable[NamedOrVariable], *, trained_by: Sequence[str] = (), out: Sequence[Array] | None = None
) -> Mirror: ...
def mirror(variables: Any, *, trained_by: Sequence[str] = (), out: Any = None) -> Mirror:
    """``Client.mirror`` of the default connection."""
    return get_default_client().mirror(variables, trained_by=trained_by, out=out)


@overload
def save(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    step: Step | None = None,
    metrics: Metrics | None = None,
    keep: SupportsIndex | Retention = 0,
    through: Literal["ps", "client"] = "ps",
    wait: Literal[True] = True,
    show_progress: ShowProgress | bool | None = None,
) -> SavedCheckpoint: ...
@overload
def save(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    step: Step | None = None,
    metrics: Metrics | None = None,
    keep: SupportsIndex | Retention = 0,
    through: Literal["ps", "client"] = "ps",
    wait: Literal[False],
    show_progress: ShowProgress | bool | None = None,
) -> Future[SavedCheckpoint]: ...
@overload
def save(
    path: str | os.PathLike[str],
    *,
    every: float | None = None,
    every_steps: SupportsIndex | None = None,
    step: Step | None = None,
    metrics: Metrics | None = None,
    keep: SupportsIndex | Retention = 0,
    through: Literal["ps", "client"] = "ps",
) -> PeriodicSaves: ...
def save(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    step: Step | None = None,
    metrics: Metrics | None = None,
    keep: SupportsIndex | Retention = 0,
    through: Literal["ps", "client"] = "ps",
    wait: bool = True,
    every: float | None = None,
    every_steps: SupportsIndex | None = None,
    show_progress: ShowProgress | bool | None = None,
) -> SavedCheckpoint | Future[SavedCheckpoint] | PeriodicSaves:
    """``Client.save`` of the default connection."""
    client: Any = get_default_client()
    saved: SavedCheckpoint | Future[SavedCheckpoint] | PeriodicSaves = client.save(
        path,
        name=name,
        step=step,
        metrics=metrics,
        keep=keep,
        through=through,
        wait=wait,
        every=every,
        every_steps=every_steps,
        show_progress=show_progress,
    )
    return saved


def restore(
    path: str | os.PathLike[str],
    *,
    names: Mapping[str, str] | None = None,
    partial: bool = False,
    through: Literal["ps", "client"] = "ps",
    show_progress: ShowProgress | bool | None = None,
) -> RestoreReport:
    """``Client.restore`` of the default connection."""
    return get_default_client().restore(
        path, names=names, partial=partial, through=through, show_progress=show_progress
    )
