"""A coordination store in etcd, version 3, by its own gRPC API.

Two calls are used: ``Txn`` reads, linearizably, or compares and puts; ``Watch`` says when to read again. A revision is
the ``mod_revision`` of a key, which grows with every write anywhere in etcd. https://etcd.io/docs/v3.5/learning/api/

/shardscope/NAMESPACE/KEY       a value, as it is
/shardscope/NAMESPACE/.store    identity of the store; made once, and compared by every transaction

An etcd that has lost what it had begins again with revision 1. Then the identity is another one, and processes that
have used it before refuse it.

Endpoints are members of one cluster, any of which answers. One is used as long as it does; then the next one gets its
part of the time. A write is only sent to an endpoint that has answered before, since one that was sent and not answered
may be carried out at any later time. It is then sent again, with the same condition: carried out now, it is known to be
carried out once. If the condition does not hold any more, nobody knows by which of the two, and the caller has to read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final
from uuid import uuid4

import grpc

from ps_protocol.errors import UnavailableError
from ps_server.coordination.etcd_api import etcd_pb2
from ps_server.coordination.store import BEGIN_AGAIN, Entry, check_key, check_value, unavailable

_PREFIX: Final = "/shardscope"
_IDENTITY: Final = ".store"

_PAUSE_S: Final = 0.05
"""Between two rounds through all endpoints that fail at once."""

_STREAM_S: Final = 1.0
"""Longest time that a watch believes its stream: etcd may have stopped, or be cut off."""

_LAST_READ_S: Final = 1.0
"""Longest time that a watch keeps for the read at its end, which is a quarter of its time if that is less."""

_TRY_S: Final = 2.0
"""Longest time that one endpoint gets for one try, after which it may be on a connection that has died silently."""

_SILENT_S: Final = 1.0
"""After so long without an answer an endpoint is connected to anew. gRPC's own keepalive took a minute to notice."""

_CONNECT_TIMEOUT_S: Final = 2.0
_MAX_RECONNECT_BACKOFF_S: Final = 0.5

_OPTIONS: Final = [
    ("SingleThreadedUnaryStream", 1),  # a stream is received by the thread that waits for it
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", round(_PAUSE_S * 1000)),
    ("grpc.max_reconnect_backoff_ms", round(_MAX_RECONNECT_BACKOFF_S * 1000)),
    ("grpc.min_reconnect_backoff_ms", round(_CONNECT_TIMEOUT_S * 1000)),
    ("grpc.enable_http_proxy", 0),
]

_NO_ANSWER: Final = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
    }
)
"""Statuses after which another endpoint, or the same one later, may answer. Others are etcd's answer."""

_OTHER_HISTORY: Final = f"put its data back. {BEGIN_AGAIN}"
_OTHER_ETCD: Final = "point all processes of the cluster at the same etcd, and start them again"
_REMEDIES: Final = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: "make room in etcd: compact and defragment it, then `etcdctl alarm disarm`",
    grpc.StatusCode.UNIMPLEMENTED: "check that the address is that of an etcd with version 3 of its API",
}
_REFUSED: Final = (
    "check that this etcd asks for no user: users, passwords and TLS are not supported yet, so that only the ps tasks "
    "should reach it"
)


class _Connection:
    """A channel, and what it is used for. Thread-safe."""

    def __init__(self, address: str):
        channel = self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self.commit: grpc.UnaryUnaryMultiCallable[etcd_pb2.TxnRequest, etcd_pb2.TxnResponse] = channel.unary_unary(
            "/etcdserverpb.KV/Txn",
            request_serializer=etcd_pb2.TxnRequest.SerializeToString,
            response_deserializer=etcd_pb2.TxnResponse.FromString,
        )
        # The stream of requests has one. etcd keeps the watch when that stream has ended.
        self.watch: grpc.UnaryStreamMultiCallable[etcd_pb2.WatchRequest, etcd_pb2.WatchResponse] = channel.unary_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=etcd_pb2.WatchRequest.SerializeToString,
            response_deserializer=etcd_pb2.WatchResponse.FromString,
        )

    def close(self) -> None:
        self._channel.close()


class _Endpoint:
    """A member of the cluster. Thread-safe.

    Attributes:
        address: Where it listens.
        last_failure: Why the last call failed, for messages.
    """

    def __init__(self, address: str):
        self.address = address
        self.last_failure = ""
        self._lock = threading.Lock()  # guards: all below
        self._connection = _Connection(address)
        self._retired: _Connection | None = None  # calls that were begun on it may end
        self._silent_since_s = 0.0

    def commit(self, request: etcd_pb2.TxnRequest, timeout_s: float) -> etcd_pb2.TxnResponse:
        """Calls ``Txn``.

        Raises:
            grpc.RpcError: It failed.
            ValueError: The connection was closed before.
        """
        begun_s = time.monotonic()
        with self._lock:
            connection = self._connection
        try:
            reply = connection.commit(request, timeout=min(timeout_s, _TRY_S))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                self._was_silent(connection, begun_s)
            raise
        with self._lock:
            self._silent_since_s = 0.0
        return reply

    def wait_for_event(self, key: bytes, start_revision: int, timeout_s: float) -> bool:
        """Waits until a key is written; returns whether the stream came to its end for that, or for time.

        Raises:
            ValueError: The connection was closed before.
        """
        create = etcd_pb2.WatchCreateRequest(key=key, start_revision=start_revision)
        with self._lock:
            connection = self._connection
        stream = connection.watch(etcd_pb2.WatchRequest(create_request=create), timeout=timeout_s)
        try:
            for response in stream:
                if response.events:
                    return True
                if response.canceled:
                    return False
        except grpc.RpcError as error:
            return error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        finally:
            stream.cancel()
        return False

    def close(self) -> None:
        with self._lock:
            self._connection.close()
            if self._retired is not None:
                self._retired.close()

    def _was_silent(self, connection: _Connection, begun_s: float) -> None:
        with self._lock:
            self._silent_since_s = self._silent_since_s or begun_s
            if connection is not self._connection or time.monotonic() - self._silent_since_s < _SILENT_S:
                return
            before, self._retired = self._retired, connection
            self._connection, self._silent_since_s = _Connection(self.address), 0.0
        if before is not None:
            before.close()


class EtcdStore:
    """A ``CoordinationStore`` in an etcd cluster.

    Args:
        endpoints: Addresses of members, as "host:port".
        namespace: Keys are below ``/shardscope/NAMESPACE/``.
    """

    def __init__(self, endpoints: Sequence[str], namespace: str):
        self.name = f"the coordination store at etcd://{','.join(endpoints)}"
        self._prefix = f"{_PREFIX}/{namespace}/"
        self._endpoints = [_Endpoint(address) for address in endpoints]
        self._closed = threading.Event()
        self._lock = threading.Lock()  # guards: all below
        self._first = 0  # the endpoint that is tried first
        self._answers = False  # whether it answered the last call
        self._identity = b""
        self._cluster_id = 0
        self._revision = 0  # the greatest that was heard of

    def read(self, key: str, *, timeout_s: float) -> Entry | None:
        deadline_s = time.monotonic() + timeout_s
        entry, _ = self._read(check_key(key), deadline_s, f"read {key!r}")
        return entry

    def compare_and_set(self, key: str, value: bytes, *, revision: int, timeout_s: float) -> tuple[bool, Entry | None]:
        deadline_s = time.monotonic() + timeout_s
        name = self._key(check_key(key))
        check_value(key, value)
        task = f"write {key!r}"
        identity = self._identified(deadline_s, task)
        request = etcd_pb2.TxnRequest(
            compare=[self._is_identity(identity), _is_at(name, revision)],
            success=[_put(name, value)],
            failure=[_get(self._key(_IDENTITY)), _get(name)],
        )
        may_be_written = False
        while True:
            with self._lock:
                endpoint, answers, floor = self._endpoints[self._first], self._answers, self._revision
            if not answers:
                self._read(key, deadline_s, task)
                continue
            reply = self._ask(endpoint, request, self._part_of(deadline_s), task)
            if reply is None:
                may_be_written, task = True, f"say whether it wrote {key!r}"
                self._pause(deadline_s)
                continue
            self._check(reply.header, floor, task)
            self._check_identity(reply, identity, task)
            if reply.succeeded:
                return True, Entry(value, reply.header.revision)
            if may_be_written:
                raise unavailable(
                    self.name,
                    task,
                    "the first try was not answered, and then the key had another revision, by this write or another",
                    "read the key",
                )
            return False, _entry(reply.responses[1])

    def watch(self, key: str, *, revision: int, timeout_s: float) -> Entry | None:
        deadline_s = time.monotonic() + timeout_s
        last_read_s = deadline_s - min(timeout_s / 4, _LAST_READ_S)
        check_key(key)
        while True:
            entry, read_at = self._read(key, deadline_s, f"watch {key!r}")
            left_s = last_read_s - time.monotonic()
            if (entry.revision if entry else 0) != revision or left_s <= 0:
                return entry
            with self._lock:
                endpoint = self._endpoints[self._first]
            try:
                is_over = endpoint.wait_for_event(self._key(key), read_at + 1, min(left_s, _STREAM_S))
            except ValueError:  # as in _ask
                continue
            if not is_over:
                self._pause(last_read_s)

    def close(self) -> None:
        self._closed.set()
        for endpoint in self._endpoints:
            endpoint.close()

    def _key(self, key: str) -> bytes:
        return f"{self._prefix}{key}".encode()

    def _is_identity(self, identity: bytes) -> etcd_pb2.Compare:
        name = self._key(_IDENTITY)
        return etcd_pb2.Compare(result=etcd_pb2.Compare.EQUAL, target=etcd_pb2.Compare.VALUE, key=name, value=identity)

    def _identified(self, deadline_s: float, task: str) -> bytes:
        """Returns the identity of the store, which is made if there is none. Made twice, it stays what it was."""
        with self._lock:
            known = self._identity
        if known:
            return known
        name, fresh = self._key(_IDENTITY), str(uuid4()).encode()
        request = etcd_pb2.TxnRequest(compare=[_is_at(name, 0)], success=[_put(name, fresh)], failure=[_get(name)])
        reply = self._answered(request, deadline_s, task)
        entry = _entry(reply.responses[0]) if not reply.succeeded else None
        with self._lock:
            self._identity = self._identity or (entry.value if entry else fresh)
            return self._identity

    def _read(self, key: str, deadline_s: float, task: str) -> tuple[Entry | None, int]:
        """Returns what a key holds, and the store's revision at that time."""
        identity = self._identified(deadline_s, task)
        request = etcd_pb2.TxnRequest(
            compare=[self._is_identity(identity)],
            success=[_get(self._key(key))],
            failure=[_get(self._key(_IDENTITY))],
        )
        reply = self._answered(request, deadline_s, task)
        self._check_identity(reply, identity, task)
        return _entry(reply.responses[0]), reply.header.revision

    def _answered(self, request: etcd_pb2.TxnRequest, deadline_s: float, task: str) -> etcd_pb2.TxnResponse:
        """Returns what the first endpoint that answers says to a transaction that may be carried out many times."""
        tries = 0
        while True:
            with self._lock:
                endpoint, floor = self._endpoints[self._first], self._revision
            reply = self._ask(endpoint, request, self._part_of(deadline_s, tries), task)
            if reply is not None:
                self._check(reply.header, floor, task)
                return reply
            if time.monotonic() >= deadline_s:
                failures = "; ".join(f"{each.address}: {each.last_failure or 'not tried'}" for each in self._endpoints)
                raise unavailable(
                    self.name,
                    task,
                    f"no answer in time ({failures})",
                    "check that etcd runs, has a quorum, and can be reached at these addresses",
                )
            tries += 1
            if tries % len(self._endpoints) == 0:
                self._pause(deadline_s)

    def _pause(self, deadline_s: float) -> None:
        self._closed.wait(min(_PAUSE_S, max(deadline_s - time.monotonic(), 0)))

    def _part_of(self, deadline_s: float, tries: int = 0) -> float:
        """Returns how long one endpoint may take: what is left, divided by those not yet tried in this round."""
        left_s = max(deadline_s - time.monotonic(), 0)
        return left_s / (len(self._endpoints) - tries % len(self._endpoints))

    def _ask(
        self, endpoint: _Endpoint, request: etcd_pb2.TxnRequest, timeout_s: float, task: str
    ) -> etcd_pb2.TxnResponse | None:
        """Calls an endpoint; returns None if there is no answer, and has another one tried next.

        Raises:
            UnavailableError: The store was closed; or etcd does not do it.
        """
        if self._closed.is_set():
            raise self._was_closed(task)
        try:
            reply = endpoint.commit(request, timeout_s)
        except ValueError:  # it was closed, with the store or since it had been silent for long
            return None
        except grpc.RpcError as error:
            if self._closed.is_set():
                raise self._was_closed(task) from error
            code, details = error.code(), error.details() or ""
            if code not in _NO_ANSWER:
                why = f"{endpoint.address} answers {details!r} ({code.name})"
                raise unavailable(self.name, task, why, _REMEDIES.get(code, _REFUSED)) from error
            endpoint.last_failure = "it did not answer" if code is grpc.StatusCode.DEADLINE_EXCEEDED else details
            with self._lock:
                self._answers = False
                if self._endpoints[self._first] is endpoint:
                    self._first = (self._first + 1) % len(self._endpoints)
            return None
        with self._lock:
            self._answers = True
            self._first = self._endpoints.index(endpoint)
        return reply

    def _was_closed(self, task: str) -> UnavailableError:
        return unavailable(self.name, task, "it was closed", "open it again")

    def _check(self, header: etcd_pb2.ResponseHeader, floor: int, task: str) -> None:
        """Notices another etcd in the place of the one before, or one that was restored from a copy.

        Args:
            header: Of a reply.
            floor: The greatest revision that was heard of before the request was sent.
            task: For the message.

        Raises:
            UnavailableError: It is so.
        """
        with self._lock:
            self._cluster_id = self._cluster_id or header.cluster_id
            is_other = header.cluster_id != self._cluster_id
        if is_other:
            raise unavailable(self.name, task, "its endpoints are members of different clusters", _OTHER_ETCD)
        if header.revision < floor:
            why = f"etcd has gone back from revision {floor} to {header.revision}: it was begun anew, or restored"
            raise unavailable(self.name, task, why, _OTHER_HISTORY)

    def _check_identity(self, reply: etcd_pb2.TxnResponse, identity: bytes, task: str) -> None:
        """Notices another store. Only of the right one the revision counts from now on."""
        entry = _entry(reply.responses[0]) if not reply.succeeded else None
        if not reply.succeeded and (entry is None or entry.value != identity):
            why = "etcd was begun anew, or its keys were deleted, since this process has used it"
            raise unavailable(self.name, task, why, _OTHER_HISTORY)
        with self._lock:
            self._revision = max(self._revision, reply.header.revision)


def _is_at(key: bytes, revision: int) -> etcd_pb2.Compare:
    compare = etcd_pb2.Compare
    return compare(result=compare.EQUAL, target=compare.MOD, key=key, mod_revision=revision)


def _put(key: bytes, value: bytes) -> etcd_pb2.RequestOp:
    return etcd_pb2.RequestOp(request_put=etcd_pb2.PutRequest(key=key, value=value))


def _get(key: bytes) -> etcd_pb2.RequestOp:
    return etcd_pb2.RequestOp(request_range=etcd_pb2.RangeRequest(key=key))


def _entry(response: etcd_pb2.ResponseOp) -> Entry | None:
    found = response.response_range.kvs
    return Entry(found[0].value, found[0].mod_revision) if found else None
