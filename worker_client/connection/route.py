"""The route to one ps task: at which address it is called now.

A ps may be started again at another address, and tells the other ps tasks. A client that gets no answer at the old
address asks those, and goes to the new one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias
from uuid import UUID

from ps_protocol.errors import ShardscopeError, UnavailableError
from ps_protocol.service_types import Welcome
from ps_protocol.stopped_clusters import check_not_stopped, note_started
from ps_protocol.task_id import TaskId
from worker_client.connection.retry import RetryPolicy
from worker_client.transport.endpoint import PsEndpoint

_LOG = logging.getLogger(__name__)

HELLO_TIMEOUT_S: Final = 2.0
"""Longest to wait for the answer to one hello."""

_MAX_CANDIDATES: Final = 3
_MAX_LEFT: Final = 4

Locate: TypeAlias = Callable[[TaskId, str], Sequence[str]]
"""Given a ps task and the address at which it does not answer, returns others where it may be, best first."""

Reconnect: TypeAlias = Callable[[str, TaskId], PsEndpoint]
"""Returns a ps task at an address; nothing is sent yet."""


class Route:
    """One thread at a time may call ``hello``; the rest is thread-safe.

    Args:
        endpoint: Where the ps is known to be; owned, as are those that take its place.
        task: Which ps task.
        client: Incarnation of the client.
        client_task: The client's own task, as "worker:1".
        num_ps_tasks: How many ps tasks its cluster spec has; 0 not to ask what the ps knows of its own cluster.
        locate: Finds other addresses; None if the ps is to stay where it is.
        reconnect: Makes the endpoint of one of them.

    Attributes:
        endpoint: The newest.
    """

    def __init__(
        self,
        endpoint: PsEndpoint,
        *,
        task: TaskId,
        client: UUID,
        client_task: str,
        num_ps_tasks: int = 0,
        locate: Locate | None,
        reconnect: Reconnect | None,
    ):
        self.endpoint = endpoint
        self._task = task
        self._client = client
        self._client_task = client_task
        self._num_ps_tasks = num_ps_tasks
        self._locate = locate
        self._reconnect = reconnect
        self._left: list[PsEndpoint] = []  # others may still be waiting for answers on them
        self._is_closed = False

    def hello(self, timeout_s: float) -> Welcome:
        """Says hello where the ps was; if it does not answer there, where it is now.

        Raises:
            FailedPreconditionError: This process has stopped it, and nothing listens there any more.
            ShardscopeError: As of the address that was known; retryable if nothing answers.
        """
        timeout_s = min(timeout_s, HELLO_TIMEOUT_S)
        try:
            return self._greet(self.endpoint, timeout_s)
        except ShardscopeError as error:
            if not RetryPolicy.is_worth_repeating(error):
                raise
            check_not_stopped(self.endpoint.address, str(self._task))
            welcome = self._hello_elsewhere(timeout_s)
            if welcome is None:
                raise
            return welcome

    def hello_again(self) -> None:
        """Says hello again. If the store is another one by now, the next batch finds out.

        Raises:
            UnavailableError: Nothing answers, or another ps task does; retryable.
            ShardscopeError: The ps will not talk to this client any more.
        """
        welcome = self.hello(HELLO_TIMEOUT_S)
        if welcome.task != str(self._task):
            raise UnavailableError(
                f"the process at {self.endpoint.address} is {welcome.task} now", task=str(self._task)
            )

    def probe(self) -> None:
        """Finds out whether the ps answers at all, and leaves everything as it is; raises if not."""
        self.endpoint.service.status(timeout_s=HELLO_TIMEOUT_S)

    def close(self) -> None:
        """Closes the endpoints."""
        self._is_closed = True
        for endpoint in [self.endpoint, *self._left]:
            endpoint.close()

    def _greet(self, endpoint: PsEndpoint, timeout_s: float) -> Welcome:
        welcome = endpoint.hello(self._client, self._client_task, num_ps_tasks=self._num_ps_tasks, timeout_s=timeout_s)
        note_started([endpoint.address])  # by whomever: a port is used again
        return welcome

    def become_copy(self, endpoint: PsEndpoint) -> None:
        """In a forked child: goes nowhere but to an endpoint that refuses, and drops those of the parent unclosed."""
        self._is_closed = True
        self._left.append(self.endpoint)  # kept, so that gRPC does not end what is the parent's
        for each in self._left:
            each.become_copy()
        self.endpoint = endpoint

    def _hello_elsewhere(self, timeout_s: float) -> Welcome | None:
        if self._locate is None or self._reconnect is None:
            return None
        for address in self._locate(self._task, self.endpoint.address)[:_MAX_CANDIDATES]:
            endpoint = self._reconnect(address, self._task)
            try:
                welcome = self._greet(endpoint, timeout_s)
            except ShardscopeError as error:
                _LOG.debug("%s is not at %s: %s", self._task, address, error.message)
            else:
                if welcome.task == str(self._task) and not self._is_closed:
                    self._go_to(endpoint)
                    return welcome
            endpoint.close()
        return None

    def _go_to(self, endpoint: PsEndpoint) -> None:
        _LOG.warning("%s has moved from %s to %s", self._task, self.endpoint.address, endpoint.address)
        self._left.append(self.endpoint)
        if len(self._left) > _MAX_LEFT:
            self._left.pop(0).close()
        self.endpoint = endpoint
        if self._is_closed:  # just now
            endpoint.close()
