"""The floods that a ps has to bear: what strangers and clients with a right may do to its transports.

A flood is a generator. Its first step begins it, each further one goes on with it, some twenty times a second; it ends
when it is closed. What it holds it enters in ``Attacker.stack``, what has happened in ``Attacker.counts``, so that a
flood that did not take place is seen. A new one is a function, and a row in ``FLOODS``. They go to 127.0.0.1 alone.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

import numpy as np

import worker_client as ss
from benchmarks.flood_kinds import grpc
from benchmarks.harness.contestants import TRANSPORTS
from ps_protocol.codec.message_codec import encode_batch
from ps_protocol.memory.regions import Region, encode_regions
from ps_protocol.operations import Batch, PsOperation, Read, Update, UpdateRule
from ps_protocol.service_types import FastPathKind, Welcome
from ps_protocol.sockets.frames import ANSWER_BYTES, FrameKind, Verdict, encode_hello, encode_prefix, parse_answer
from worker_client.transport.selection import TransportChoice, connect_endpoint

LARGE: Final = "large"
"""Name of a variable of ``LARGE_BYTES`` that the ps holds."""

LARGE_BYTES: Final = 16 * 1024**2
PS_ARGUMENTS: Final = ("--shared-memory-limit", "256M")
"""Of the ps: a limit so low that a flood reaches it without taking the machine's memory."""

_TIMEOUT_S: Final = 20.0
_TASK: Final = "ps:0"
_EIGHT_TIB: Final = 8 * 1024**4
_SEGMENT_BYTES: Final = 1024**2


class Attacker:
    """What makes one flood against one ps.

    Args:
        cluster_spec: The cluster of the ps, which is its only one, at 127.0.0.1.
        transport: Of the client that is watched; the flood comes by the same one, or by TCP if that is gRPC.
        count: How many connections the flood has.

    Attributes:
        address: Where the ps's gRPC service is.
        stack: Closes what the flood holds.
        counts: What has happened.
    """

    def __init__(self, cluster_spec: ss.ClusterSpec, transport: str, count: int):
        (self.address,) = cluster_spec.ps_addresses()
        if not self.address.startswith("127.0.0.1:"):
            raise ValueError(f"a flood goes to 127.0.0.1 alone, not to {self.address}")
        self.count = count
        self.stack = contextlib.ExitStack()
        self.counts: Counter[str] = Counter()
        self._opened: list[socket.socket] = []
        self._kind = FastPathKind.UNIX if transport in ("unix", "shm") else FastPathKind.TCP
        self._endpoint = connect_endpoint(self.address, _TASK, TransportChoice.GRPC)
        self.stack.callback(self._endpoint.close)
        (self._path,) = [each for each in self.hello(uuid4()).fast_paths if each.kind is self._kind]

    def hello(self, client: UUID) -> Welcome:
        """Says hello over gRPC."""
        return self._endpoint.hello(client, "evaluator:0", timeout_s=_TIMEOUT_S)

    def dial(self) -> socket.socket:
        """Opens a connection without a right."""
        if self._kind is FastPathKind.UNIX:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._opened.append(sock)
            sock.settimeout(_TIMEOUT_S)
            sock.connect(b"\0" + self._path.address.encode())
        else:
            sock = socket.create_connection(("127.0.0.1", int(self._path.address.rpartition(":")[2])), _TIMEOUT_S)
            self._opened.append(sock)
        self.counts["connections"] += 1
        return sock

    def admitted(self) -> AdmittedPeer:
        """Opens a connection with a right of its own."""
        client = uuid4()
        welcome, sock = self.hello(client), self.dial()
        sock.sendall(encode_hello(client, welcome.ticket))
        if parse_answer(sock.recv(ANSWER_BYTES, socket.MSG_WAITALL)) is not Verdict.ACCEPTED:
            raise RuntimeError("the ps has refused a connection of the flood that has a right")
        sock.setblocking(False)
        return AdmittedPeer(sock, client, welcome.store)

    def still_open(self, socks: list[socket.socket]) -> list[socket.socket]:
        """Closes those that the ps has ended, and counts them; returns the others."""
        poll = select.poll()
        for sock in socks:
            poll.register(sock, select.POLLRDHUP)
        ended = {descriptor for descriptor, _ in poll.poll(0)}
        self.counts["ended by the ps"] += len(ended)
        still_open = []
        for sock in socks:
            if sock.fileno() in ended:
                sock.close()
            else:
                still_open.append(sock)
        return still_open

    def close(self) -> None:
        """Ends the flood."""
        self.stack.close()
        for sock in self._opened:
            sock.close()


@dataclass(frozen=True)
class AdmittedPeer:
    """A connection that has shown its ticket.

    Attributes:
        sock: The connection.
        client: Whose it is.
        store: Of the ps.
    """

    sock: socket.socket
    client: UUID
    store: UUID

    def frame(self, operation: PsOperation) -> bytes:
        """A whole request with that operation."""
        sequence = 0 if isinstance(operation, Read) else 1
        message, buffers = encode_batch(Batch(self.client, self.store, sequence, (operation,)))
        header, data = message.SerializeToString(), b"".join(buffers)
        sizes = {"header_bytes": len(header), "buffer_bytes": len(data)}
        return encode_prefix(FrameKind.REQUEST, timeout_ms=20_000, **sizes) + header + data


def without_ticket(attacker: Attacker) -> Generator[None, None, None]:
    """Connections that send one byte; who is ended comes again."""
    socks: list[socket.socket] = []
    while True:
        while len(socks) < attacker.count:
            socks.append(attacker.dial())
            socks[-1].send(b"\x89")
        yield
        socks = attacker.still_open(socks)


def comes_and_goes(attacker: Attacker) -> Generator[None, None, None]:
    """Connections that are opened and closed again at once."""
    while True:
        for _ in range(attacker.count):
            with contextlib.suppress(BlockingIOError):  # a Unix socket on which too many wait already
                attacker.dial().close()
        yield


def announces_too_much(attacker: Attacker) -> Generator[None, None, None]:
    """Clients that announce tensors of 8 TiB and send them drop by drop."""
    frame = encode_prefix(FrameKind.REQUEST, header_bytes=100, buffer_bytes=_EIGHT_TIB, timeout_ms=20_000)
    socks: list[socket.socket] = []
    while True:
        while len(socks) < attacker.count:
            socks.append(attacker.admitted().sock)
            socks[-1].sendall(frame)
        yield
        _drip(attacker, socks)
        for each in socks:
            with contextlib.suppress(OSError):
                each.recv(4096)  # the reason
        socks = attacker.still_open(socks)


def drips(attacker: Attacker) -> Generator[None, None, None]:
    """Clients that send an update of 16 MiB drop by drop; who is ended comes again."""
    update = Update(LARGE, UpdateRule.ASSIGN_ADD, np.ones(LARGE_BYTES // 4, np.float32))
    socks: list[socket.socket] = []
    while True:
        while len(socks) < attacker.count:
            peer = attacker.admitted()
            peer.sock.sendall(peer.frame(update)[:4096])
            socks.append(peer.sock)
        yield
        _drip(attacker, socks)
        socks = attacker.still_open(socks)


def never_reads(attacker: Attacker) -> Generator[None, None, None]:
    """Clients that ask for 16 MiB and read nothing of it; who is ended comes again."""
    socks: list[socket.socket] = []
    while True:
        while len(socks) < attacker.count:
            peer = attacker.admitted()
            peer.sock.sendall(peer.frame(Read(LARGE)))
            socks.append(peer.sock)
        yield
        socks = attacker.still_open(socks)


def takes_segments(attacker: Attacker) -> Generator[None, None, None]:
    """Clients that ask for as much shared memory as they get."""
    ask = encode_prefix(FrameKind.SEGMENT_REQUEST, header_bytes=0, num_locations=1)
    ask += encode_regions([Region(0, 0, _SEGMENT_BYTES)])
    for _ in range(attacker.count):
        sock = attacker.admitted().sock
        sock.settimeout(_TIMEOUT_S)
        for _ in range(64):
            sock.sendall(ask)
            _, descriptors, _, _ = socket.recv_fds(sock, 4096, 1)
            attacker.counts["segments"] += len(descriptors)
            for each in descriptors:
                attacker.stack.callback(os.close, each)
    while True:
        yield


def _drip(attacker: Attacker, socks: list[socket.socket]) -> None:
    for each in socks:
        with contextlib.suppress(OSError):
            attacker.counts["drops"] += each.send(b"\0")


@dataclass(frozen=True)
class Flood:
    """One flood.

    Attributes:
        what: In the table.
        run: See the module.
        transports: Of the clients that are watched.
    """

    what: str
    run: Callable[[Attacker], Generator[None, None, None]]
    transports: tuple[str, ...] = TRANSPORTS


def _over_grpc(flood: Callable[[str], int]) -> Callable[[Attacker], Generator[None, None, None]]:
    """Makes a flood of one over gRPC, which runs in a thread of its own."""

    def run(attacker: Attacker) -> Generator[None, None, None]:
        running = grpc.Flood(flood, attacker.address)
        try:
            with running:
                while True:
                    yield
        finally:
            attacker.counts["calls that were ended, refused or answered"] += running.count

    return run


FLOODS: Final[Mapping[str, Flood]] = {
    "without_ticket": Flood("one byte and no ticket", without_ticket),
    "comes_and_goes": Flood("open and close at once", comes_and_goes),
    "announces_too_much": Flood("announce 8 TiB, drip", announces_too_much),
    "drips": Flood("16 MiB drop by drop", drips),
    "never_reads": Flood("never read replies", never_reads),
    "takes_segments": Flood("take shared memory", takes_segments, ("shm",)),
} | {name.replace(" ", "_"): Flood(name, _over_grpc(each), ("grpc",)) for name, each in grpc.FLOODS.items()}
"""All floods. A flood of another transport is a row here as well."""
