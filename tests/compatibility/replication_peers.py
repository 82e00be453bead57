"""What stands around one process of a replicated ps task: the coordination store, and the task's other process.

Known here is the contract alone: the messages of replication.proto, docs/socket-protocol.md, and what the coordination
store has of a task.
"""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import UUID

import grpc
from google.protobuf import message_factory

from ps_protocol.v1 import replication_pb2
from ps_server.coordination.file_store import FileStore
from tests.compatibility.byte_peers import OPTIONS, TIMEOUT_S, call_bytes, exactly, receive_frame
from tests.compatibility.ps_process import Ps, running_ps
from tests.compatibility.recordings import ANSWER_BYTES, FOLLOW, FOLLOW_ANSWER, HELLO_BYTES, METHODS, Frame, frame_bytes
from tests.compatibility.recordings import method as method_of

WAYS: Final = ("socket", "messages")
"""How a primary reaches its follower: over a connection of its own, or by messages of gRPC."""

_MAGIC_AND_VERSION: Final = b"\x89SHDSCP\n" + (1).to_bytes(4, "little")
_VISITOR: Final = UUID(int=0x7157).bytes
_TICKET: Final = bytes(range(32))
_LIST_PLACEMENTS: Final = "/ps_protocol.v1.Directory/ListPlacements"
_KEY: Final = "primary/ps:0"
_PREFIX: Final = "/ps_protocol.v1.Replication/"


class Registrar:
    """The coordination store of the process under test, and what is written there of its task. In ``with``."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="shardscope-compatibility-")
        self.url = f"file://{self._directory.name}/store"
        self._store = FileStore(Path(self._directory.name) / "store", "default")

    def __enter__(self) -> Registrar:
        return self

    def __exit__(self, *_error: object) -> None:
        self._store.close()
        self._directory.cleanup()

    def write(self, epoch: int, primary: bytes, backup: bytes = b"") -> None:
        """Says who is what, for a task whose primary is in the place of the ps."""
        said = {
            "epoch": epoch,
            "primary": str(UUID(bytes=primary)),
            "place": "ps",
            "backup": str(UUID(bytes=backup)) if backup else None,
        }
        entry = self._store.read(_KEY, timeout_s=TIMEOUT_S)
        written, _ = self._store.compare_and_set(
            _KEY, json.dumps(said).encode(), revision=0 if entry is None else entry.revision, timeout_s=TIMEOUT_S
        )
        assert written

    @property
    def backup(self) -> UUID | None:
        """The backup, if there is one."""
        entry = self._store.read(_KEY, timeout_s=TIMEOUT_S)
        backup = None if entry is None else json.loads(entry.value)["backup"]
        return UUID(backup) if backup else None


class Follower:
    """Takes what a primary sends, and answers at once that it has it. One after the other, each with nothing at first.

    Attributes:
        streams: The frames of each follower, without those that only ask for a sign of life.
    """

    def __init__(self) -> None:
        self.streams: list[list[bytes]] = [[]]
        self._end: Callable[[], object] = lambda: None
        self._message = replication_pb2.FollowFrame()  # of which data may be missing
        self._missing = 0
        self._image_position = 0

    def replace(self) -> None:
        """Ends this follower; the next one comes."""
        self.streams.append([])
        self._end()

    def take(self, raw: bytes, end: Callable[[], object]) -> bytes | None:
        """Takes a frame; returns what to answer, if it completes something."""
        message, data = parse_frame(raw)
        answer = replication_pb2.FollowAnswer()
        if message is not None and message.token:
            answer.token = message.token
            return answer.SerializeToString()
        if message is not None:
            self._message, self._missing = message, message.data_bytes
        self._missing -= len(data)
        if self._message.HasField("attachment"):
            self._end = end
            self.streams[-1].clear()
            answer.attached.process, answer.attached.needs_image = UUID(int=len(self.streams)).bytes, True
        self.streams[-1].append(raw)
        if self._message.image.HasField("head"):
            self._image_position = self._message.image.head.position
        if self._missing or not (self._message.HasField("record") or self._message.image.HasField("end")):
            return answer.SerializeToString() if answer.HasField("attached") else None
        answer.position = self._message.record.position or self._image_position
        return answer.SerializeToString()


def parse_frame(raw: bytes) -> tuple[replication_pb2.FollowFrame | None, bytes]:
    """Returns the message of a frame, be it of a socket or of gRPC, and the data in it; None if there are only data."""
    if raw.startswith(b"SP"):
        frame = Frame.parse(raw)
        return replication_pb2.FollowFrame.FromString(frame.header) if frame.header else None, frame.data
    message = replication_pb2.FollowFrame.FromString(raw)
    return (None, message.data) if message.data else (message, message.inline_data)


def messages_of(frames: Sequence[bytes]) -> list[tuple[replication_pb2.FollowFrame, bytes]]:
    """Puts messages and the tensors beside them together, wherever those are cut."""
    messages: list[tuple[replication_pb2.FollowFrame, bytes]] = []
    for raw in frames:
        message, data = parse_frame(raw)
        if message is None:
            message, before = messages.pop()
            data = before + data
        message.ClearField("inline_data")
        messages.append((message, data))
    return messages


# -- around a primary ------------------------------------------------------------------------------


class Around:
    """A gRPC server and a socket for a follower. In ``with``."""

    def __init__(self, way: str, follower: Follower | None = None):
        self._way = way
        self._follower = follower
        self._pool = ThreadPoolExecutor(16)
        self._server = grpc.server(self._pool, options=OPTIONS)
        self._server.add_generic_rpc_handlers((_Methods(self),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Around:
        self._server.start()
        self._threads[0].start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.stop(None).wait()
        self._pool.shutdown()
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(TIMEOUT_S)
        for sock in (self._listener, *self._open):
            sock.close()

    def answer(self, method: str, messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Answers a call of the process under test."""
        if method == _PREFIX + "Follow" and self._follower is not None:
            for raw in messages:
                reply = self._follower.take(raw, context.cancel)
                if reply is not None:
                    yield reply
            return
        next(messages)
        if method == _PREFIX + "Connect" and self._way == "socket":
            port = self._listener.getsockname()[1]
            yield replication_pb2.ConnectReply(port=port, visitor=_VISITOR, ticket=_TICKET).SerializeToString()
        else:
            yield message_factory.GetMessageClass(method_of(method).output_type)().SerializeToString()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._open.append(sock)
                self._threads.append(threading.Thread(target=self._serve, args=(sock,), daemon=True))
                self._threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            assert self._follower is not None
            assert exactly(sock, HELLO_BYTES) == _MAGIC_AND_VERSION + _VISITOR + _TICKET + bytes(4)
            sock.sendall(_MAGIC_AND_VERSION + bytes(4))
            while True:
                raw, _ = receive_frame(sock)
                reply = self._follower.take(raw, lambda: sock.shutdown(socket.SHUT_RDWR))
                if reply is not None:
                    sock.sendall(frame_bytes(FOLLOW_ANSWER, reply))
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


class _Methods(grpc.GenericRpcHandler):
    def __init__(self, around: Around):
        self._around = around

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = details.method
        if method not in METHODS:
            return None
        return grpc.stream_stream_rpc_method_handler(
            lambda messages, context: self._around.answer(method, messages, context)
        )


@contextmanager
def replicated_ps(around: Around, registrar: Registrar, *arguments: str, lease_s: float = 10.0) -> Iterator[Ps]:
    """Starts a process of ps task 0; its backup, if it gets one, is played by ``around``."""
    cluster = f"ps=127.0.0.1:1,127.0.0.1:3;backup={around.address},127.0.0.1:2"
    with running_ps("--lease", str(lease_s), "--coordinator", registrar.url, *arguments, cluster=cluster) as ps:
        yield ps


def wait_until_it_serves(ps: Ps, registrar: Registrar, follower: int) -> None:
    """Waits until a primary has its n-th follower as its backup, and answers."""
    deadline_s = time.monotonic() + TIMEOUT_S
    with grpc.insecure_channel(ps.address, options=OPTIONS) as channel:
        while registrar.backup != UUID(int=follower) or call_bytes(channel, _LIST_PLACEMENTS, [b""])[0]:
            assert time.monotonic() < deadline_s, f"the ps does not serve; its backup is {registrar.backup}"
            threading.Event().wait(0.02)


# -- around a follower -----------------------------------------------------------------------------


class Leader(Protocol):
    """A primary that sends what was recorded."""

    def send(self, frame: bytes) -> None: ...

    def answer(self) -> bytes:
        """Returns the next ``FollowAnswer``."""
        ...


class _SocketLeader:
    def __init__(self, sock: socket.socket):
        self._sock = sock

    def send(self, frame: bytes) -> None:
        self._sock.sendall(frame)

    def answer(self) -> bytes:
        raw, _ = receive_frame(self._sock)
        frame = Frame.parse(raw)
        assert frame.kind == FOLLOW_ANSWER, frame
        return frame.header


class _MessageLeader:
    def __init__(self, channel: grpc.Channel):
        self._frames: list[bytes] = []
        self._changed = threading.Condition()
        self._is_over = False
        follow: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(_PREFIX + "Follow")
        self._call: Any = follow(self._outgoing())

    def send(self, frame: bytes) -> None:
        with self._changed:
            self._frames.append(frame)
            self._changed.notify_all()

    def answer(self) -> bytes:
        answer: bytes = next(self._call)
        return answer

    def close(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        self._call.cancel()

    def _outgoing(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._frames or self._is_over)
                if self._is_over:
                    return
                frame = self._frames.pop(0)
            yield frame


@contextmanager
def leading(address: str, way: str) -> Iterator[Leader]:
    """Opens a conversation with a follower."""
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        if way == "messages":
            leader = _MessageLeader(channel)
            try:
                yield leader
            finally:
                leader.close()
            return
        request = replication_pb2.ConnectRequest(task="ps:0").SerializeToString()
        code, _, replies = call_bytes(channel, _PREFIX + "Connect", [request])
        assert code == 0
        offer = replication_pb2.ConnectReply.FromString(replies[0])
        with socket.create_connection(("127.0.0.1", offer.port), TIMEOUT_S) as sock:
            sock.sendall(_MAGIC_AND_VERSION + offer.visitor + offer.ticket + bytes(4))
            assert exactly(sock, ANSWER_BYTES) == _MAGIC_AND_VERSION + bytes(4)
            yield _SocketLeader(sock)


def token_frame(way: str, token: int) -> bytes:
    """Asks a follower for a sign of life."""
    message = replication_pb2.FollowFrame(token=token).SerializeToString()
    return frame_bytes(FOLLOW, message) if way == "socket" else message
