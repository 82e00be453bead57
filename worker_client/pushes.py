"""Sends updates that leave a trace here (``error_feedback``), and takes it back for those that were not applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import TypeAlias, TypeVar

from ps_protocol.errors import ShardscopeError
from ps_protocol.operations import Reply, Update
from worker_client.error_feedback import ReversibleUpdate
from worker_client.fanout import Fanout, Routed, succeeded
from worker_client.futures import begun, failed, gathered, mapped
from worker_client.variable_wire import VariableWire

_T = TypeVar("_T")

RoutedUpdate: TypeAlias = tuple[int | None, ReversibleUpdate]
"""An update and its ps task."""


def prepared(updates: Iterable[tuple[VariableWire, Update]]) -> list[RoutedUpdate]:
    """Returns what to send for updates that have all been checked; if one cannot be made, none leaves a trace."""
    pushes: list[RoutedUpdate] = []
    try:
        for variable, update in updates:
            pushes.append((variable.ps_task, variable.push(update)))
    except BaseException:
        _roll_back(push for _, push in pushes)
        raise
    return pushes


def run_all(fanout: Fanout, pushes: Sequence[RoutedUpdate]) -> None:
    """Sends pushes: one exchange for each ps task, all tasks at once; waits for all of them.

    Raises:
        ShardscopeError: The first error. The others have been carried out all the same.
    """
    if len({ps_task for ps_task, _ in pushes}) > 1:
        run_all_later(fanout, pushes).result()
        return
    try:
        replies = fanout.exchange_all(_routed(pushes))
    except BaseException:
        _roll_back(push for _, push in pushes)
        raise
    _raise_first(_settled(pushes, replies))


def run_all_later(fanout: Fanout, pushes: Sequence[RoutedUpdate]) -> Future[None]:
    """The same behind what was queued before and without waiting.

    Raises:
        ShardscopeError: Nothing could be sent. If that befalls a task when others have been sent theirs, the future
            has its error when they are done, so that none is still under way behind the caller's back.
    """
    groups: dict[int | None, list[int]] = {}
    for position, (ps_task, _) in enumerate(pushes):
        groups.setdefault(ps_task, []).append(position)
    futures: list[Future[list[Reply]]] = []
    waiting = [[pushes[position] for position in positions] for positions in groups.values()]
    while waiting:
        try:
            futures.append(_sent(fanout, waiting[0]))
        except BaseException as error:
            for group in waiting:
                _roll_back(push for _, push in group)
            if not futures or not isinstance(error, Exception):
                raise
            futures.append(failed(error))
            break
        waiting.pop(0)

    def in_order(answers: list[list[Reply]]) -> None:
        by_position = {
            position: reply
            for positions, answered in zip(groups.values(), answers, strict=True)
            for position, reply in zip(positions, answered, strict=True)
        }
        _raise_first([by_position[position] for position in range(len(pushes))])

    return mapped(gathered(futures), in_order)


def after_failure(future: Future[_T], roll_back: Callable[[], None]) -> Future[_T]:
    """Returns a future of the same, which in case of an error is done when ``roll_back`` has been called.

    It cannot be cancelled.
    """
    outcome: Future[_T] = begun()

    def finish(done: Future[_T]) -> None:
        try:
            try:
                result = done.result()
            except BaseException:
                roll_back()
                raise
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the outcome
            outcome.set_exception(error)
        else:
            outcome.set_result(result)

    future.add_done_callback(finish)
    return outcome


def _sent(fanout: Fanout, group: Sequence[RoutedUpdate]) -> Future[list[Reply]]:
    replies = fanout.exchange_all_later(_routed(group))
    settled = mapped(replies, lambda answered: _settled(group, answered))
    return after_failure(settled, lambda: _roll_back(push for _, push in group))


def _routed(pushes: Sequence[RoutedUpdate]) -> list[Routed]:
    return [Routed(ps_task, push.operation) for ps_task, push in pushes]


def _settled(pushes: Sequence[RoutedUpdate], replies: list[Reply]) -> list[Reply]:
    refused = [isinstance(reply, ShardscopeError) for reply in replies]
    _roll_back(push for (_, push), was_refused in zip(pushes, refused, strict=True) if was_refused)
    return replies


def _roll_back(pushes: Iterable[ReversibleUpdate]) -> None:
    for push in pushes:
        push.roll_back()


def _raise_first(replies: Sequence[Reply]) -> None:
    for reply in replies:
        succeeded(reply)
