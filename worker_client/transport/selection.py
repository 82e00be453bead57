"""The transports, and the choice among them: the fastest that a ps offers and that can be reached, else gRPC."""

from __future__ import annotations

import enum
import importlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from ps_protocol.checkpoints.service import PsService
from ps_protocol.errors import ShardscopeError, UnavailableError
from ps_protocol.interrupts import sheltered
from ps_protocol.memory.segment_mapping import IS_SUPPORTED
from ps_protocol.ps_service import Transport
from ps_protocol.service_types import FastPath, FastPathKind, Welcome
from worker_client.transport.endpoint import Offer, PsEndpoint
from worker_client.transport.hosting import PsHost

_LOG = logging.getLogger(__name__)

_HELLO_TIMEOUT_S: Final = 2.0


class TransportChoice(enum.StrEnum):
    """Ways for batches to a ps task."""

    AUTO = "auto"
    """The fastest that can be reached."""
    GRPC = "grpc"
    """The reference."""
    SOCKET = "socket"
    """A Unix or TCP socket, whichever can be reached."""
    TCP = "tcp"
    UNIX = "unix"
    SHM = "shm"
    """A Unix socket, and tensors in shared memory."""


class ReadFrom(enum.StrEnum):
    """Which processes of a replicated ps task a client reads from."""

    PRIMARY = "primary"
    ANY = "any"
    """The backup too."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """A transport: what it needs and where it is.

    Attributes:
        module: Imported when it is first used, since gRPC and protobuf take longer to import than all else. It has
            ``open_transport(Offer) -> Transport``, which raises an OSError or a ShardscopeError if it reaches no ps.
        kind: Of the paths that it can take; None for gRPC, which a ps always offers, and whose module has ``connect``.
        shares_memory: Whether tensors travel in shared memory, which a path must offer then.
    """

    module: str
    kind: FastPathKind | None
    shares_memory: bool = False

    def fits(self, path: FastPath) -> bool:
        """Whether it can take a path that a ps offers."""
        return path.kind is self.kind and (not self.shares_memory or (IS_SUPPORTED and path.shared_memory))

    def open(self, offer: Offer) -> Transport:
        """Opens it; errors as of its module."""
        transport: Transport = importlib.import_module(self.module).open_transport(offer)
        return transport


_SOCKETS: Final = "worker_client.transport.sockets.path"

TRANSPORTS: Final[Mapping[TransportChoice, Scheme]] = {
    TransportChoice.GRPC: Scheme("worker_client.transport.grpc", None),
    TransportChoice.TCP: Scheme(_SOCKETS, FastPathKind.TCP),
    TransportChoice.UNIX: Scheme(_SOCKETS, FastPathKind.UNIX),
    TransportChoice.SHM: Scheme(_SOCKETS, FastPathKind.UNIX, shares_memory=True),
}
"""All transports. A new one is a module, a row here, and a place in the orders below."""

_ORDERS: Final[Mapping[TransportChoice, Sequence[TransportChoice]]] = {
    TransportChoice.AUTO: (TransportChoice.SHM, TransportChoice.UNIX, TransportChoice.TCP),
    TransportChoice.SOCKET: (TransportChoice.UNIX, TransportChoice.TCP),
}
"""What is tried, best first, for a choice that names several."""


def private_store(*, job_seed: int = 0) -> PsEndpoint:
    """Returns a ps task of this process alone; ``in_process.private_store``, which few processes need and so import."""
    endpoint: PsEndpoint = sheltered(importlib.import_module, "worker_client.transport.in_process").private_store(
        job_seed=job_seed
    )
    return endpoint


def host_ps(options: Mapping[str, object]) -> PsHost:
    """Starts a ps task in this process; ``in_process.host_ps``, which only ps tasks need and so import."""
    host: PsHost = importlib.import_module("worker_client.transport.in_process").host_ps(options)
    return host


def connect_endpoint(
    address: str, task: str, choice: TransportChoice = TransportChoice.AUTO, *, for_reads: bool = False
) -> PsEndpoint:
    """Returns the way to a ps task; nothing is sent yet, and the ps need not be there.

    Args:
        address: "host:port" of its gRPC service.
        task: Its name, as "ps:0".
        choice: How batches are to reach it.
        for_reads: Whether it is only read there, so that it may be a backup.
    """
    module = sheltered(importlib.import_module, TRANSPORTS[TransportChoice.GRPC].module)
    grpc = sheltered(module.connect, address, task=task)
    if choice is TransportChoice.GRPC:
        return PsEndpoint(grpc, grpc, address=address, for_reads=for_reads)
    return SelectingEndpoint(grpc, grpc, task=task, address=address, choice=choice, for_reads=for_reads)


class SelectingEndpoint(PsEndpoint):
    """An endpoint that with each hello has batches take the best transport. Thread-safe.

    Args:
        service: What is called there; owned.
        reference: The transport that is always there; owned.
        task: The ps's name, as "ps:0", for errors and the log.
        address: "host:port" of its gRPC service.
        choice: Which transports may be used.
        for_reads: Whether it is only read there, so that it may be a backup.
    """

    def __init__(
        self,
        service: PsService,
        reference: Transport,
        *,
        task: str,
        address: str,
        choice: TransportChoice,
        for_reads: bool = False,
    ):
        super().__init__(service, reference, address=address, for_reads=for_reads)
        self._task = task
        self._choice = choice
        self._order = [TRANSPORTS[each] for each in _ORDERS.get(choice, (choice,))]
        self._falls_back = choice is TransportChoice.AUTO

    def hello(self, client: UUID, task: str, *, num_ps_tasks: int = 0, timeout_s: float) -> Welcome:
        """Opens a conversation, and the transport for it.

        Raises:
            UnavailableError: The ps does not answer, or not over a transport that may be used.
        """

        def greet(timeout_s: float) -> Welcome:
            return self.service.hello(
                client, task, num_ps_tasks=num_ps_tasks, for_reads=self._for_reads, timeout_s=timeout_s
            )

        welcome = greet(timeout_s)
        self._change_to(self._opened(welcome, client, greet))
        return replace(welcome, ticket=b"")  # used up, or not wanted

    def _opened(self, welcome: Welcome, client: UUID, greet: Callable[[float], Welcome]) -> Transport:
        failures = []
        for scheme, path in self._ways(welcome):
            try:
                transport = scheme.open(self._offer(scheme, path, welcome, client, greet))
            except (OSError, ShardscopeError) as error:
                failures.append(f"{path.kind.name} {path.address}: {error}")
            else:
                _LOG.info(
                    "batches to %s at %s go over a %s socket%s",
                    self._task,
                    self.address,
                    path.kind.name,
                    " and shared memory" if scheme.shares_memory else "",
                )
                return transport
        reason = self._reason(failures)
        if not self._falls_back:
            raise UnavailableError(
                f"{self._task} at {self.address} answers, but {reason}, or use another transport", task=self._task
            )
        _LOG.warning("batches to %s at %s go over gRPC: %s", self._task, self.address, reason)
        return self._reference

    def _ways(self, welcome: Welcome) -> Iterator[tuple[Scheme, FastPath]]:
        """What can be tried, best first; each path once."""
        paths = list(welcome.fast_paths)
        for scheme in self._order:
            for path in filter(scheme.fits, tuple(paths)):
                paths.remove(path)
                yield scheme, path

    def _offer(
        self, scheme: Scheme, path: FastPath, welcome: Welcome, client: UUID, greet: Callable[[float], Welcome]
    ) -> Offer:
        def again(timeout_s: float) -> Offer | None:
            now = greet(min(timeout_s, _HELLO_TIMEOUT_S))
            there = next(filter(scheme.fits, now.fast_paths), None)
            return None if there is None else self._offer(scheme, there, now, client, greet)

        return Offer(
            path,
            welcome.ticket,
            scheme.shares_memory,
            client,
            self._task,
            self.address,
            again,
            reference=self._reference if self._falls_back else None,
            give_up=self._give_up,
        )

    def _give_up(self, transport: Transport, reason: str) -> None:
        if self._change_to(self._reference, only_from=transport):
            _LOG.warning("batches to %s at %s go over gRPC from now on: %s", self._task, self.address, reason)

    def _reason(self, failures: Sequence[str]) -> str:
        """Why no transport could be opened, and the remedy."""
        if failures:
            return f"it cannot be reached otherwise ({'; '.join(failures)}); open its --socket-port to this host"
        if self._choice is TransportChoice.SHM:
            return "it shares no memory with this host; start it there with --transports grpc,socket,shm"
        kinds = " or ".join(dict.fromkeys(each.kind.name for each in self._order if each.kind is not None))
        return f"it offers no {kinds} socket; start it with --transports grpc,socket"
