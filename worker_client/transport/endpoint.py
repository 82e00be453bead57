"""One address of a ps task: the services there, the transport that batches take to it, and what it offers for one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ps_protocol.checkpoints.service import PsService
from ps_protocol.forks import new_lock
from ps_protocol.ps_service import Transport
from ps_protocol.service_types import FastPath, Welcome


@dataclass(frozen=True, slots=True)
class Offer:
    """Given to the ``open_transport`` of a transport's module (``selection.TRANSPORTS``).

    Attributes:
        path: Where the ps can be reached.
        ticket: Admits one connection there, soon.
        shares_memory: Whether tensors may travel in shared memory.
        client: Incarnation of the client.
        task: The ps's name, as "ps:0", for errors.
        address: "host:port" of its gRPC service, whose host also stands for one that the path leaves out.
        again: Asks the ps once more, within so many seconds, for another ticket; None if it no longer offers this
            transport. Raises a ShardscopeError if the ps does not answer.
        reference: Takes the batches for which there is no connection; None if there must be no other way.
        give_up: Has all batches from now on take the reference; is given the transport and why.
    """

    path: FastPath
    ticket: bytes
    shares_memory: bool
    client: UUID
    task: str
    address: str
    again: Callable[[float], Offer | None]
    reference: Transport | None
    give_up: Callable[[Transport, str], None]


class PsEndpoint:
    """A ps task at one address. Thread-safe.

    Args:
        service: What is called there; owned.
        transport: The first that batches take, and the one to fall back to; owned.
        address: "host:port", for what is shown and for errors.
        for_reads: Whether it is only read there, so that it may be a backup.

    Attributes:
        service: What is called there.
        transport: What batches take now; another one may take its place.
        address: Where the ps is.
    """

    def __init__(self, service: PsService, transport: Transport, *, address: str, for_reads: bool = False):
        self.service: Final = service
        self.address: Final = address
        self.transport = transport
        self._reference = transport
        self._for_reads = for_reads
        self._is_closed = False
        self._lock = new_lock()  # guards: the change of transport, _is_closed; no other lock is taken under it

    def hello(self, client: UUID, task: str, *, num_ps_tasks: int = 0, timeout_s: float) -> Welcome:
        """Opens a conversation; ``ClusterService.hello``."""
        return self.service.hello(
            client, task, num_ps_tasks=num_ps_tasks, for_reads=self._for_reads, timeout_s=timeout_s
        )

    def goodbye(self, client: UUID, *, timeout_s: float) -> None:
        """Ends it."""
        self._change_to(self._reference)
        self.service.goodbye(client, timeout_s=timeout_s)

    def close(self) -> None:
        """Closes the transport and the service; the ps is left alone. May be repeated."""
        with self._lock:
            self._is_closed = True  # a hello that was interrupted may still open a transport
        self._change_to(self._reference)
        self._reference.close()
        self.service.close()

    def become_copy(self) -> None:
        """In a forked child: forgets the transport that was opened. Its descriptors are closed there by themselves."""
        self.transport = self._reference

    def _change_to(self, transport: Transport, *, only_from: Transport | None = None) -> bool:
        """Has batches take another transport, and closes the one before; returns whether it did.

        Args:
            transport: The other one.
            only_from: Leaves everything as it is if batches take another one than this by now.
        """
        with self._lock:
            before = self.transport
            if before is transport or only_from not in (None, before):
                return False
            if self._is_closed and transport is not self._reference:
                before = transport  # which comes too late
            else:
                self.transport = transport
        if before is not self._reference:
            before.close()
        return True
