"""What a run does with accumulators and queues, which may have to wait for other tasks, or for each other."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from ps_protocol.errors import CancelledError, DeadlineExceededError, ShardscopeError
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import Array
from worker_client.connection.retry import Deadline, Reports
from worker_client.graph.computation import PendingCall, TogetherCall, WatchfulCall
from worker_client.graph.operation import Operation
from worker_client.objects.shared_object import ObjectConnection

_LOG = logging.getLogger(__name__)

WAIT_S: Final = 24 * 3600.0
"""How long a run waits if it is not told: longer than any step, but not for ever. TensorFlow has no bound."""

_FIRST_REPORT_S: Final = 30.0
_LOOK_S: Final = 0.25
"""So often a run that waits looks whether its session has been closed, and asks the next object if it has several."""


@dataclass(slots=True, eq=False)
class Wait:
    """An operation that may have to wait.

    Attributes:
        operation: Which one.
        begin: Returns what it does, from the inputs.
        inputs: Their values.
        shared: The object.
        call: What it does, once it has begun.
    """

    operation: Operation
    begin: Callable[..., PendingCall]
    inputs: Sequence[Array]
    shared: ObjectConnection
    call: PendingCall | None = field(default=None, init=False)

    @property
    def goes_with_others(self) -> bool:
        """Whether it is done when all that go together can be."""
        return hasattr(self.call, "begin")

    def start(self) -> None:
        """Begins it."""
        with self._naming():
            self.call = self.begin(*self.inputs)
            if self.goes_with_others:
                cast("TogetherCall", self.call).begin(self.shared)

    def attempt(self) -> tuple[Array, ...] | None:
        """Does it, if that is possible now."""
        assert self.call is not None
        with self._naming():
            return self.call.attempt(self.shared)

    def may_go_on(self, timeout_s: float) -> bool:
        """Waits until another attempt makes sense; False if that takes longer."""
        assert self.call is not None
        with self._naming():
            if self.shared.wait(self.call.question(), Deadline(timeout_s)) is not None:
                return True
            if hasattr(self.call, "meanwhile"):
                cast("WatchfulCall", self.call).meanwhile(self.shared)
            return False

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """Has errors say which operation they are of."""
        try:
            yield
        except ShardscopeError as error:
            raise_interrupt(error)
            error.op = self.operation if error.op is None else error.op
            raise


def all_done(
    waits: Sequence[Wait], deadline: Deadline, is_closed: Callable[[], bool]
) -> list[tuple[Operation, tuple[Array, ...]]]:
    """Does all that is to be done, whatever is possible first.

    Returns:
        The operations with their outputs.

    Raises:
        DeadlineExceededError: Time ran out; what has been done by then stays done.
        CancelledError: The session was closed meanwhile.
        ShardscopeError: An object has refused something.
    """
    done: list[tuple[Operation, tuple[Array, ...]]] = []
    pending, reports = list(waits), Reports(_FIRST_REPORT_S)
    for each in pending:
        each.start()
    ready = [each for each in pending if not each.goes_with_others]
    while True:
        still: list[Wait] = []
        for each in pending:
            outputs = each.attempt() if each in ready else None
            if outputs is None:
                still.append(each)
            else:
                done.append((each.operation, outputs))
        if not still:
            return done
        seconds = 0.0 if len(still) < len(pending) else min(_LOOK_S, deadline.remaining_s())
        pending, ready = still, []
        while not ready:
            _check(pending[0], deadline, is_closed, reports)
            ready = _able(pending, [each for each in pending if each.may_go_on(seconds)])
            seconds = min(_LOOK_S, deadline.remaining_s())


def _able(pending: Sequence[Wait], ready: Sequence[Wait]) -> list[Wait]:
    """Those of the ready ones that can be done now: of those that go together, all or none."""
    if [each for each in pending if each.goes_with_others and each not in ready]:
        return [each for each in ready if not each.goes_with_others]
    return list(ready)


def _check(first: Wait, deadline: Deadline, is_closed: Callable[[], bool], reports: Reports) -> None:
    operation, call = first.operation, first.call
    what = "" if call is None else call.waits_for
    if is_closed():
        raise CancelledError(f"the session was closed while operation {operation.name} waited for {what}", op=operation)
    if not deadline.remaining_s():
        raise DeadlineExceededError(
            f"operation {operation.name} ({operation.type}) has waited {deadline.timeout_s:.1f} s for {what}, or wait "
            f"longer with RunOptions(timeout_in_ms=...)",
            op=operation,
            retryable=False,
        )
    if reports.is_due(deadline.elapsed_s()):
        _LOG.warning(
            "operation %s (%s) has waited %.0f s for %s", operation.name, operation.type, deadline.elapsed_s(), what
        )
