"""Chooses how batches reach a ps task: over the fastest way that it offers and that can be reached, else over gRPC."""

from __future__ import annotations

import enum
import logging
import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from ps_protocol.errors import FailedPreconditionError, ShardscopeError, UnavailableError
from ps_protocol.operations import Array, Batch, BatchReply
from ps_protocol.ps_service import PendingExchange, PsService
from ps_protocol.segment_mapping import IS_SUPPORTED
from ps_protocol.service_types import (
    FastPath,
    FastPathKind,
    Member,
    Placement,
    Proposal,
    PsAddress,
    Status,
    VariableInfo,
    Welcome,
)
from worker_client.transport import grpc
from worker_client.transport.segment_connection import SegmentConnection
from worker_client.transport.segment_pool import SegmentPool
from worker_client.transport.socket_addresses import connect
from worker_client.transport.socket_connection import SocketConnection
from worker_client.transport.socket_path import NoConnectionError, SocketPath

_LOG = logging.getLogger(__name__)

ENVIRONMENT_VARIABLE: Final = "SHARDSCOPE_TRANSPORT"

_CONNECT_TIMEOUT_S: Final = 2.0
"""Longest that one way to connect is tried; where a firewall drops what is sent, nothing else ends it."""

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


_KINDS: Final[Mapping[TransportChoice, Sequence[FastPathKind]]] = {
    TransportChoice.AUTO: (FastPathKind.UNIX, FastPathKind.TCP),
    TransportChoice.SOCKET: (FastPathKind.UNIX, FastPathKind.TCP),
    TransportChoice.TCP: (FastPathKind.TCP,),
    TransportChoice.UNIX: (FastPathKind.UNIX,),
    TransportChoice.SHM: (FastPathKind.UNIX,),
}


def transport_choice(name: str | None, environ: Mapping[str, str] = os.environ) -> TransportChoice:
    """Returns the choice of that name; without one, that of ``SHARDSCOPE_TRANSPORT``, or else "auto".

    Raises:
        ValueError: There is none of that name.
    """
    source, value = "transport", name
    if value is None:
        source, value = ENVIRONMENT_VARIABLE, environ.get(ENVIRONMENT_VARIABLE) or TransportChoice.AUTO
    try:
        return TransportChoice(value)
    except ValueError:
        known = ", ".join(TransportChoice)
        raise ValueError(f"{source} is {value!r}; it should be one of {known}.") from None


def connect_service(address: str, task: str, choice: TransportChoice = TransportChoice.AUTO) -> PsService:
    """Returns a way to a ps task; nothing is sent yet, and the ps need not be there.

    Args:
        address: "host:port" of its gRPC service.
        task: Its name, as "ps:0".
        choice: How batches are to reach it.
    """
    service = grpc.connect(address, task=task)
    if choice is TransportChoice.GRPC:
        return service
    return SelectingPsService(service, task=task, address=address, choice=choice)


class SelectingPsService:
    """A ``PsService`` that exchanges batches over the fastest way and does everything else over gRPC. Thread-safe.

    What a batch changes counts once whichever way it goes, and if it goes by two: the ps knows it by its client and
    its sequence number. So a batch whose reply was lost on a socket may be sent again over gRPC.

    Args:
        service: The gRPC way; owned.
        task: The ps's name, as "ps:0", for errors and the log.
        address: "host:port" of its gRPC service.
        choice: Which ways may be used.
    """

    def __init__(self, service: PsService, *, task: str, address: str, choice: TransportChoice):
        self._grpc = service
        self._task = task
        self._address = address
        self._host = address.rpartition(":")[0]
        self._choice = choice
        # guards: _path, _segments, _identity; no other lock is taken under it
        self._lock = threading.Lock()
        self._path: SocketPath | None = None
        self._segments: SegmentPool | None = None
        self._identity: tuple[UUID, str] | None = None

    @property
    def uses_sockets(self) -> bool:
        """Whether batches go over a faster way than gRPC."""
        return self._path is not None

    # -- data ---------------------------------------------------------------------------------

    def hello(self, client: UUID, task: str, *, timeout_s: float) -> Welcome:
        welcome = self._grpc.hello(client, task, timeout_s=timeout_s)
        with self._lock:
            self._identity = (client, task)
        if self._choice is not TransportChoice.GRPC:
            self._choose(welcome, client)
        return replace(welcome, ticket=b"")  # used up, or not wanted

    def goodbye(self, client: UUID, *, timeout_s: float) -> None:
        self._replace_path(None)
        self._grpc.goodbye(client, timeout_s=timeout_s)

    def exchange(self, batch: Batch, *, timeout_s: float) -> BatchReply:
        path = self._path
        if path is None:
            # Also before hello and after goodbye, when the ps refuses it whatever way it comes.
            return self._grpc.exchange(batch, timeout_s=timeout_s)
        started_s = time.monotonic()
        try:
            return path.exchange(batch, timeout_s=timeout_s)
        except NoConnectionError as error:
            if self._choice is not TransportChoice.AUTO:
                raise
            self._fall_back(path, error)
        return self._grpc.exchange(batch, timeout_s=timeout_s - (time.monotonic() - started_s))

    def begin(self, batch: Batch, *, timeout_s: float) -> PendingExchange | None:
        """Sends a batch without waiting for its reply, where that is possible; ``PipelinedTransport.begin``."""
        path = self._path
        return None if path is None else path.begin(batch, timeout_s=timeout_s)

    # -- choosing -----------------------------------------------------------------------------

    def new_buffer(self, size_bytes: int, *, timeout_s: float) -> Array | None:
        """Returns memory shared with the ps, as a uint8 array to write to; tensors in it need not be copied to be sent.

        None if no memory is shared.
        """
        segments = self._segments
        lease = None if segments is None else segments.lease(size_bytes, timeout_s=timeout_s)
        return None if lease is None else lease.array(writable=True)

    def _choose(self, welcome: Welcome, client: UUID) -> None:
        segments = SegmentPool(self._open_for_segments, task=self._task)
        try:
            connection, path = self._connected(welcome, client, _CONNECT_TIMEOUT_S, segments)
        except UnavailableError as error:
            self._replace_path(None)
            if self._choice is not TransportChoice.AUTO:
                raise
            _LOG.warning("batches to %s at %s go over gRPC: %s", self._task, self._address, error.message)
            return
        chosen = SocketPath(self._open_another, task=self._task, address=self._address)
        chosen.add(connection)
        shares = self._may_share(path)
        self._replace_path(chosen, segments if shares else None)
        _LOG.info(
            "batches to %s at %s go over a %s socket%s",
            self._task,
            self._address,
            path.kind.name,
            " and shared memory" if shares else "",
        )

    def _replace_path(self, path: SocketPath | None, segments: SegmentPool | None = None) -> None:
        with self._lock:
            before, self._path = self._path, path
            segments_before, self._segments = self._segments, segments
        if before is not None:
            before.close()
        if segments_before is not None:
            segments_before.close()

    def _may_share(self, path: FastPath) -> bool:
        return (
            IS_SUPPORTED
            and path.shared_memory
            and path.kind is FastPathKind.UNIX
            and self._choice in (TransportChoice.AUTO, TransportChoice.SHM)
        )

    def _fall_back(self, path: SocketPath, error: NoConnectionError) -> None:
        """Leaves a way that no connection can be opened on, if that is not for lack of the ps itself."""
        if isinstance(error.__cause__, _NoWayError) and not path.num_connections:
            with self._lock:
                is_first = self._path is path
                if is_first:
                    self._path = None
            if is_first:
                path.close()
                _LOG.warning(
                    "batches to %s at %s go over gRPC from now on: %s", self._task, self._address, error.message
                )

    def _open_another(self, timeout_s: float) -> SocketConnection:
        """Opens one more connection, for which the ps gives a ticket in its answer to another hello."""
        with self._lock:
            identity, segments = self._identity, self._segments
        if identity is None:
            raise FailedPreconditionError(f"not connected to {self._task} yet; say hello first", task=self._task)
        client, task = identity
        welcome = self._grpc.hello(client, task, timeout_s=min(timeout_s, _HELLO_TIMEOUT_S))
        return self._connected(welcome, client, min(timeout_s, _CONNECT_TIMEOUT_S), segments)[0]

    def _open_for_segments(self, timeout_s: float) -> SegmentConnection:
        """Opens one more connection, for nothing but shared memory."""
        sock = self._open_another(timeout_s).sock
        if sock.family != socket.AF_UNIX:
            sock.close()
            raise UnavailableError(f"{self._task} can be reached, but not over a Unix socket", task=self._task)
        return SegmentConnection(sock, task=self._task)

    def _connected(
        self, welcome: Welcome, client: UUID, timeout_s: float, segments: SegmentPool | None
    ) -> tuple[SocketConnection, FastPath]:
        """Opens a connection over the best way that can be reached.

        Raises:
            _NoWayError: There is none; the message says what was tried.
        """
        failures = []
        for kind in _KINDS[self._choice]:
            for path in welcome.fast_paths:
                if path.kind is kind and (self._choice is not TransportChoice.SHM or self._may_share(path)):
                    shared = segments if self._may_share(path) else None
                    try:
                        return self._connected_over(path, client, welcome.ticket, timeout_s, shared), path
                    except (OSError, ShardscopeError) as error:
                        failures.append(f"{kind.name} {path.address}: {error}")
        kinds = " or ".join(kind.name for kind in _KINDS[self._choice])
        if failures:
            reason = f"it cannot be reached otherwise ({'; '.join(failures)}); open its --socket-port to this host"
        elif self._choice is TransportChoice.SHM:
            reason = "it shares no memory with this host; start it there with --transports grpc,socket,shm"
        else:
            reason = f"it offers no {kinds} socket; start it with --transports grpc,socket"
        if self._choice is not TransportChoice.AUTO:
            reason = f"{self._task} at {self._address} answers, but {reason}, or use another transport"
        raise _NoWayError(reason, task=self._task)

    def _connected_over(
        self, path: FastPath, client: UUID, ticket: bytes, timeout_s: float, segments: SegmentPool | None
    ) -> SocketConnection:
        sock = connect(path, self._host, timeout_s)
        connection = SocketConnection(sock, client, task=self._task, address=self._address, segments=segments)
        try:
            connection.shake_hands(ticket, timeout_s)
        except BaseException:
            connection.close()
            raise
        return connection

    # -- everything else ----------------------------------------------------------------------

    def place(
        self, proposals: Sequence[Proposal], *, store: UUID | None = None, timeout_s: float
    ) -> list[Placement | ShardscopeError]:
        return self._grpc.place(proposals, store=store, timeout_s=timeout_s)

    def list_placements(self, *, timeout_s: float) -> list[Placement]:
        return self._grpc.list_placements(timeout_s=timeout_s)

    def join(
        self,
        task: str,
        incarnation: UUID,
        host: str,
        pid: int,
        *,
        lease_s: float = 0.0,
        age_s: float = 0.0,
        timeout_s: float,
    ) -> None:
        self._grpc.join(task, incarnation, host, pid, lease_s=lease_s, age_s=age_s, timeout_s=timeout_s)

    def leave(self, task: str, incarnation: UUID, *, timeout_s: float) -> None:
        self._grpc.leave(task, incarnation, timeout_s=timeout_s)

    def report_progress(self, task: str, incarnation: UUID, step: int, *, timeout_s: float) -> None:
        self._grpc.report_progress(task, incarnation, step, timeout_s=timeout_s)

    def list_members(self, *, timeout_s: float) -> list[Member]:
        return self._grpc.list_members(timeout_s=timeout_s)

    def heartbeat(self, task: str, incarnation: UUID, step: int | None = None, *, timeout_s: float) -> None:
        self._grpc.heartbeat(task, incarnation, step, timeout_s=timeout_s)

    def announce(
        self, address: PsAddress, host: str, pid: int, *, lease_s: float = 0.0, age_s: float = 0.0, timeout_s: float
    ) -> list[PsAddress]:
        return self._grpc.announce(address, host, pid, lease_s=lease_s, age_s=age_s, timeout_s=timeout_s)

    def list_addresses(self, *, timeout_s: float) -> list[PsAddress]:
        return self._grpc.list_addresses(timeout_s=timeout_s)

    def list_variables(self, *, timeout_s: float) -> list[VariableInfo]:
        return self._grpc.list_variables(timeout_s=timeout_s)

    def status(self, *, timeout_s: float) -> Status:
        return self._grpc.status(timeout_s=timeout_s)

    def drain(self, reason: str, *, timeout_s: float) -> None:
        self._grpc.drain(reason, timeout_s=timeout_s)

    def shutdown(self, reason: str, *, timeout_s: float) -> None:
        self._grpc.shutdown(reason, timeout_s=timeout_s)

    def close(self) -> None:
        self._replace_path(None)
        self._grpc.close()


class _NoWayError(UnavailableError):
    """The ps answers, but none of the ways that may be used leads to it."""
