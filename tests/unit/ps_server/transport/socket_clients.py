"""A ps with its socket transport, and clients that speak frames byte by byte."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID, uuid4

import numpy as np

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.codec import error_codec, message_codec
from ps_protocol.errors import ShardscopeError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Batch, Declare, PsOperation, Reply, Result, VariableSpec
from ps_protocol.service_types import FastPathKind
from ps_protocol.sockets.frames import (
    ANSWER_BYTES,
    PREFIX_BYTES,
    FrameKind,
    FramePrefix,
    Verdict,
    encode_hello,
    encode_prefix,
    parse_answer,
    parse_prefix,
)
from ps_protocol.v1 import batch_pb2, errors_pb2
from ps_server.core.parameter_server import ParameterServer
from ps_server.memory.buffer_pool import BufferPool
from ps_server.memory.byte_budget import ByteBudget
from ps_server.transport.shared_memory.registry import SegmentRegistry
from ps_server.transport.sockets.listener import SocketListener, SocketSettings

TIMEOUT_S: Final = 20.0
ONES: Final = InitializerSpec(ConstantKind(1.0))


@dataclass
class Client:
    """A client whose bytes a test writes itself."""

    core: ParameterServer
    sock: socket.socket
    incarnation: UUID
    sequence: int = 0

    def batch(self, *operations: PsOperation) -> Batch:
        batch = Batch(self.incarnation, self.core.store_incarnation, 0, operations)
        if not batch.mutates:
            return batch
        self.sequence += 1
        return Batch(self.incarnation, self.core.store_incarnation, self.sequence, operations)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def replies(self, *operations: PsOperation) -> tuple[Reply, ...]:
        """Sends operations as one batch; raises the error of a batch that is refused."""
        self.send(request(self.batch(*operations)))
        return self.receive()

    def receive(self) -> tuple[Reply, ...]:
        prefix, header, data = self.receive_frame()
        if prefix.kind is FrameKind.ERROR:
            raise error_codec.decode_error(errors_pb2.Error.FromString(header))
        return message_codec.reply_head(batch_pb2.BatchReply.FromString(header)).reply_of(memoryview(data)).replies

    def run(self, operation: PsOperation) -> Result:
        (reply,) = self.replies(operation)
        if isinstance(reply, ShardscopeError):
            raise reply
        return reply

    def receive_frame(self) -> tuple[FramePrefix, bytes, bytes]:
        prefix = parse_prefix(self._exactly(PREFIX_BYTES))
        return prefix, self._exactly(prefix.header_bytes), self._exactly(prefix.buffer_bytes)

    def is_ended(self) -> bool:
        """Waits for the end of the connection; what comes before it is dropped."""
        with contextlib.suppress(ConnectionResetError):
            while self.sock.recv(65536):
                pass
        return True

    def close(self) -> None:
        self.sock.close()

    def _exactly(self, size_bytes: int) -> bytes:
        data = b""
        while len(data) < size_bytes:
            piece = self.sock.recv(size_bytes - len(data))
            if not piece:
                raise EOFError(f"the ps ended the connection {size_bytes - len(data)} bytes early")
            data += piece
        return data


@dataclass
class Ps:
    """A ps task with nothing but its socket transport."""

    settings: SocketSettings = field(default_factory=lambda: SocketSettings("127.0.0.1"))
    staging_limit_bytes: int = 0
    segments: SegmentRegistry | None = None

    def __post_init__(self) -> None:
        self.core = ParameterServer(cluster_spec=ClusterSpec({"ps": ["localhost:1"]}), task_index=0)
        self.staging = ByteBudget(self.staging_limit_bytes)
        self.buffers = BufferPool(64 * 1024**2)
        self.listener = SocketListener(
            self.core, self.settings, staging=self.staging, buffers=self.buffers, segments=self.segments
        )

    def wait_until_nothing_is_staged(self) -> None:
        """The room of a batch is given back a moment after its reply was sent."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while self.staging.used_bytes:
            assert time.monotonic() < deadline_s, f"{self.staging.used_bytes} bytes stay staged"
            threading.Event().wait(0.001)

    def ticket(self, incarnation: UUID) -> bytes:
        welcome = self.core.hello(incarnation, "worker:0", timeout_s=TIMEOUT_S)
        return self.listener.welcome(welcome, incarnation).ticket

    def dial(self, kind: FastPathKind = FastPathKind.TCP) -> socket.socket:
        """Connects, no more."""
        incarnation = uuid4()
        welcome = self.listener.welcome(self.core.hello(incarnation, "worker:0", timeout_s=TIMEOUT_S), incarnation)
        (address,) = [path.address for path in welcome.fast_paths if path.kind is kind]
        if kind is FastPathKind.TCP:
            return socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), TIMEOUT_S)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(TIMEOUT_S)
        sock.connect(b"\0" + address.encode())
        return sock

    def client(self, kind: FastPathKind = FastPathKind.TCP) -> Client:
        """Connects and shows a ticket."""
        incarnation = uuid4()
        sock = self.dial(kind)
        verdict = shake_hands(sock, incarnation, self.ticket(incarnation))
        assert verdict is Verdict.ACCEPTED
        return Client(self.core, sock, incarnation)

    def declare(self, name: str, *shape: int) -> None:
        """Declares a float32 variable of ones."""
        other = uuid4()
        self.core.hello(other, "worker:9", timeout_s=TIMEOUT_S)
        declare = Declare(VariableSpec(name, np.dtype(np.float32), shape), ONES)
        self.core.exchange(Batch(other, self.core.store_incarnation, 1, (declare,)), timeout_s=TIMEOUT_S)


def shake_hands(sock: socket.socket, incarnation: UUID, ticket: bytes) -> Verdict:
    sock.sendall(encode_hello(incarnation, ticket))
    return answer(sock)


def answer(sock: socket.socket) -> Verdict:
    return parse_answer(sock.recv(ANSWER_BYTES, socket.MSG_WAITALL))


def request(batch: Batch, *, timeout_ms: int = 20_000) -> bytes:
    """A whole frame."""
    message, buffers = message_codec.encode_batch(batch)
    header, data = message.SerializeToString(), b"".join(buffers)
    return (
        encode_prefix(FrameKind.REQUEST, header_bytes=len(header), buffer_bytes=len(data), timeout_ms=timeout_ms)
        + header
        + data
    )


@contextlib.contextmanager
def running_ps(staging_limit_bytes: int = 0, segments: SegmentRegistry | None = None, **settings: Any) -> Iterator[Ps]:
    """A ps that listens on the loopback interface."""
    ps = Ps(SocketSettings("127.0.0.1", **settings), staging_limit_bytes, segments)
    ps.listener.start()
    try:
        yield ps
    finally:
        ps.listener.stop(TIMEOUT_S)
