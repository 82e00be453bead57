"""Small batches to several ps tasks by the caller's own thread: it sends all of them, then takes all replies.

Handing each to the thread that sends for its ps task costs more than such a batch itself: two changes of thread, and a
future. A batch is asked so only if nothing that was queued before it would be overtaken, and if a line is free for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

from ps_protocol.errors import ShardscopeError
from ps_protocol.interrupts import is_interrupt, sheltered
from ps_protocol.operations import Batch, Reply
from ps_protocol.ps_service import Line

MAX_DIRECT_BYTES: Final = 256 * 1024
"""Most bytes of the tensors of a batch and its reply. Those of several ps tasks move one after the other this way,
which costs less than changes of thread up to here; larger ones move at the same time."""


class Repeat(Protocol):
    """Exchanges a batch whose first try has failed after so many seconds; raises that, if it is not worth repeating."""

    def __call__(self, batch: Batch, failure: ShardscopeError, *, after_s: float) -> tuple[Reply, ...]: ...


class Question:
    """One batch on its line. Used once, by one thread.

    Args:
        line: The caller's own.
        number: Makes the batch; one that mutates gets the next number, for which the caller has the turn.
        timeout_s: Bound on the first try, in seconds.
        repeat: Makes further tries.
        end_turn: Ends the caller's turn before its lock is free.
        clock: Monotonic seconds.
    """

    __slots__ = (
        "_batch",
        "_clock",
        "_failure",
        "_line",
        "_number",
        "_repeat",
        "_replies",
        "_started_s",
        "_timeout_s",
        "end_turn",
    )

    def __init__(
        self,
        line: Line,
        number: Callable[[], Batch],
        *,
        timeout_s: float,
        repeat: Repeat,
        end_turn: Callable[[], None],
        clock: Callable[[], float],
    ):
        self._line = line
        self._number = number
        self._timeout_s = timeout_s
        self._repeat = repeat
        self.end_turn = end_turn
        self._clock = clock
        self._started_s = 0.0
        self._batch: Batch | None = None
        self._failure: ShardscopeError | None = None
        self._replies: tuple[Reply, ...] | None = None

    def send(self) -> None:
        """Numbers the batch and sends it; a failure is kept for ``outcome``."""
        self._started_s = self._clock()
        self._batch = self._number()
        try:
            self._line.send(self._batch, timeout_s=self._timeout_s)
        except ShardscopeError as error:
            self._keep(error)

    @property
    def waits_apart(self) -> bool:
        """Whether the main thread must not wait for the reply itself."""
        return self._failure is None and self._line.waits_apart

    @property
    def has_failed(self) -> bool:
        """Whether ``outcome`` has to try again, which may take as long as a ps that is away is waited for."""
        return self._failure is not None

    def wait(self) -> None:
        """Waits for the reply, as another thread does for the main thread."""
        self._line.wait()

    def receive(self) -> None:
        """Takes the reply; a failure is kept for ``outcome``."""
        if self._failure is None:
            try:
                self._replies = self._line.receive().replies
            except ShardscopeError as error:
                self._keep(error)

    def outcome(self) -> tuple[Reply, ...] | ShardscopeError:
        """Returns the replies, for which it tries again where that makes sense, or the error of the whole batch."""
        if self._failure is None:
            assert self._replies is not None
            return self._replies
        assert self._batch is not None
        try:
            return self._repeat(self._batch, self._failure, after_s=self._clock() - self._started_s)
        except ShardscopeError as error:
            if is_interrupt(error):
                raise
            return error

    def freed(self) -> None:
        """Called when the caller has freed its lock."""
        self._line.freed()

    def _keep(self, error: ShardscopeError) -> None:
        if is_interrupt(error):
            raise error
        self._failure = error


Reserve: TypeAlias = Callable[[threading.Lock], Question | None]
"""Takes what one batch needs for as long as a caller holds its lock; None if it cannot be asked at once."""


def ask(reserves: Sequence[Reserve]) -> list[tuple[Reply, ...] | ShardscopeError] | None:
    """Asks several ps tasks together; returns what each has answered, or None if nothing was sent.

    Args:
        reserves: One for each batch. Either all are sent, or none.
    """
    questions: list[Question] = []
    caller = threading.Lock()
    try:
        with caller:
            for reserve in reserves:
                question = reserve(caller)
                if question is None:
                    return None
                questions.append(question)
            for each in questions:
                each.send()
            if [each for each in questions if each.waits_apart]:
                sheltered(_wait_for_all, questions)
            for each in questions:
                each.receive()
            if [each for each in questions if each.has_failed]:
                for each in questions:
                    if not each.has_failed:
                        each.end_turn()  # a ps that is away keeps nobody from the others
            return [each.outcome() for each in questions]
    finally:
        for each in questions:
            each.freed()


def _wait_for_all(questions: Sequence[Question]) -> None:
    for each in questions:
        if each.waits_apart:
            each.wait()
