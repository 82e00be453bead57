"""The store in etcd: replies that are lost, endpoints that do not answer, answers that are refusals. Needs no etcd."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, Final
from uuid import UUID

import grpc
import pytest

from ps_cluster.local.reserved_ports import LOOPBACK, ReservedPorts
from ps_protocol.errors import UnavailableError
from ps_server.coordination.etcd_api import etcd_pb2
from ps_server.coordination.etcd_store import EtcdStore
from ps_server.coordination.store import Entry
from tests.conftest import Eventually

pytestmark = pytest.mark.integration

TIMEOUT_S: Final = 30.0
SHORT_S: Final = 0.3
KEY: Final = "primary/ps:0"

Context = grpc.ServicerContext
Fault = Callable[[Context], None]


def refuse(code: grpc.StatusCode, details: str) -> Fault:
    """Has a call end with a status."""

    def fault(context: Context) -> None:
        context.abort(code, details)

    return fault


def hang(context: Context) -> None:
    """Has a call not be answered, until the caller gives up."""
    given_up = threading.Event()
    if context.add_callback(given_up.set):
        given_up.wait(10 * TIMEOUT_S)


LOST: Final = refuse(grpc.StatusCode.UNAVAILABLE, "etcdserver: leader changed")


class EtcdStandIn:
    """Answers as one member of etcd does, but for what a test has gone wrong. Thread-safe.

    Attributes:
        before: What happens next before a call is carried out, by what the call does; each once.
        after: Likewise afterwards.
        always: What happens before every call.
        num_calls: By what they do.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())  # guards: all below
        self.values: dict[bytes, Entry] = {}
        self.revision = 1
        self.cluster_id = 7
        self.before: list[tuple[str, Fault]] = []
        self.after: list[tuple[str, Fault]] = []
        self.always: Fault | None = None
        self.num_calls = {"identify": 0, "read": 0, "write": 0, "watch": 0}
        self._threads = futures.ThreadPoolExecutor(8)
        self._server = grpc.server(self._threads)
        commit = grpc.unary_unary_rpc_method_handler(
            self._commit, etcd_pb2.TxnRequest.FromString, etcd_pb2.TxnResponse.SerializeToString
        )
        watch = grpc.stream_stream_rpc_method_handler(
            self._watch, etcd_pb2.WatchRequest.FromString, etcd_pb2.WatchResponse.SerializeToString
        )
        self._server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler("etcdserverpb.KV", {"Txn": commit}),
                grpc.method_handlers_generic_handler("etcdserverpb.Watch", {"Watch": watch}),
            ]
        )
        self.address = f"{LOOPBACK}:{self._server.add_insecure_port(f'{LOOPBACK}:0')}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(None).wait()
        self._threads.shutdown()

    def begin_anew(self) -> None:
        """Loses all that it had."""
        with self._changed:
            self.values, self.revision = {}, 1

    def write(self, key: bytes, value: bytes) -> None:
        with self._changed:
            self.revision += 1
            self.values[key] = Entry(value, self.revision)
            self._changed.notify_all()

    def happened(self) -> bool:
        """Whether everything that was to go wrong has."""
        return not self.before and not self.after

    def _pass(self, faults: list[tuple[str, Fault]], method: str, context: Context) -> None:
        if faults and faults[0][0] == method:
            faults.pop(0)[1](context)

    def _begin(self, method: str, context: Context) -> None:
        with self._changed:
            self.num_calls[method] += 1
        if self.always is not None:
            self.always(context)
        self._pass(self.before, method, context)

    def _header(self) -> etcd_pb2.ResponseHeader:
        return etcd_pb2.ResponseHeader(cluster_id=self.cluster_id, revision=self.revision)

    def _found(self, key: bytes) -> etcd_pb2.RangeResponse:
        entry = self.values.get(key)
        found = [etcd_pb2.KeyValue(value=entry.value, mod_revision=entry.revision)] if entry else []
        return etcd_pb2.RangeResponse(header=self._header(), kvs=found)

    def _holds(self, compare: etcd_pb2.Compare) -> bool:
        assert compare.result == etcd_pb2.Compare.EQUAL
        entry = self.values.get(compare.key)
        if compare.target == etcd_pb2.Compare.VALUE:
            return entry is not None and entry.value == compare.value
        assert compare.target == etcd_pb2.Compare.MOD
        return compare.mod_revision == (entry.revision if entry else 0)

    def _carried_out(self, operation: etcd_pb2.RequestOp) -> etcd_pb2.ResponseOp:
        if operation.WhichOneof("request") == "request_range":
            assert not operation.request_range.serializable
            return etcd_pb2.ResponseOp(response_range=self._found(operation.request_range.key))
        self.write(operation.request_put.key, operation.request_put.value)
        return etcd_pb2.ResponseOp(response_put=etcd_pb2.PutResponse(header=self._header()))

    def _commit(self, request: etcd_pb2.TxnRequest, context: Context) -> etcd_pb2.TxnResponse:
        writes = request.success[0].WhichOneof("request") == "request_put"
        kind = "read" if not writes else "write" if len(request.compare) == 2 else "identify"
        self._begin(kind, context)
        with self._changed:
            succeeded = all(self._holds(each) for each in request.compare)
            responses = [self._carried_out(each) for each in (request.success if succeeded else request.failure)]
            reply = etcd_pb2.TxnResponse(header=self._header(), succeeded=succeeded, responses=responses)
        self._pass(self.after, kind, context)
        return reply

    def _watch(self, requests: Iterator[etcd_pb2.WatchRequest], context: Context) -> Iterator[etcd_pb2.WatchResponse]:
        create = next(requests).create_request
        self._begin("watch", context)
        context.add_callback(self._wake)
        yield etcd_pb2.WatchResponse(header=self._header())
        with self._changed:
            while context.is_active():
                entry = self.values.get(create.key)
                if entry is not None and entry.revision >= create.start_revision:
                    yield etcd_pb2.WatchResponse(header=self._header(), events=[etcd_pb2.Event()])
                    return
                self._changed.wait(TIMEOUT_S)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


@pytest.fixture
def etcd() -> Iterator[EtcdStandIn]:
    with contextlib.closing(EtcdStandIn()) as stand_in:
        yield stand_in


@pytest.fixture
def store(etcd: EtcdStandIn) -> Iterator[EtcdStore]:
    with contextlib.closing(EtcdStore([etcd.address], "cluster")) as opened:
        yield opened


def write(store: EtcdStore, value: bytes, revision: int = 0, timeout_s: float = TIMEOUT_S) -> tuple[bool, Entry | None]:
    return store.compare_and_set(KEY, value, revision=revision, timeout_s=timeout_s)


def read(store: EtcdStore, timeout_s: float = TIMEOUT_S) -> Entry | None:
    return store.read(KEY, timeout_s=timeout_s)


def test_keys_are_below_the_prefix_of_the_namespace(etcd: EtcdStandIn, store: EtcdStore) -> None:
    write(store, b"value")
    identity = etcd.values.pop(b"/shardscope/cluster/.store")
    assert UUID(identity.value.decode())
    assert etcd.values == {b"/shardscope/cluster/primary/ps:0": Entry(b"value", 3)}


@pytest.mark.parametrize("fault", [LOST, refuse(grpc.StatusCode.UNKNOWN, "raft: stopped")], ids=["lost", "unknown"])
def test_a_read_without_an_answer_is_repeated(etcd: EtcdStandIn, store: EtcdStore, fault: Fault) -> None:
    _, entry = write(store, b"value")
    etcd.before = [("read", fault)]
    etcd.after = [("read", fault)]
    assert read(store) == entry
    assert etcd.happened()
    assert etcd.num_calls["read"] == 3


def test_a_write_that_was_not_carried_out_and_not_answered_is_repeated(etcd: EtcdStandIn, store: EtcdStore) -> None:
    read(store)
    etcd.before = [("write", LOST), ("write", LOST)]
    assert write(store, b"value") == (True, Entry(b"value", 3))
    assert etcd.happened()
    assert etcd.num_calls["write"] == 3


def test_a_write_that_was_carried_out_and_not_answered_is_left_open_and_counts_once(
    etcd: EtcdStandIn, store: EtcdStore
) -> None:
    _, known = write(store, b"before")
    assert known is not None
    etcd.after = [("write", LOST)]
    with pytest.raises(UnavailableError, match=r"did not say whether it wrote 'primary/ps:0'.*; read the key"):
        write(store, b"value", known.revision)
    assert etcd.happened()
    assert read(store) == Entry(b"value", known.revision + 1)
    assert write(store, b"value", known.revision) == (False, Entry(b"value", known.revision + 1))


def test_a_write_whose_place_another_one_took_before_it_was_repeated_is_left_open(
    etcd: EtcdStandIn, store: EtcdStore
) -> None:
    _, known = write(store, b"before")
    assert known is not None

    def overtake(context: Context) -> None:
        etcd.write(b"/shardscope/cluster/primary/ps:0", b"other")
        LOST(context)

    etcd.before = [("write", overtake)]
    with pytest.raises(UnavailableError, match="did not say whether it wrote"):
        write(store, b"value", known.revision)
    assert read(store) == Entry(b"other", known.revision + 1)


def test_a_write_is_only_sent_to_an_endpoint_that_answers(etcd: EtcdStandIn, store: EtcdStore) -> None:
    """Else it would be open whether it was carried out, only since the first endpoint was away."""
    etcd.before = [("identify", LOST), ("identify", LOST)]
    assert write(store, b"value") == (True, Entry(b"value", 3))
    assert write(store, b"other") == (False, Entry(b"value", 3))
    assert etcd.num_calls == {"identify": 3, "read": 0, "write": 2, "watch": 0}
    etcd.always = hang
    with pytest.raises(UnavailableError, match="did not read"):
        read(store, SHORT_S)
    etcd.always = None
    etcd.before = [("read", LOST)]
    assert write(store, b"other") == (False, Entry(b"value", 3))
    assert etcd.happened()


def test_no_answer_is_an_error_in_time_that_says_what_to_do(etcd: EtcdStandIn, store: EtcdStore) -> None:
    _, entry = write(store, b"value")
    assert entry is not None
    etcd.always = hang
    where = rf"the coordination store at etcd://{etcd.address} did not"
    why = rf"no answer in time \({etcd.address}: it did not answer\); check that etcd runs, has a quorum, and can be"
    with pytest.raises(UnavailableError, match=f"{where} read 'primary/ps:0': {why}"):
        read(store, SHORT_S)
    with pytest.raises(UnavailableError, match=f"{where} write 'primary/ps:0': {why}"):
        write(store, b"other", entry.revision, SHORT_S)
    with pytest.raises(UnavailableError, match=f"{where} watch 'primary/ps:0': {why}"):
        store.watch(KEY, revision=entry.revision, timeout_s=SHORT_S)
    etcd.always = None
    assert read(store) == entry


def test_a_write_that_is_carried_out_late_counts_once(
    etcd: EtcdStandIn, store: EtcdStore, eventually: Eventually
) -> None:
    _, entry = write(store, b"value")
    assert entry is not None
    etcd.before = [("write", hang)]
    etcd.always = lambda context: hang(context) if etcd.happened() else None
    with pytest.raises(UnavailableError, match="did not say whether it wrote 'primary/ps:0': no answer in time"):
        write(store, b"other", entry.revision, SHORT_S)
    etcd.always = None
    eventually(lambda: read(store) == Entry(b"other", entry.revision + 1), message="etcd carries it out")
    assert write(store, b"other", entry.revision) == (False, Entry(b"other", entry.revision + 1))


def test_an_address_where_nobody_listens_is_named() -> None:
    with contextlib.closing(ReservedPorts(1)) as reserved:
        address = f"{LOOPBACK}:{reserved.ports[0]}"
        with contextlib.closing(EtcdStore([address], "cluster")) as store:
            with pytest.raises(UnavailableError, match=rf"did not read .*{address}: .*refused.*; check that etcd runs"):
                read(store, SHORT_S)
            with pytest.raises(UnavailableError, match="did not write"):
                write(store, b"value", timeout_s=SHORT_S)


@pytest.mark.parametrize("is_silent", [False, True], ids=["refuses", "is-silent"])
@pytest.mark.parametrize("first", [0, 1, 2])
def test_endpoints_are_tried_in_turn(etcd: EtcdStandIn, first: int, is_silent: bool) -> None:
    with contextlib.ExitStack() as stack:
        if is_silent:
            others = [stack.enter_context(contextlib.closing(EtcdStandIn())) for _ in range(2)]
            for other in others:
                other.always = hang
            endpoints = [other.address for other in others]
        else:
            reserved = stack.enter_context(contextlib.closing(ReservedPorts(2)))
            endpoints = [f"{LOOPBACK}:{port}" for port in reserved.ports]
        endpoints.insert(first, etcd.address)
        store = stack.enter_context(contextlib.closing(EtcdStore(endpoints, "cluster")))
        timeout_s = 3.0 if is_silent else TIMEOUT_S
        assert write(store, b"value", timeout_s=timeout_s) == (True, Entry(b"value", 3))
        assert read(store, timeout_s) == Entry(b"value", 3)
        assert store.watch(KEY, revision=0, timeout_s=timeout_s) == Entry(b"value", 3)
        if is_silent:  # once it is known which one answers, the others are not asked again
            assert [other.num_calls["identify"] for other in others] == [int(first > 0), int(first > 1)]
            assert not any(other.num_calls["write"] for other in others)


def test_a_connection_that_has_died_silently_is_given_up(etcd: EtcdStandIn, store: EtcdStore) -> None:
    """As one whose entry a firewall has forgotten: nothing comes back, and nothing ever says so."""
    peers: list[str] = []
    _, entry = write(store, b"value")

    def forget(context: Context) -> None:
        peers.append(context.peer())
        if context.peer() == peers[0]:
            hang(context)

    etcd.always = forget
    assert read(store) == entry
    assert len(set(peers)) == 2
    assert write(store, b"other") == (False, entry)
    assert len(set(peers)) == 2


def test_a_watch_goes_on_when_its_stream_ends(etcd: EtcdStandIn, store: EtcdStore) -> None:
    _, entry = write(store, b"value")
    assert entry is not None
    etcd.before = [("watch", LOST), ("watch", refuse(grpc.StatusCode.INTERNAL, "cut")), ("read", LOST)]
    with futures.ThreadPoolExecutor(1) as threads:
        watching = threads.submit(store.watch, KEY, revision=entry.revision, timeout_s=TIMEOUT_S)
        with contextlib.closing(EtcdStore([etcd.address], "cluster")) as other:
            written, later = write(other, b"other", entry.revision)
            assert written
            assert watching.result(TIMEOUT_S) == later


def test_a_watch_does_not_believe_a_silent_stream_for_long(etcd: EtcdStandIn, store: EtcdStore) -> None:
    _, entry = write(store, b"value")
    assert entry is not None
    silent = threading.Event()

    def be_silent(context: Context) -> None:
        silent.set()
        hang(context)

    etcd.before = [("watch", be_silent)]
    with futures.ThreadPoolExecutor(1) as threads:
        watching = threads.submit(store.watch, KEY, revision=entry.revision, timeout_s=10 * TIMEOUT_S)
        assert silent.wait(TIMEOUT_S)
        etcd.write(b"/shardscope/cluster/primary/ps:0", b"other")
        assert watching.result(TIMEOUT_S / 3) == Entry(b"other", entry.revision + 1)


def test_a_watch_does_not_ask_again_and_again(etcd: EtcdStandIn, store: EtcdStore) -> None:
    _, entry = write(store, b"value")
    assert entry is not None
    before = etcd.num_calls["read"]
    assert store.watch(KEY, revision=entry.revision, timeout_s=0.5) == entry
    assert etcd.num_calls["read"] - before <= 4  # at the beginning and at the end, and if a stream ends early
    etcd.always = lambda context: None
    etcd.before = [("watch", refuse(grpc.StatusCode.PERMISSION_DENIED, "no"))] * 1000
    before = etcd.num_calls["read"]
    assert store.watch(KEY, revision=entry.revision, timeout_s=0.5) == entry
    assert etcd.num_calls["read"] - before <= 12


@pytest.mark.parametrize(
    ("code", "details", "remedy"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", "make room in etcd"),
        (grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: user name is empty", "check that this etcd asks for no user"),
        (grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied", ".*users, passwords and TLS"),
        (grpc.StatusCode.UNIMPLEMENTED, "unknown service etcdserverpb.KV", "check that the address is that of an etcd"),
    ],
    ids=lambda value: value.name if isinstance(value, grpc.StatusCode) else "",
)
def test_a_refusal_is_told_at_once(
    etcd: EtcdStandIn, store: EtcdStore, code: grpc.StatusCode, details: str, remedy: str
) -> None:
    etcd.before = [("read", refuse(code, details)), ("write", refuse(code, details))]
    with pytest.raises(UnavailableError, match=rf"did not read .*: {etcd.address} answers '{details}' .*; {remedy}"):
        read(store)
    assert read(store) is None
    with pytest.raises(UnavailableError, match=rf"did not write .*: {etcd.address} answers '{details}' .*; {remedy}"):
        write(store, b"value")
    assert etcd.num_calls == {"identify": 1, "read": 2, "write": 1, "watch": 0}


def calls(store: EtcdStore) -> list[Callable[[], Any]]:
    return [
        lambda: read(store),
        lambda: write(store, b"other"),
        lambda: store.watch(KEY, revision=0, timeout_s=TIMEOUT_S),
    ]


@pytest.mark.parametrize("writes", [0, 1, 2, 9], ids=lambda writes: f"after-{writes}")
def test_an_etcd_that_was_begun_anew_is_refused_until_it_is_back(
    etcd: EtcdStandIn, store: EtcdStore, writes: int
) -> None:
    write(store, b"value")
    kept = etcd.values, etcd.revision
    etcd.begin_anew()
    for number in range(writes):
        etcd.write(b"other %d" % number, b"")
    for call in calls(store):
        with pytest.raises(
            UnavailableError,
            match=r"(gone back from revision 3 to \d+: it|etcd) was begun anew, or .*; put its data back",
        ):
            call()
    assert not any(b"primary" in key for key in etcd.values)
    with contextlib.closing(EtcdStore([etcd.address], "cluster")) as other:  # of a process that was started since
        assert write(other, b"of another history")[0]
    for call in calls(store):
        with pytest.raises(UnavailableError, match=r"was begun anew, or"):
            call()
    etcd.values, etcd.revision = kept
    assert store.compare_and_set(KEY, b"other", revision=0, timeout_s=TIMEOUT_S) == (False, Entry(b"value", 3))


def test_an_etcd_that_was_restored_from_a_copy_is_refused_until_it_is_back(etcd: EtcdStandIn, store: EtcdStore) -> None:
    write(store, b"value")
    copy = dict(etcd.values), etcd.revision
    write(store, b"later", 3)
    kept = etcd.values, etcd.revision
    etcd.values, etcd.revision = copy
    for call in calls(store):
        with pytest.raises(
            UnavailableError, match=r"etcd has gone back from revision 4 to 3: it was .* or restored; put"
        ):
            call()
    etcd.values, etcd.revision = kept
    assert read(store) == Entry(b"later", 4)


def test_an_identity_is_made_once(etcd: EtcdStandIn, store: EtcdStore) -> None:
    etcd.after = [("identify", LOST), ("identify", LOST)]
    write(store, b"value")
    assert etcd.happened()
    assert etcd.revision == 3
    with contextlib.closing(EtcdStore([etcd.address], "cluster")) as other:
        assert read(other) == Entry(b"value", 3)
        assert read(store) == Entry(b"value", 3)


def test_endpoints_of_different_clusters_are_refused(etcd: EtcdStandIn, store: EtcdStore) -> None:
    write(store, b"value")
    etcd.cluster_id = 8
    for call in calls(store):
        with pytest.raises(UnavailableError, match=r"its endpoints are members of different clusters; point all proc"):
            call()
