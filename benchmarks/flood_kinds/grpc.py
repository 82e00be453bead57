"""Floods over gRPC: each takes the address of a ps on this machine, does its worst for a while, and returns a count.

They are started in a thread while somebody watches a well-behaved client: ``Flood(silent_streams, address)``.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final, Self
from uuid import uuid4

import grpc

from ps_protocol.codec.fast.varints import encode_varint
from ps_protocol.ps_service import PROTOCOL_VERSION
from ps_protocol.v1 import batch_pb2, data_pb2, membership_pb2

TIME_S: Final = 5.0
_CALL_S: Final = 60.0
_SETTLE_S: Final = 3.0
_CALLS_OF_CONNECTION: Final = 50  # a ps takes no more than 100 at a time
_LOCAL: Final = ("127.0.0.1:", "localhost:", "[::1]:")
_OPTIONS: Final = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]

EXCHANGE: Final = "/ps_protocol.v1.Data/Exchange"
EXCHANGE_STREAM: Final = "/ps_protocol.v1.Data/ExchangeStream"
HELLO: Final = "/ps_protocol.v1.Data/Hello"
JOIN: Final = "/ps_protocol.v1.Membership/Join"
LIST_VARIABLES: Final = "/ps_protocol.v1.Inspection/ListVariables"
HEALTH: Final = "/grpc.health.v1.Health/Check"


class Flood:
    """A flood in a thread of its own, from ``with`` to the end of the block.

    Args:
        flood: One of the functions below.
        address: Of the ps.
        options: For the flood.

    Attributes:
        count: What it has returned, after the block.
    """

    def __init__(self, flood: Callable[..., int], address: str, **options: float | str):
        self.count = 0
        self._stop = threading.Event()
        self._begun = threading.Event()

        def run() -> None:
            self.count = flood(address, begun=self._begun, stop=self._stop, **options)

        self._thread = threading.Thread(target=run, name=flood.__name__)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._begun.wait(_CALL_S):
            raise TimeoutError(f"{self._thread.name} has not begun after {_CALL_S:g} s")
        return self

    def wait(self) -> None:
        """Waits until the flood is over by itself."""
        self._thread.join(_CALL_S)

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self.wait()


def silent_streams(
    address: str,
    *,
    number: int = 140,
    time_s: float = TIME_S,
    path: str = EXCHANGE_STREAM,
    begun: threading.Event | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Opens streams, or calls, that send no message; returns how many the ps has ended or refused."""
    stop = stop or threading.Event()

    over = threading.Event()

    def nothing() -> Iterator[bytes]:
        over.wait(_CALL_S)
        return
        yield b""

    with ExitStack() as stack:
        calls: list[grpc.Call] = []
        for start in range(0, number, _CALLS_OF_CONNECTION):
            channel = stack.enter_context(_channel(address))
            open_stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(path)
            calls += [open_stream(nothing(), timeout=_CALL_S) for _ in range(min(number - start, _CALLS_OF_CONNECTION))]
        _tell(begun)
        stop.wait(time_s)
        ended = _settled(lambda: sum([not call.is_active() for call in calls]), number)
        over.set()
        for call in calls:
            call.cancel()
    return ended


def silent_hellos(address: str, *, path: str = HELLO, **options: object) -> int:
    """The same with calls for which the ps has threads of their own."""
    return silent_streams(address, path=path, **options)  # type: ignore[arg-type]  # what a caller gives


def dripping_messages(address: str, *, path: str = EXCHANGE, **options: object) -> int:
    """Begins messages of 1 MiB and sends a byte of each now and then; returns how many calls the ps has ended."""
    return _held_calls(address, path, struct.pack(">BI", 0, 2**20), drop=b"x", **options)  # type: ignore[arg-type]


def unread_replies(address: str, *, path: str = LIST_VARIABLES, **options: object) -> int:
    """Asks, and has no room for the answer (a window of 0 bytes); returns how many calls the ps has ended."""
    return _held_calls(address, path, struct.pack(">BI", 0, 0), window_bytes=0, **options)  # type: ignore[arg-type]


def reset_calls(
    address: str,
    *,
    number: int = 1_000_000,
    time_s: float = TIME_S,
    begun: threading.Event | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Makes calls on one connection and resets each at once (CVE-2023-44487); returns how many."""
    stop = stop or threading.Event()
    block, cancel = _call_headers(address, EXCHANGE), struct.pack(">I", 8)
    ends_s = time.monotonic() + time_s
    reset = 0
    while reset < number and time.monotonic() < ends_s and not stop.is_set():
        with contextlib.suppress(ConnectionError), _connected(address, 65_535) as sock:
            stream = 1
            while reset < number and time.monotonic() < ends_s and not stop.is_set():
                calls = range(stream, stream + 200, 2)
                sock.sendall(b"".join([_frame(1, 4, each, block) + _frame(3, 0, each, cancel) for each in calls]))
                reset += len(calls)
                stream = calls.stop
                _tell(begun)
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while sock.recv(65_536):
                        pass
                sock.settimeout(_CALL_S)
    return reset


def messages_without_meaning(
    address: str,
    *,
    number: int = 24,
    size_bytes: int = 60 * 2**20,
    at_once: int = 4,
    begun: threading.Event | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Sends large messages of zeros; returns how many were refused."""
    with _channel(address) as channel:
        exchange: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(EXCHANGE)
        return _refused(exchange, bytes(size_bytes), number, at_once, begun, stop)


def many_operations(
    address: str,
    *,
    number: int = 4,
    operations: int = 3_000_000,
    at_once: int = 2,
    begun: threading.Event | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Sends headers of millions of operations of seven bytes each; returns how many were refused."""
    operation = batch_pb2.Operation(name="abc", read=batch_pb2.Read()).SerializeToString()
    field = bytes([batch_pb2.BatchRequest.OPERATIONS_FIELD_NUMBER << 3 | 2, len(operation)]) + operation
    head = batch_pb2.BatchRequest(client_incarnation=uuid4().bytes, store_incarnation=uuid4().bytes)
    header = head.SerializeToString() + field * operations
    message = bytes([1 << 3 | 2]) + encode_varint(len(header)) + header
    with _channel(address) as channel:
        exchange: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(EXCHANGE)
        return _refused(exchange, message, number, at_once, begun, stop)


def hellos(
    address: str,
    *,
    number: int = 10_000,
    time_s: float = 60.0,
    begun: threading.Event | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Says hello as ever new clients, which then send nothing; returns how often."""

    def requests() -> Iterator[bytes]:
        for index in itertools.count():
            yield data_pb2.HelloRequest(
                client_incarnation=uuid4().bytes, task=f"worker:{index}", protocol_version=PROTOCOL_VERSION
            ).SerializeToString()

    return _repeated(address, HELLO, requests(), number, time_s, begun, stop)


def joins(
    address: str,
    *,
    number: int = 10_000,
    time_s: float = 60.0,
    begun: threading.Event | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Joins the cluster as ever new tasks without a lease, which are never heard of again; returns how often."""

    def requests() -> Iterator[bytes]:
        for index in itertools.count(1_000):
            yield membership_pb2.JoinRequest(
                task=f"worker:{index}", incarnation=uuid4().bytes, host="flood", pid=1
            ).SerializeToString()

    return _repeated(address, JOIN, requests(), number, time_s, begun, stop)


FLOODS: Final[dict[str, Callable[[str], int]]] = {
    "140 silent gRPC streams": silent_streams,
    "140 silent hellos over gRPC": silent_hellos,
    "140 dripping gRPC messages": dripping_messages,
    "140 unread gRPC replies": unread_replies,
    "gRPC calls that are reset at once": reset_calls,
    "24 gRPC messages of 60 MiB without meaning": messages_without_meaning,
    "3 million operations in a header": many_operations,
    "10,000 hellos": hellos,
    "10,000 joins": joins,
}
"""What a table of floods shows, by name."""


class RawCall:
    """One gRPC call over a connection of its own, written byte by byte (RFC 9113, and RFC 7541 without compression).

    Args:
        address: Of the ps.
        path: Of the method.
        window_bytes: What the ps may send before it is given more room.
    """

    def __init__(self, address: str, path: str, *, window_bytes: int = 65_535):
        self._socket = _connected(address, window_bytes)
        self._received = bytearray()
        self._socket.sendall(_frame(1, 4, 1, _call_headers(address, path)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()

    def send(self, data: bytes, *, ends: bool = False) -> None:
        """Sends bytes of the call; without effect when the connection has ended."""
        try:
            self._socket.sendall(_frame(0, int(ends), 1, data))
        except OSError:
            return

    def was_ended(self) -> bool:
        """Whether the ps has ended the call, as seen in what has come."""
        self._socket.setblocking(False)
        try:
            while part := self._socket.recv(65_536):
                self._received += part
        except BlockingIOError:
            self._socket.settimeout(_CALL_S)
            return 3 in _kinds(bytes(self._received))  # RST_STREAM
        except OSError:
            return True
        return True


def _connected(address: str, window_bytes: int) -> socket.socket:
    """A connection that has begun as HTTP/2 does."""
    host, _, port = _checked(address).rpartition(":")
    sock = socket.create_connection((host.strip("[]"), int(port)), timeout=_CALL_S)
    settings = _frame(4, 0, 0, struct.pack(">HI", 4, window_bytes))
    sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + _frame(4, 1, 0, b""))
    return sock


def _call_headers(address: str, path: str) -> bytes:
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": address,
        "te": "trailers",
        "content-type": "application/grpc",
        "grpc-timeout": f"{_CALL_S:.0f}S",
    }
    return b"".join([b"\0" + _text(name) + _text(value) for name, value in headers.items()])


def _kinds(data: bytes) -> set[int]:
    """The kinds of the frames in what was received."""
    kinds: set[int] = set()
    start = 0
    while start + 9 <= len(data):
        kinds.add(data[start + 3])
        start += 9 + int.from_bytes(data[start : start + 3], "big")
    return kinds


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + content


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def _held_calls(
    address: str,
    path: str,
    first: bytes,
    *,
    drop: bytes = b"",
    window_bytes: int = 65_535,
    number: int = 140,
    time_s: float = TIME_S,
    begun: threading.Event | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Makes calls that each have a connection; returns how many the ps has ended.

    Args:
        address: Of the ps.
        path: Of the method.
        first: What is sent first; all, unless there is a drop.
        drop: What is sent now and then after that.
        window_bytes: What the ps may send.
        number: How many.
        time_s: For how long.
        begun: Set when all are there.
        stop: Ends it earlier.
    """
    stop = stop or threading.Event()
    with ExitStack() as stack:
        calls = [stack.enter_context(RawCall(address, path, window_bytes=window_bytes)) for _ in range(number)]
        for call in calls:
            call.send(first, ends=not drop)
        _tell(begun)
        ends_s = time.monotonic() + time_s
        while time.monotonic() < ends_s and not stop.wait(0.05):
            for call in calls if drop else ():
                call.send(drop)
        return _settled(lambda: sum([call.was_ended() for call in calls]), number)


def _refused(
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes],
    message: bytes,
    number: int,
    at_once: int,
    begun: threading.Event | None,
    stop: threading.Event | None,
) -> int:
    refused = 0
    for _ in range(0, number, at_once):
        if stop is not None and stop.is_set():
            break
        futures = [call.future(message, timeout=_CALL_S) for _ in range(at_once)]
        refused += sum([future.code() is not grpc.StatusCode.OK for future in futures])
        _tell(begun)
    return refused


def _repeated(
    address: str,
    path: str,
    requests: Iterator[bytes],
    number: int,
    time_s: float,
    begun: threading.Event | None,
    stop: threading.Event | None,
) -> int:
    ends_s = time.monotonic() + time_s
    carried_out = 0
    with _channel(address) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
        while carried_out < number and time.monotonic() < ends_s and not (stop is not None and stop.is_set()):
            futures = [call.future(next(requests), timeout=_CALL_S) for _ in range(16)]
            carried_out += sum([future.code() is grpc.StatusCode.OK for future in futures])
            _tell(begun)
    return carried_out


def _channel(address: str) -> grpc.Channel:
    return grpc.insecure_channel(_checked(address), options=_OPTIONS)


def _checked(address: str) -> str:
    if not address.startswith(_LOCAL):
        raise ValueError(f"{address} is not on this machine: floods go to 127.0.0.1 only")
    return address


def _settled(count: Callable[[], int], number: int) -> int:
    """Counts what has ended; what the ps has sent just now may take a moment to be seen."""
    ends_s = time.monotonic() + _SETTLE_S
    while (ended := count()) < number and time.monotonic() < ends_s:
        time.sleep(0.02)
    return ended


def _tell(begun: threading.Event | None) -> None:
    if begun is not None:
        begun.set()
