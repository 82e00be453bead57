"""Reads at the backup of a ps task, beside those at its primary, for a client that asks for them (``read_from="any"``).

A backup answers a read only while it has every update that anybody was acknowledged, so that a client may ask either
process. Reads are shared out to the two by their bytes. What the backup does not answer soon goes to the primary, and
so do all reads until a thread here has been welcome at the backup again: nobody waits for a backup but the one read
that finds it gone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Final
from uuid import UUID

from ps_protocol.errors import InvalidArgumentError, ResourceExhaustedError, ShardscopeError
from ps_protocol.interrupts import is_interrupt
from ps_protocol.operations import Batch, Reply
from ps_protocol.task_id import TaskId
from worker_client.connection.retry import RetryPolicy
from worker_client.connection.route import Reconnect
from worker_client.transport.endpoint import PsEndpoint

_LOG = logging.getLogger(__name__)

PATIENCE_S: Final = 1.0
"""What a read may take at the backup, besides the time for its bytes, before the primary is asked."""

_SMALL_READ_BYTES: Final = 64 * 1024
"""So much of a large read takes as long as any read does."""

_HELLO_TIMEOUT_S: Final = 1.0
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 2.0
_LOOK_S: Final = 2.0
_STOP_TIMEOUT_S: Final = 2.0


class BackupReads:
    """The backup of one ps task. Thread-safe.

    Args:
        places: Where the cluster spec has the two processes of the task.
        task: Which ps task.
        client: Incarnation of the client, which the primary knows.
        client_task: The client's own task, as "worker:1".
        reconnect: Makes an endpoint that is only read at.
        retry: Says how long bytes may take.
    """

    def __init__(
        self,
        places: Sequence[str],
        *,
        task: TaskId,
        client: UUID,
        client_task: str,
        reconnect: Reconnect,
        retry: RetryPolicy,
    ):
        self._places = tuple(places)
        self._task = task
        self._client = client
        self._client_task = client_task
        self._reconnect = reconnect
        self._retry = retry
        self._primary: Callable[[], str] = lambda: ""
        # Each of these is read and set as a whole; what is late of them costs a read at the primary.
        self._endpoint: PsEndpoint | None = None  # while it is welcome there
        self._is_closed = False
        self._ahead_bytes = 0  # how much more was read at the primary; what two threads make wrong of it does no harm
        self._wanted: SimpleQueue[None] = SimpleQueue()
        self._lock = threading.Lock()  # guards: _endpoints, _thread, and their end; no other lock is taken under it
        self._endpoints: dict[str, PsEndpoint] = {}
        self._thread: threading.Thread | None = None
        self._last_reason = ""

    def start(self, primary: Callable[[], str]) -> None:
        """Starts the thread that looks for the backup; the client has said hello to the primary.

        Args:
            primary: Says where the primary is called now.
        """
        self._primary = primary
        with self._lock:
            if self._thread is None and not self._is_closed:
                thread = threading.Thread(target=self._run, name=f"shardscope-backup-of-{self._task}", daemon=True)
                thread.start()
                self._thread = thread

    # -- reads --------------------------------------------------------------------------------

    def turn(self, expected_reply_bytes: int | None, *, is_needed: bool) -> PsEndpoint | None:
        """Returns where the next read goes if that is the backup; None if it goes to the primary.

        Args:
            expected_reply_bytes: Of the read; one of unknown size goes to the primary, since no time can be set for it.
            is_needed: Whether the primary is away, so that it is not its turn.
        """
        endpoint = self._endpoint
        if endpoint is None or expected_reply_bytes is None:
            return None
        if endpoint.address == self._primary():
            self._leave(endpoint, "it is the primary now")
            return None
        if is_needed:
            return endpoint
        is_backups = self._ahead_bytes > 0
        size_bytes = expected_reply_bytes + _SMALL_READ_BYTES
        self._ahead_bytes += -size_bytes if is_backups else size_bytes
        return endpoint if is_backups else None

    def timeout_s(self, size_bytes: int, most_s: float) -> float:
        """Seconds that the backup has for a read of so many bytes; half of ``most_s`` is left for the primary."""
        return min(PATIENCE_S + size_bytes / self._retry.bytes_per_s, most_s / 2)

    def answer(self, batch: Batch, *, timeout_s: float, is_needed: bool) -> tuple[Reply, ...] | None:
        """Has a batch that only reads answered by the backup; None if the primary is to be asked. Raises interrupts."""
        endpoint = self.turn(batch.expected_reply_bytes, is_needed=is_needed)
        if endpoint is None:
            return None
        try:
            timeout_s = self.timeout_s(batch.expected_reply_bytes or 0, timeout_s)
            return endpoint.transport.exchange(batch, timeout_s=timeout_s).replies
        except ShardscopeError as error:
            if is_interrupt(error):
                raise
            self.failed(endpoint, error)
            return None

    def failed(self, endpoint: PsEndpoint, error: ShardscopeError) -> None:
        """Notes that the backup has not answered a read; the caller asks the primary."""
        if not isinstance(error, InvalidArgumentError | ResourceExhaustedError):  # which say nothing about the next
            self._leave(endpoint, error.message)

    def _leave(self, endpoint: PsEndpoint, reason: str) -> None:
        if self._endpoint is endpoint:
            self._endpoint = None
            _LOG.info("%s is read at its primary alone, not at %s: %s", self._task, endpoint.address, reason)
            self._wanted.put(None)

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._is_closed:
            is_welcome = False
            try:
                is_welcome = self._endpoint is not None or self._connect()
            except Exception as defect:  # noqa: BLE001 - reads go to the primary, and the next try follows
                self._note(f"{type(defect).__name__}: {defect}")
            pause_s = _FIRST_PAUSE_S if is_welcome else min(2 * pause_s, _LONGEST_PAUSE_S)
            if self._is_woken(_LOOK_S if is_welcome else pause_s):
                self._is_woken(_FIRST_PAUSE_S)  # who has refused a read just now refuses the next one too

    def _is_woken(self, timeout_s: float) -> bool:
        if self._is_closed:
            return False
        try:
            self._wanted.get(timeout=timeout_s)
        except Empty:
            return False
        return True

    def _connect(self) -> bool:
        """Says hello where the backup may be; returns whether it may be read there."""
        for address in [each for each in self._places if each != self._primary()]:
            endpoint = self._endpoint_at(address)
            if endpoint is None:
                return False
            try:
                welcome = endpoint.hello(self._client, self._client_task, timeout_s=_HELLO_TIMEOUT_S)
            except ShardscopeError as error:
                self._note(error.message)
            else:
                if welcome.task == str(self._task):
                    self._last_reason = ""
                    _LOG.info("%s is read at %s too", self._task, address)
                    self._endpoint = endpoint
                    return True
        return False

    def _note(self, reason: str) -> None:
        if reason != self._last_reason:
            self._last_reason = reason
            _LOG.debug("%s is not read at its backup: %s", self._task, reason)

    def _endpoint_at(self, address: str) -> PsEndpoint | None:
        """The endpoint at a place; None if all are closed."""
        with self._lock:
            if self._is_closed:
                return None
            if address not in self._endpoints:
                self._endpoints[address] = self._reconnect(address, self._task)
            return self._endpoints[address]

    # -- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """Closes the connections; no read is on its way."""
        with self._lock:
            self._is_closed, self._endpoint = True, None
            endpoints, thread = list(self._endpoints.values()), self._thread
        self._wanted.put(None)
        for endpoint in endpoints:
            endpoint.close()
        if thread is not None:
            thread.join(_STOP_TIMEOUT_S)

    def become_copy(self) -> None:
        """In a forked child: reads nowhere, and keeps what is the parent's unclosed."""
        self._is_closed, self._endpoint, self._thread = True, None, None
        for endpoint in self._endpoints.values():
            endpoint.become_copy()
