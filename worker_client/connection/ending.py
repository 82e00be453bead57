"""How a connection ends: how long what is queued is waited for, and what is said of what is given up."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Self

from ps_protocol.errors import CancelledError, FailedPreconditionError
from ps_protocol.operations import PsOperation, mutates
from worker_client.connection.forgotten_failures import FORGOTTEN
from worker_client.connection.pending_queue import Submission
from worker_client.connection.retry import Deadline

_LOG = logging.getLogger(__name__)

EXIT_GRACE_S: Final = 10.0
"""How long the end of a program waits for what is queued."""

HASTY_GRACE_S: Final = 2.0
"""The same after Ctrl-C; and after an error, if the ps is away."""

_LEAST_S: Final = 0.2  # for a last word
_MAX_NAMED: Final = 5


class Ending:
    """The end of a connection that must not take long. One for all its ps tasks, which share the time.

    Args:
        there_s: How long what is queued is waited for while the ps is there, in seconds.
        away_s: The same if the ps is away; not longer.
        is_crash: Whether the program has failed: then the cluster is not told that this task has left, and shows it
            as dead.
        is_good: Whether the program has ended as it should, and only left the connection open.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        there_s: float,
        away_s: float,
        is_crash: bool = False,
        is_good: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.is_crash = is_crash
        self.is_good = is_good
        self._there = Deadline(there_s, clock)
        self._away = Deadline(away_s, clock)

    @classmethod
    def by(cls, error: BaseException | None, clock: Callable[[], float] = time.monotonic) -> Self | None:
        """Returns how to end a connection whose block is left by an error; None if it ends in good order."""
        if error is None:
            return None
        if isinstance(error, KeyboardInterrupt):
            return cls(there_s=HASTY_GRACE_S, away_s=HASTY_GRACE_S, clock=clock)
        is_crash = not isinstance(error, SystemExit | GeneratorExit)
        return cls(there_s=EXIT_GRACE_S, away_s=HASTY_GRACE_S, is_crash=is_crash, clock=clock)

    @classmethod
    def of_program(cls, clock: Callable[[], float] = time.monotonic) -> Self:
        """Returns how to end a connection that is still open when the interpreter ends."""
        error = sys.exc_info()[1]  # in a child of multiprocessing, which ends while the error is on its way
        if not hasattr(sys, "ps1"):  # an interactive session has not ended by the last of its errors
            error = error or getattr(sys, "last_value", None)
        return cls.by(error, clock) or cls(there_s=EXIT_GRACE_S, away_s=EXIT_GRACE_S, is_good=True, clock=clock)

    def join(self, thread: threading.Thread, *, is_away: Callable[[], bool]) -> None:
        """Waits for the end of the thread that sends what is queued, as long as it may take."""
        thread.join(self._away.remaining_s())
        if thread.is_alive() and not is_away():
            thread.join(self._there.remaining_s())

    def at_most(self, timeout_s: float) -> float:
        """Returns how long a last call may take that otherwise may take ``timeout_s``."""
        return min(timeout_s, max(_LEAST_S, self._away.remaining_s()))


def take_steps(steps: Sequence[Callable[[Ending | None], None]], ending: Ending | None) -> None:
    """Takes all steps of an end, the rest of them in haste after one that was interrupted; raises what did that."""
    failure: BaseException | None = None
    for step in steps:
        try:
            step(ending)
        except BaseException as error:  # noqa: BLE001 - raised below
            failure, ending = error, Ending.by(error)
    FORGOTTEN.flush()
    if failure is not None:
        raise failure


def number_of_updates(batches: Iterable[Iterable[PsOperation]]) -> str:
    """Returns how many updates there are in some batches, and of which variables: "3 updates (v: 2, w: 1)"."""
    counts = Counter(each.name for operations in batches for each in operations if mutates((each,)))
    names = [f"{name}: {count}" for name, count in counts.most_common(_MAX_NAMED)]
    if len(counts) > _MAX_NAMED:
        names.append(f"and {len(counts) - _MAX_NAMED} other variables")
    return f"{counts.total()} updates" + (f" ({', '.join(names)})" if names else "")


def closed_connection(task: str, *, variable: str = "") -> FailedPreconditionError:
    """Returns the error for a call by a connection to a ps task that is closed."""
    return FailedPreconditionError(f"the connection to {task} is closed; connect again", variable=variable, task=task)


def given_up(task: str, address: str) -> CancelledError:
    """Returns the error of a batch on its way that was given up when its connection was closed."""
    return CancelledError(
        f"the connection was closed before {task} at {address} answered; this batch may or may not have been applied",
        task=task,
    )


def tell_what_is_lost(
    abandoned: Sequence[Submission], on_their_way: Sequence[Submission], task: str, address: str, waited_s: float
) -> None:
    """Says of a connection that is closed what is not waited for any longer, in the log and to the futures.

    Args:
        abandoned: What was not sent.
        on_their_way: What was sent and has not been answered.
        task: The ps task.
        address: Where it was called.
        waited_s: How long they were waited for.
    """
    _LOG.error(
        "the connection to %s at %s is closed, and after %.1f s no longer waits for it: %s were not sent and are lost; "
        "%s were on their way and may or may not have been applied",
        task,
        address,
        waited_s,
        number_of_updates(each.operations for each in abandoned),
        number_of_updates(each.operations for each in on_their_way),
    )
    for pending in abandoned:
        pending.future.set_exception(
            CancelledError(
                f"the connection was closed before {task} at {address} took this batch; nothing of it was applied",
                task=task,
            )
        )
