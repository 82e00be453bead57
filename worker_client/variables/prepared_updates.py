"""Sends updates that leave a trace here (``error_feedback``), and takes it back for those that were not applied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import TypeAlias

from ps_protocol.errors import ShardscopeError
from ps_protocol.operations import Reply, Update
from worker_client.connection.completes import Exchange
from worker_client.connection.fanout import Routed, Settle, succeeded
from worker_client.connection.futures import mapped
from worker_client.variables.base import OperationRunner, VariableBase
from worker_client.variables.error_feedback import PreparedUpdate

RoutedUpdate: TypeAlias = tuple[int | None, PreparedUpdate]
"""An update and its ps task."""


def prepared(updates: Iterable[tuple[VariableBase, Update]]) -> list[RoutedUpdate]:
    """Returns what to send for updates that have all been checked; if one cannot be made, none leaves a trace."""
    made: list[RoutedUpdate] = []
    try:
        for variable, update in updates:
            made.append((variable.ps_task, variable.push(update)))
    except BaseException:
        for _, each in made:
            each.roll_back()
        raise
    return made


def send_all(exchange: Exchange, updates: Sequence[RoutedUpdate], others: Sequence[Routed] = ()) -> None:
    """Sends updates, and waits for all of them.

    Args:
        exchange: As ``exchange_of`` returns it.
        updates: What to send.
        others: What to send besides that leaves no trace here, as updates of rows.

    Raises:
        ShardscopeError: The first error. The others have been carried out all the same.
    """
    _raise_first(exchange([*_routed(updates), *others], _roll_back_what_failed(updates)))


def send_all_later(
    fanout: OperationRunner, updates: Sequence[RoutedUpdate], others: Sequence[Routed] = ()
) -> Future[None]:
    """Sends them behind what was queued before, without waiting.

    Raises:
        ShardscopeError: Nothing could be sent. If other tasks have been sent theirs already, the future has the
            error when those are done, so that nothing is still under way.
    """
    return mapped(
        fanout.exchange_all_later([*_routed(updates), *others], _roll_back_what_failed(updates)), _raise_first
    )


def _routed(updates: Sequence[RoutedUpdate]) -> list[Routed]:
    return [Routed(ps_task, each.operation) for ps_task, each in updates]


def _roll_back_what_failed(updates: Sequence[RoutedUpdate]) -> Settle:
    def settle(positions: list[int], replies: Sequence[Reply] | None) -> None:
        for number, position in enumerate(positions):
            has_failed = replies is None or isinstance(replies[number], ShardscopeError)
            if has_failed and position < len(updates):
                updates[position][1].roll_back()

    return settle


def _raise_first(replies: Sequence[Reply]) -> None:
    for reply in replies:
        succeeded(reply)
