"""Peers that carry bytes and understand as little of them as they can: one that asks, one that answers, and a relay.

They speak gRPC, the socket protocol and its shared memory, so that a recording can be made and played on both sides.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol
from uuid import uuid4

import grpc
from google.rpc import status_pb2  # type: ignore[import-untyped]  # googleapis-common-protos has no py.typed

from ps_protocol.v1 import data_pb2, membership_pb2
from tests.compatibility.recordings import (
    ANSWER_BYTES,
    FLAG_SHARED,
    FRAME,
    HELLO,
    HELLO_BYTES,
    NEWER,
    OPEN,
    PREFIX_BYTES,
    REGION,
    REPLY,
    REQUEST,
    SEGMENT_REPLY,
    SEGMENT_REQUEST,
    STATUS_DETAILS,
    Exchange,
    Frame,
    Place,
    bytes_behind,
    meaning_of_sent,
    without_own_heartbeats,
)

TIMEOUT_S: Final = 120.0
OPTIONS: Final = [
    ("grpc.max_receive_message_length", 64 * 1024**2),
    ("grpc.max_send_message_length", 64 * 1024**2),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
]
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

_MESSAGES: Final[dict[str, Any]] = {
    "/ps_protocol.v1.Membership/ListMembers": membership_pb2.ListMembersReply,
    "/ps_protocol.v1.Membership/Announce": membership_pb2.AnnounceReply,
    "/ps_protocol.v1.Membership/ListAddresses": membership_pb2.ListAddressesReply,
}


# -- sockets and memory ----------------------------------------------------------------------------


def exactly(sock: socket.socket, size_bytes: int) -> bytes:
    """Receives so many bytes; EOFError at the end of the connection."""
    data = bytearray()
    while len(data) < size_bytes:
        piece = sock.recv(size_bytes - len(data))
        if not piece:
            raise EOFError(f"the connection ended after {len(data)} of {size_bytes} bytes")
        data += piece
    return bytes(data)


def receive_frame(sock: socket.socket) -> tuple[bytes, list[int]]:
    """Receives a frame, and the descriptors beside its first byte."""
    start, descriptors, _, _ = socket.recv_fds(sock, PREFIX_BYTES, 1)
    if not start:
        raise EOFError("the connection ended")
    prefix = start + exactly(sock, PREFIX_BYTES - len(start))
    return prefix + exactly(sock, bytes_behind(prefix)), descriptors


def send_frame(sock: socket.socket, frame: bytes, descriptors: Sequence[int] = ()) -> None:
    """Sends a frame, with descriptors beside its first byte."""
    sent = socket.send_fds(sock, [frame], list(descriptors)) if descriptors else 0
    sock.sendall(frame[sent:])


class Segments:
    """The shared memory of one client, mapped here too."""

    def __init__(self) -> None:
        self._maps: dict[int, mmap.mmap] = {}

    def add(self, frame: Frame, descriptor: int) -> None:
        """Maps a segment that a frame brings."""
        ((number, _, size_bytes),) = frame.regions
        self._maps[number] = mmap.mmap(descriptor, size_bytes)

    def read(self, regions: Sequence[tuple[int, int, int]]) -> tuple[Place, ...]:
        maps = self._maps
        return tuple(
            Place(number, start, maps[number][start : start + size]) for number, start, size in regions if size
        )

    def write(self, places: Sequence[Place]) -> None:
        for number, offset, data in places:
            self._maps[number][offset : offset + len(data)] = data


def _renumbered(frame: bytes, numbers: Mapping[int, int]) -> bytes:
    """Gives other numbers to the segments that a frame names."""
    parsed = Frame.parse(frame)
    start = PREFIX_BYTES + len(parsed.header)
    regions = b"".join(REGION.pack(numbers.get(number, number), *rest) for number, *rest in parsed.regions)
    return frame[:start] + regions + frame[start + len(regions) :]


def _new_segment(frame: Frame) -> int:
    """Returns the descriptor of memory such as a ps gives with a segment reply."""
    descriptor = os.memfd_create("segment", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(descriptor, frame.regions[0][2])
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor


def connect_socket(host: str, path: data_pb2.FastPath) -> socket.socket:
    """Connects to where a ps has offered it."""
    if path.kind == data_pb2.FastPath.KIND_TCP:
        return socket.create_connection((host, int(path.address.rpartition(":")[2])), TIMEOUT_S)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(TIMEOUT_S)
    sock.connect(b"\0" + path.address.encode())
    return sock


# -- the one that asks -----------------------------------------------------------------------------


class Asker:
    """Sends what was recorded to a ps, and tells what comes back.

    A ps draws its store's incarnation, tickets and the numbers of segments by chance. They are put in the place of the
    recorded ones in what is sent, and the other way round in what is received.
    """

    def __init__(self, address: str):
        self._host, _, _ = address.rpartition(":")
        self._channel = grpc.insecure_channel(address, options=OPTIONS)
        self._substitutes: dict[bytes, bytes] = {}
        self._fast_paths: dict[str, data_pb2.FastPath] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._segments = Segments()  # under the recorded numbers
        self._numbers: dict[int, int] = {}  # of segments: the recorded one, and the one now

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_error: object) -> None:
        for sock in self._sockets.values():
            sock.close()
        self._channel.close()

    def ask(self, recorded: Exchange) -> Exchange:
        """Sends what was sent then; returns the exchange as it went now."""
        sent = tuple(self._translated(each) for each in recorded.sent)
        if recorded.way.startswith(OPEN):
            received = self._open(recorded, sent[0])
        elif recorded.way == FRAME:
            return self._ask_on_socket(recorded, sent[0])
        else:
            code, details, received = call_bytes(self._channel, recorded.way, sent)
            if recorded.way == HELLO and not code:
                self._learn(recorded, data_pb2.HelloReply.FromString(received[0]))
            received = tuple(self._translated_back(each) for each in received)
            return replace(recorded, received=received, code=code, details=details)
        return replace(recorded, received=received)

    def _learn(self, recorded: Exchange, now: data_pb2.HelloReply) -> None:
        self._fast_paths = {_kind_name(path): path for path in now.fast_paths}
        if recorded.received:
            before = data_pb2.HelloReply.FromString(recorded.received[0])
            self._substitutes[before.store_incarnation] = now.store_incarnation
            self._substitutes[before.ticket] = now.ticket

    def _translated(self, data: bytes) -> bytes:
        for recorded, now in self._substitutes.items():
            data = data.replace(recorded, now)
        return data

    def _translated_back(self, data: bytes) -> bytes:
        for recorded, now in self._substitutes.items():
            data = data.replace(now, recorded)
        return data

    def _open(self, recorded: Exchange, hello: bytes) -> tuple[bytes, ...]:
        sock = connect_socket(self._host, self._fast_paths[recorded.way.removeprefix(OPEN)])
        self._sockets[recorded.connection] = sock
        sock.sendall(hello)
        return (exactly(sock, ANSWER_BYTES),)

    def _ask_on_socket(self, recorded: Exchange, frame: bytes) -> Exchange:
        sock = self._sockets[recorded.connection]
        self._segments.write(recorded.sent_shared)
        sock.sendall(_renumbered(frame, self._numbers))
        received, descriptors = receive_frame(sock)
        if descriptors:
            ((before, _, _),), ((now, _, _),) = (Frame.parse(each).regions for each in (recorded.received[0], received))
            self._numbers[before] = now
        received = _renumbered(received, {now: before for before, now in self._numbers.items()})
        answer = Frame.parse(received)
        for descriptor in descriptors:
            self._segments.add(answer, descriptor)
            os.close(descriptor)
        return replace(
            recorded,
            received=(self._translated_back(received),),
            received_shared=_shared_reply(self._segments, Frame.parse(frame), answer),
        )


def call_bytes(channel: grpc.Channel, method: str, messages: Sequence[bytes]) -> tuple[int, bytes, tuple[bytes, ...]]:
    """Calls a method with messages as bytes; returns code, details of an error, and what was received."""
    received: list[bytes] = []
    ask: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
    call: Any = ask(iter(messages), timeout=TIMEOUT_S, wait_for_ready=True)
    try:
        received.extend(call)
    except grpc.RpcError:
        details = dict(call.trailing_metadata() or ()).get(STATUS_DETAILS, b"")
        code: int = call.code().value[0]
        return code, details, tuple(received)
    return 0, b"", tuple(received)


def _shared_reply(segments: Segments, request: Frame, answer: Frame) -> tuple[Place, ...]:
    return segments.read(request.regions[:1]) if answer.kind == REPLY and answer.flags & FLAG_SHARED else ()


def _kind_name(path: data_pb2.FastPath) -> str:
    return "tcp" if path.kind == data_pb2.FastPath.KIND_TCP else "unix"


# -- the ones that answer --------------------------------------------------------------------------


class Answers(Protocol):
    """What an answering server does with the bytes that come."""

    def call(self, method: str, messages: tuple[bytes, ...]) -> tuple[int, bytes, tuple[bytes, ...]]:
        """Returns code, details of an error, and the messages of the reply."""
        ...

    def converse(self, sock: socket.socket, kind: str, hello: bytes) -> None:
        """Serves a connection after the client's part of the handshake; EOFError and OSError end it."""
        ...


class BytesServer:
    """A gRPC server and sockets that hand bytes to ``answers``. In ``with``."""

    def __init__(self, answers: Answers):
        self._answers = answers
        self._pool = ThreadPoolExecutor(16)
        self._server = grpc.server(self._pool, options=OPTIONS)
        self._server.add_generic_rpc_handlers((_GenericHandler(answers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        tcp = socket.create_server(("127.0.0.1", 0))
        unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        unix_name = f"shardscope-test-{uuid4()}"
        unix.bind(b"\0" + unix_name.encode())
        unix.listen()
        self._listeners = {"tcp": tcp, "unix": unix}
        self.offered = {"tcp": f":{tcp.getsockname()[1]}", "unix": unix_name}
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> BytesServer:
        self._server.start()
        for kind, listener in self._listeners.items():
            self._start(self._accept, listener, kind)
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.stop(None).wait()
        self._pool.shutdown()
        for sock in (*self._listeners.values(), *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(TIMEOUT_S)
        for sock in (*self._listeners.values(), *self._open):
            sock.close()

    def offering(self, reply: bytes) -> bytes:
        """Returns a ``HelloReply`` that offers these sockets where it offered others."""
        welcome = data_pb2.HelloReply.FromString(reply)
        for path in welcome.fast_paths:
            path.address = self.offered[_kind_name(path)]
        return welcome.SerializeToString()

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket, kind: str) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                self._open.append(sock)
                self._start(self._serve, sock, kind)

    def _serve(self, sock: socket.socket, kind: str) -> None:
        with contextlib.suppress(OSError, EOFError):
            self._answers.converse(sock, kind, exactly(sock, HELLO_BYTES))
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


class _GenericHandler(grpc.GenericRpcHandler):
    def __init__(self, answers: Answers):
        self._answers = answers

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = details.method
        if method in NEWER:
            return None

        def behave(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            code, error, replies = self._answers.call(method, tuple(messages))
            yield from replies
            if code:
                context.set_trailing_metadata(((STATUS_DETAILS, error),))
                (status,) = [each for each in grpc.StatusCode if each.value[0] == code]
                context.abort(status, status_pb2.Status.FromString(error).message)

        return grpc.stream_stream_rpc_method_handler(behave)


@dataclass
class Relay:
    """Carries everything between a client and a real ps, and keeps it."""

    ps_address: str
    exchanges: list[Exchange] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._channel = grpc.insecure_channel(self.ps_address, options=OPTIONS)
        self._fast_paths: dict[str, data_pb2.FastPath] = {}
        self._segments = Segments()
        self._num_connections = 0
        self.server = BytesServer(self)

    def __enter__(self) -> Relay:
        self.server.__enter__()
        return self

    def __exit__(self, *_error: object) -> None:
        self.server.__exit__()
        self._channel.close()

    def call(self, method: str, messages: tuple[bytes, ...]) -> tuple[int, bytes, tuple[bytes, ...]]:
        code, details, received = call_bytes(self._channel, method, messages)
        if method == HELLO and not code:
            self._fast_paths = {
                _kind_name(path): path for path in data_pb2.HelloReply.FromString(received[0]).fast_paths
            }
            received = (self.server.offering(received[0]),)
        if method in _MESSAGES and not code:
            reply: Any = _MESSAGES[method].FromString(received[0])
            without_own_heartbeats(reply)
            received = (reply.SerializeToString(),)
        self.exchanges.append(Exchange(method, 0, messages, received, code, details))
        return code, details, received

    def converse(self, sock: socket.socket, kind: str, hello: bytes) -> None:
        with connect_socket("127.0.0.1", self._fast_paths[kind]) as ps:
            ps.sendall(hello)
            answer = exactly(ps, ANSWER_BYTES)
            self._num_connections += 1
            connection = self._num_connections
            self.exchanges.append(Exchange(OPEN + kind, connection, (hello,), (answer,)))
            sock.sendall(answer)
            while True:
                frame, _ = receive_frame(sock)
                request = Frame.parse(frame)
                shared = self._segments.read(request.regions[1:]) if request.kind == REQUEST else ()
                ps.sendall(frame)
                received, descriptors = receive_frame(ps)
                reply = Frame.parse(received)
                for descriptor in descriptors:
                    self._segments.add(reply, descriptor)
                self.exchanges.append(
                    Exchange(
                        FRAME,
                        connection,
                        (frame,),
                        (received,),
                        sent_shared=shared,
                        received_shared=_shared_reply(self._segments, request, reply),
                    )
                )
                send_frame(sock, received, descriptors)
                for descriptor in descriptors:
                    os.close(descriptor)


class RecordedPs:
    """Answers a client with what was recorded, as long as it sends what was recorded."""

    def __init__(self, exchanges: Sequence[Exchange]):
        self._exchanges = list(exchanges)
        self._lock = threading.Lock()  # guards: _exchanges, differences, _num_connections
        self._segments = Segments()
        self._num_connections = 0
        self.differences: list[str] = []
        self.server = BytesServer(self)

    def __enter__(self) -> RecordedPs:
        self.server.__enter__()
        return self

    def __exit__(self, *_error: object) -> None:
        self.server.__exit__()

    @property
    def num_left(self) -> int:
        """How many of the exchanges the client has not come to."""
        return len(self._exchanges)

    def call(self, method: str, messages: tuple[bytes, ...]) -> tuple[int, bytes, tuple[bytes, ...]]:
        recorded = self._next(Exchange(method, 0, messages))
        received = recorded.received
        if method == HELLO and received:
            received = (self.server.offering(received[0]),)
        return recorded.code, recorded.details, received

    def converse(self, sock: socket.socket, kind: str, hello: bytes) -> None:
        with self._lock:
            self._num_connections += 1
            connection = self._num_connections
        sock.sendall(self._next(Exchange(OPEN + kind, connection, (hello,))).received[0])
        while True:
            frame, _ = receive_frame(sock)
            request = Frame.parse(frame)
            shared = self._segments.read(request.regions[1:]) if request.kind == REQUEST else ()
            recorded = self._next(Exchange(FRAME, connection, (frame,), sent_shared=shared))
            self._segments.write(recorded.received_shared)
            reply = Frame.parse(recorded.received[0])
            is_new = request.kind == SEGMENT_REQUEST and reply.kind == SEGMENT_REPLY and not request.regions[0][0]
            descriptors = [_new_segment(reply)] if is_new else []
            for descriptor in descriptors:
                self._segments.add(reply, descriptor)
            send_frame(sock, recorded.received[0], descriptors)
            for descriptor in descriptors:
                os.close(descriptor)

    def _next(self, come: Exchange) -> Exchange:
        """Returns what was recorded in the place of an exchange; OSError if the client sends something else."""
        with self._lock:
            if not self._exchanges:
                self.differences.append(f"after the end of the recording {come.way} was used")
                raise OSError(self.differences[-1])
            recorded = self._exchanges.pop(0)
            places = (recorded.way, recorded.connection), (come.way, come.connection)
            if places[0] != places[1]:
                self.differences.append(f"{places[0]} was recorded, and {places[1]} has come")
            elif meaning_of_sent(recorded) != meaning_of_sent(come):
                self.differences.append(
                    f"{recorded.way}: {meaning_of_sent(recorded)} was recorded, and {meaning_of_sent(come)} has come"
                )
            else:
                return recorded
            raise OSError(self.differences[-1])
