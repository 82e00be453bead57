"""Waits until the chief, another task, has given variables their first values.

Waiting only asks the ps tasks whether their variables have one. The operations that were refused for lack of a value
are then sent again; nothing that was applied is sent twice.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from ps_protocol.errors import DeadlineExceededError, FailedPreconditionError, ShardscopeError
from ps_protocol.operations import Describe, Reply
from worker_client.connection.fanout import Fanout, Routed, succeeded
from worker_client.connection.retry import Deadline, Reports, RetryPolicy

_LOG = logging.getLogger(__name__)

_MAX_NAMES_SHOWN = 10


class InitializationWait:
    """Waits for the first values of variables, with a log line every few seconds. Thread-safe.

    Args:
        fanout: The way to the ps tasks.
        retry: Pauses between two questions.
        timeout_s: Bound on waiting, in seconds, where no other is given.
    """

    def __init__(self, fanout: Fanout, *, retry: RetryPolicy, timeout_s: float):
        self._fanout = fanout
        self._retry = retry
        self._timeout_s = timeout_s

    def exchange(self, routed: Sequence[Routed]) -> list[Reply]:
        """Carries out operations; those that need a value wait until it is there.

        An operation refused for lack of a value has changed nothing, so it may be sent again.

        Returns:
            One reply for each, in the order given.

        Raises:
            FailedPreconditionError: A variable still had no value when time ran out. What does not need it has been
                carried out.
            ShardscopeError: A whole task has failed; as ``Fanout.exchange_all``.
        """
        replies = self._fanout.exchange_all(routed)
        refused = [position for position, reply in enumerate(replies) if _lacks_value(routed[position], reply)]
        if refused:
            again = [routed[position] for position in refused]
            self.wait({each.operation.name: each.ps_task for each in again})
            for position, reply in zip(refused, self._fanout.exchange_all(again), strict=True):
                replies[position] = reply
        return replies

    def wait(self, tasks: Mapping[str, int | None], timeout_s: float | None = None) -> None:
        """Waits until variables have values.

        Args:
            tasks: Full names of declared variables, and the ps task of each.
            timeout_s: Bound on waiting, in seconds.

        Raises:
            FailedPreconditionError: One still had none when time ran out.
            ShardscopeError: A ps task could not be asked.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        missing = list(tasks)
        reports = Reports()

        def look(_: float) -> None:
            missing[:] = self._without_value(missing, tasks)
            if missing:
                raise FailedPreconditionError(f"{_listed(missing)} without a value", retryable=True)

        def waiting(_: ShardscopeError, so_far: Deadline) -> None:
            elapsed_s = so_far.elapsed_s()
            if reports.is_due(elapsed_s):
                _LOG.warning("waiting for the chief to initialise %s, %.0f s", _listed(missing), elapsed_s)

        what = f"the chief to initialise {_listed(missing)}"
        try:
            self._retry.call(look, timeout_s=timeout_s, what=what, on_failure=waiting)
        except DeadlineExceededError as error:
            if not isinstance(error.last_failure, FailedPreconditionError):
                raise
            raise FailedPreconditionError(
                f"{_listed(missing)} not initialised after {timeout_s:.0f} s of waiting for the chief; have the chief "
                f"run global_variables_initializer(), or wait longer",
                variable=missing[0],
            ) from None

    def _without_value(self, names: Sequence[str], tasks: Mapping[str, int | None]) -> list[str]:
        replies = self._fanout.exchange_all([Routed(tasks[name], Describe(name)) for name in names])
        return [name for name, reply in zip(names, replies, strict=True) if not succeeded(reply).initialized]


def _lacks_value(routed: Routed, reply: Reply) -> bool:
    # A subclass such as StateLostError is no lack of a value. No other task initialises what lives in this process.
    return routed.needs_value and routed.ps_task is not None and type(reply) is FailedPreconditionError


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MAX_NAMES_SHOWN])
    more = len(names) - _MAX_NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
