"""Carries operations to the ps tasks that hold their variables: one exchange for each task, all tasks at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Final, NamedTuple, TypeAlias, TypeVar
from uuid import UUID

from ps_protocol.errors import ShardscopeError
from ps_protocol.interrupts import is_interrupt
from ps_protocol.operations import Array, PsOperation, Reply, Result
from worker_client.connection.direct import Reserve, ask
from worker_client.connection.futures import OperationFuture, failed, gathered, linger, mapped
from worker_client.connection.handle import PsHandle

_T = TypeVar("_T")

_COMBINED_S: Final = 60.0
"""Bound on putting replies together that are all there; it takes no longer than another thread needs to be woken."""


class Routed(NamedTuple):
    """An operation and where it goes.

    Attributes:
        ps_task: Index of the ps task, or None for the store of this worker itself.
        operation: What to do there.
        expected_reply_bytes: Size of the tensor that it will be answered with.
        needs_value: Whether a session waits for the variable's first value if it is refused for lack of one.
    """

    ps_task: int | None
    operation: PsOperation
    expected_reply_bytes: int = 0
    needs_value: bool = False


Settle: TypeAlias = Callable[[list[int], Sequence[Reply] | None], None]
"""Called with the positions of some operations and their replies, or None if their task has failed."""

_Group: TypeAlias = tuple[int | None, list[int]]
"""A task, and the positions of what goes there."""


class Fanout:
    """Implements ``OperationRunner`` of ``variables.base``. Thread-safe.

    Args:
        handles: One for each ps task, in the order of the tasks.
        local: Gives the handle of the store for variables that live in this worker.
    """

    def __init__(self, handles: Sequence[PsHandle], local: Callable[[], PsHandle]):
        self._handles = handles
        self._local = local

    def handle(self, ps_task: int | None) -> PsHandle:
        """The handle of one ps task, or with None of this worker's own store."""
        return self._local() if ps_task is None else self._handles[ps_task]

    def store(self, ps_task: int | None) -> UUID:
        """The incarnation of the store that a ps task named in its answer to hello."""
        return self.handle(ps_task).welcome.store

    def new_buffer(self, ps_task: int | None, size_bytes: int) -> Array | None:
        """Memory that is shared with a ps task, as a uint8 array, or None if there is none."""
        return self.handle(ps_task).new_buffer(size_bytes)

    def run(self, ps_task: int | None, operation: PsOperation, *, expected_reply_bytes: int) -> Result:
        (reply,) = self.handle(ps_task).exchange((operation,), expected_reply_bytes=expected_reply_bytes)
        return succeeded(reply)

    def run_later(self, ps_task: int | None, operation: PsOperation) -> Future[Result]:
        return mapped(
            self.handle(ps_task).submit((operation,), expected_reply_bytes=0), lambda replies: succeeded(replies[0])
        )

    def exchange_all(self, routed: Sequence[Routed], settle: Settle | None = None) -> list[Reply]:
        """Carries out operations on any tasks and waits for all of them.

        Args:
            routed: The operations and their tasks.
            settle: Called once for each task, before this returns.

        Returns:
            One reply for each, in the order given; an error of one operation is a reply.

        Raises:
            ShardscopeError: A whole task has failed. Other tasks have carried out what they were sent, and nothing is
                under way any more: no array is read or written after this.
        """
        groups = list(_by_task(routed).items())
        if len(groups) != 1:
            asked = self._ask_groups(routed, groups, settle)
            return self._exchange_groups(routed, groups, settle) if asked is None else asked
        ps_task, positions = groups[0]  # spares the usual case of one task the change of threads
        try:
            replies = self.handle(ps_task).exchange(
                [each.operation for each in routed],
                expected_reply_bytes=sum(each.expected_reply_bytes for each in routed),
            )
        except BaseException:
            if settle is not None:
                settle(positions, None)
            raise
        if settle is not None:
            settle(positions, replies)
        return list(replies)

    def exchange_all_later(self, routed: Sequence[Routed], settle: Settle | None = None) -> Future[list[Reply]]:
        """Does what ``exchange_all`` does, behind what was queued before and without waiting.

        Raises:
            ShardscopeError: Nothing could be sent. If other tasks have been sent theirs already, the future has the
                error.
        """
        groups = list(_by_task(routed).items())
        return _in_order(routed, groups, self._submit_all(routed, groups, settle))

    def run_all(self, routed: Sequence[Routed]) -> list[Result]:
        """Does what ``exchange_all`` does, and returns the results of operations that must all succeed.

        Raises:
            ShardscopeError: Also the first error of an operation. The others have been carried out all the same.
        """
        return [succeeded(reply) for reply in self.exchange_all(routed)]

    def run_all_later(self, routed: Sequence[Routed]) -> Future[list[Result]]:
        """Does what ``run_all`` does, behind what was queued before and without waiting; errors as there."""
        return mapped(self.exchange_all_later(routed), lambda replies: [succeeded(reply) for reply in replies])

    def _ask_groups(
        self, routed: Sequence[Routed], groups: Sequence[_Group], settle: Settle | None
    ) -> list[Reply] | None:
        """Has this thread exchange small batches with idle ps tasks; None if it cannot, and nothing was sent."""
        try:
            outcomes = ask([self._reserve(routed, *group) for group in groups])
        except BaseException:
            if settle is not None:
                for _, positions in groups:
                    settle(positions, None)
            raise
        if outcomes is None:
            return None
        in_order: list[Reply] = [None] * len(routed)  # type: ignore[list-item] # all are set below, or an error is raised
        failures = []
        for (_, positions), outcome in zip(groups, outcomes, strict=True):
            if isinstance(outcome, ShardscopeError):
                failures.append(outcome)
            else:
                for position, reply in zip(positions, outcome, strict=True):
                    in_order[position] = reply
            if settle is not None:
                settle(positions, None if isinstance(outcome, ShardscopeError) else outcome)
        if failures:
            raise failures[0]
        return in_order

    def _reserve(self, routed: Sequence[Routed], ps_task: int | None, positions: Sequence[int]) -> Reserve:
        return partial(
            self.handle(ps_task).reserve,
            tuple([routed[position].operation for position in positions]),
            expected_reply_bytes=sum([routed[position].expected_reply_bytes for position in positions]),
        )

    def _exchange_groups(
        self, routed: Sequence[Routed], groups: Sequence[_Group], settle: Settle | None
    ) -> list[Reply]:
        caller, outcome = threading.Lock(), None
        try:
            with caller:  # what is still queued when this is left, by an interrupt say, is not sent
                futures = self._submit_all(routed, groups, settle, caller)
                outcome = _in_order(routed, groups, futures)
                for (ps_task, _), future in zip(groups, futures, strict=False):  # those that could be sent
                    self.handle(ps_task).wait_for(future)
                # The thread that has settled the last of them is about to call what makes the outcome of all.
                return outcome.result(_COMBINED_S)
        except BaseException as error:
            linger(error, outcome)
            raise

    def _submit_all(
        self,
        routed: Sequence[Routed],
        groups: Sequence[_Group],
        settle: Settle | None,
        caller: threading.Lock | None = None,
    ) -> list[OperationFuture[tuple[Reply, ...]]]:
        futures: list[OperationFuture[tuple[Reply, ...]]] = []
        for number, (ps_task, positions) in enumerate(groups):
            try:
                future = self.handle(ps_task).submit(
                    [routed[position].operation for position in positions],
                    expected_reply_bytes=sum(routed[position].expected_reply_bytes for position in positions),
                    caller=caller,
                )
            except BaseException as error:
                if settle is not None:
                    for _, unsent in groups[number:]:
                        settle(unsent, None)
                if not futures or not isinstance(error, Exception) or is_interrupt(error):
                    raise
                # Others are under way with the caller's arrays, so the error waits until they are done.
                futures.append(failed(error))
                break
            futures.append(future if settle is None else _settled(future, positions, settle))
        return futures


def _in_order(
    routed: Sequence[Routed], groups: Sequence[_Group], futures: Sequence[OperationFuture[tuple[Reply, ...]]]
) -> OperationFuture[list[Reply]]:
    """Returns a future of one reply for each operation, from those of the tasks."""

    def in_order(answers: list[tuple[Reply, ...]]) -> list[Reply]:
        by_position = {
            position: reply
            for (_, positions), answered in zip(groups, answers, strict=True)
            for position, reply in zip(positions, answered, strict=True)
        }
        return [by_position[position] for position in range(len(routed))]

    return mapped(gathered(futures), in_order)


def succeeded(reply: _T | ShardscopeError) -> _T:
    """Returns a reply, or raises it if it is an error."""
    if isinstance(reply, ShardscopeError):
        raise reply
    return reply


def _settled(
    future: OperationFuture[tuple[Reply, ...]], positions: list[int], settle: Settle
) -> OperationFuture[tuple[Reply, ...]]:
    def answered(replies: tuple[Reply, ...]) -> tuple[Reply, ...]:
        settle(positions, replies)
        return replies

    return mapped(future, answered, on_failure=lambda: settle(positions, None))


def _by_task(routed: Sequence[Routed]) -> dict[int | None, list[int]]:
    positions: dict[int | None, list[int]] = {}
    for position, each in enumerate(routed):
        positions.setdefault(each.ps_task, []).append(position)
    return positions
