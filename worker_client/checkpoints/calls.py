"""Calls of the checkpoint services of all ps tasks, side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar
from uuid import UUID

from ps_protocol.checkpoints.service import CheckpointService, Progress
from ps_protocol.errors import CancelledError, ShardscopeError
from worker_client.checkpoints.background import Wanted
from worker_client.checkpoints.report import ShowProgress
from worker_client.connection.fanout import Fanout
from worker_client.connection.handle import PsHandle

_T = TypeVar("_T")

GIVE_UP_S: Final = 5.0
"""How long the ps tasks may take to hear that a save or a restore is given up; else they miss it."""

Call = Callable[[CheckpointService, float], _T]
"""Is given the service of a ps task and the seconds that it may take."""


class Tasks:
    """The ps tasks of a save or a restore. Used by one thread, which is not the main thread.

    Args:
        handles: Of all ps tasks, in order.
        is_wanted: Asked now and then; False ends what is under way.
        fanout: The way to them for updates.

    Attributes:
        is_wanted: Likewise.
    """

    def __init__(self, handles: Sequence[PsHandle], is_wanted: Wanted, fanout: Fanout):
        self.handles: Final = handles
        self.fanout: Final = fanout
        self.is_wanted = is_wanted

    @property
    def names(self) -> list[str]:
        """As "ps:0"."""
        return [str(handle.task) for handle in self.handles]

    def go_through(self) -> None:
        """From here on an interrupt ends the wait of the caller, not what is under way."""
        self.is_wanted = Wanted()

    def call(self, index: int, what: str, call: Call[_T], size_bytes: int = 0) -> _T:
        """Calls one task, with retries, which may move so many bytes for it; an error names it."""
        if not self.is_wanted():
            raise CancelledError("the save or restore was interrupted")
        handle = self.handles[index]
        try:
            return handle.call(
                lambda service, timeout_s: call(service.checkpoints, timeout_s), what=what, size_bytes=size_bytes
            )
        except ShardscopeError as error:
            error.task = error.task or str(handle.task)
            raise

    def each(
        self, what: str, call: Callable[[int, CheckpointService, float], _T], sizes_bytes: Sequence[int] | None = None
    ) -> list[_T]:
        """Calls all tasks side by side; raises the first error when all have answered."""

        def one(index: int) -> _T:
            size_bytes = 0 if sizes_bytes is None else sizes_bytes[index]
            return self.call(index, what, lambda service, timeout_s: call(index, service, timeout_s), size_bytes)

        return self.side_by_side(one)

    def num_variables(self) -> list[int]:
        """How many variables each task has."""

        def one(index: int) -> int:
            status = self.handles[index].call(lambda service, t: service.status(timeout_s=t), what="to say what it has")
            return status.num_variables

        return self.side_by_side(one)

    def work(self, what: str, step: Call[Progress], show: ShowProgress | None, size_bytes: int = 0) -> None:
        """Has all tasks take one step after the other, side by side, until each is done.

        Args:
            what: Is done, in words.
            step: Does some of it.
            show: Is told how far all are.
            size_bytes: That one step may move beside the values.
        """
        so_far = [Progress(0, 0, False)] * len(self.handles)

        def one(index: int) -> None:
            while not so_far[index].is_done:
                so_far[index] = self.call(index, what, step, size_bytes)
                if show is not None:
                    show(sum([each.done_bytes for each in so_far]), sum([each.total_bytes for each in so_far]))

        self.side_by_side(one)

    def side_by_side(self, work: Callable[[int], _T]) -> list[_T]:
        """Does something for each task, by its index; raises the error that came first when all have ended."""
        return _side_by_side(work, len(self.handles))

    def discard(self, session: UUID) -> None:
        """Gives up a save or a restore on all tasks, as far as they answer; the others do so by themselves."""

        def one(index: int) -> None:
            try:
                self.handles[index].service.checkpoints.discard(session, timeout_s=GIVE_UP_S)
            except ShardscopeError:  # it has ended, and with it the session; or it will miss us
                return

        self.side_by_side(one)


def _side_by_side(work: Callable[[int], _T], number: int) -> list[_T]:
    """Does it on daemon threads, since those of a pool start no more at the end of a program, and hold it up."""
    results: dict[int, _T] = {}
    errors: list[BaseException] = []

    def one(index: int) -> None:
        try:
            results[index] = work(index)
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error.with_traceback(None) if isinstance(error, ShardscopeError) else error)

    threads: list[threading.Thread] = []
    for index in range(1, number):
        thread = threading.Thread(target=one, args=(index,), name=f"checkpoint of ps:{index}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is about to end, and starts no more threads
            one(index)
        else:
            threads.append(thread)
    one(0)
    for thread in threads:
        thread.join()  # each of its calls is bounded
    if errors:
        try:
            raise errors[0]  # those after it may come from giving up what has failed
        finally:
            errors.clear()  # a traceback that refers to its own error is not freed before the next collection
    return [results[index] for index in range(number)]
