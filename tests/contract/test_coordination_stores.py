"""What every coordination store must do."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from ps_protocol.errors import InvalidValueError, UnavailableError
from ps_server.coordination.addresses import open_store
from ps_server.coordination.store import MAX_VALUE_BYTES, CoordinationStore, Entry
from tests.coordination_counter import KEY, TIMEOUT_S, count, printed, start_counter
from tests.etcd_process import NO_ETCD, EtcdProcess

STORES: Final = ("file", "etcd")

Stores = Callable[[], CoordinationStore]


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdProcess | None]:
    """An etcd for all tests; None where there is none."""
    if shutil.which("etcd") is None:
        yield None
        return
    with EtcdProcess(tmp_path_factory.mktemp("etcd")) as process:
        process.wait_until_ready()
        yield process


@pytest.fixture
def namespace() -> str:
    """Not used by another test."""
    return f"tests-{uuid4().hex}"


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Path, etcd: EtcdProcess | None) -> str:
    """Address of a store."""
    if request.param == "file":
        return (tmp_path / "coordination").as_uri()
    if etcd is None:
        pytest.skip(NO_ETCD)
    return etcd.url


@pytest.fixture
def stores(url: str, namespace: str) -> Iterator[Stores]:
    """Opens the same store, as processes of their own would."""
    opened: list[CoordinationStore] = []

    def another() -> CoordinationStore:
        opened.append(open_store(url, namespace=namespace))
        return opened[-1]

    yield another
    for each in opened:
        each.close()


@pytest.fixture
def store(stores: Stores) -> CoordinationStore:
    return stores()


def write(store: CoordinationStore, value: bytes, revision: int = 0, key: str = KEY) -> Entry:
    written, entry = store.compare_and_set(key, value, revision=revision, timeout_s=TIMEOUT_S)
    assert written
    assert entry is not None
    return entry


def read(store: CoordinationStore, key: str = KEY) -> Entry | None:
    return store.read(key, timeout_s=TIMEOUT_S)


def calls(store: CoordinationStore, key: str) -> list[Callable[[], object]]:
    """One of each."""
    return [
        lambda: store.read(key, timeout_s=TIMEOUT_S),
        lambda: store.compare_and_set(key, b"", revision=0, timeout_s=TIMEOUT_S),
        lambda: store.watch(key, revision=0, timeout_s=TIMEOUT_S),
    ]


def test_it_says_where_it_is(store: CoordinationStore, url: str) -> None:
    assert store.name == f"the coordination store at {url}"


def test_a_key_that_was_never_written_holds_nothing(store: CoordinationStore) -> None:
    assert read(store) is None
    assert store.compare_and_set(KEY, b"value", revision=7, timeout_s=TIMEOUT_S) == (False, None)
    assert read(store) is None


@pytest.mark.parametrize("value", [b"", b"\0\xff\n", bytes(MAX_VALUE_BYTES)], ids=["empty", "any-bytes", "the-longest"])
def test_a_value_is_what_was_written(stores: Stores, value: bytes) -> None:
    entry = write(stores(), value)
    assert entry.value == value
    assert entry.revision > 0
    assert read(stores()) == entry


def test_one_of_two_who_know_the_same_revision_writes(stores: Stores) -> None:
    first, second = stores(), stores()
    entry = write(first, b"first")
    assert second.compare_and_set(KEY, b"second", revision=0, timeout_s=TIMEOUT_S) == (False, entry)
    later = write(second, b"second", entry.revision)
    assert first.compare_and_set(KEY, b"third", revision=entry.revision, timeout_s=TIMEOUT_S) == (False, later)
    assert first.compare_and_set(KEY, b"third", revision=later.revision + 1, timeout_s=TIMEOUT_S) == (False, later)
    assert read(first) == read(second) == later


def test_each_write_has_a_greater_revision_even_of_the_same_value(stores: Stores) -> None:
    revisions = [0]
    for _ in range(10):
        store = stores()
        revisions.append(write(store, b"same", revisions[-1]).revision)
        store.close()
    assert revisions == sorted(set(revisions))


def test_keys_are_apart(store: CoordinationStore) -> None:
    entries = {key: write(store, key.encode(), key=key) for key in ("ps:0", "ps:1", "ps", "ps/0", "ps:00", "a" * 120)}
    assert {key: read(store, key) for key in entries} == entries
    assert read(store, "ps:") is None


def test_namespaces_are_apart(store: CoordinationStore, url: str, namespace: str) -> None:
    entry = write(store, b"ours")
    with contextlib.closing(open_store(url, namespace=f"other-{namespace}")) as other:
        assert read(other) is None
        write(other, b"theirs")
        assert read(store) == entry


@pytest.mark.parametrize(
    "key", ["", "/ps", ".", "..", "../ps", "ps 0", "ps\n", "ä", "a" * 121], ids=lambda key: repr(key[:5])
)
def test_a_malformed_key_is_refused(store: CoordinationStore, key: str) -> None:
    for call in calls(store, key):
        with pytest.raises(InvalidValueError, match="is no key of a coordination store"):
            call()


def test_a_value_that_is_too_long_is_refused(store: CoordinationStore) -> None:
    with pytest.raises(InvalidValueError, match=f"has {MAX_VALUE_BYTES + 1} bytes; .* at most {MAX_VALUE_BYTES}"):
        store.compare_and_set(KEY, bytes(MAX_VALUE_BYTES + 1), revision=0, timeout_s=TIMEOUT_S)
    assert read(store) is None


def test_a_watch_returns_at_once_what_has_changed_before(store: CoordinationStore) -> None:
    entry = write(store, b"value")
    assert store.watch(KEY, revision=0, timeout_s=TIMEOUT_S) == entry
    assert store.watch(KEY, revision=entry.revision - 1, timeout_s=TIMEOUT_S) == entry
    assert store.watch("ps:9", revision=entry.revision, timeout_s=TIMEOUT_S) is None


def test_a_watch_waits_for_a_change(stores: Stores) -> None:
    watcher, writer = stores(), stores()
    with ThreadPoolExecutor(1) as threads:
        revision = 0
        for value in (b"first", b"second"):
            watching = threads.submit(watcher.watch, KEY, revision=revision, timeout_s=TIMEOUT_S)
            write(writer, b"of another key", key=f"other/{value.decode()}")
            assert not watching.done()
            entry = write(writer, value, revision)
            assert watching.result(TIMEOUT_S) == entry
            revision = entry.revision


def test_a_watch_returns_what_is_there_when_time_is_over(store: CoordinationStore) -> None:
    assert store.watch(KEY, revision=0, timeout_s=0.2) is None
    entry = write(store, b"value")
    assert store.watch(KEY, revision=entry.revision, timeout_s=0.2) == entry


def test_watchers_see_the_last_of_many_values(stores: Stores) -> None:
    writes = 100

    def watch_until_last(store: CoordinationStore) -> list[Entry]:
        seen = [Entry(b"", 0)]
        while seen[-1].value != b"last":
            entry = store.watch(KEY, revision=seen[-1].revision, timeout_s=TIMEOUT_S)
            assert entry is not None
            seen.append(entry)
        return seen

    with ThreadPoolExecutor(3) as threads:
        watching = [threads.submit(watch_until_last, stores()) for _ in range(3)]
        writer, revision = stores(), 0
        for number in range(writes):
            revision = write(writer, b"%d" % number, revision).revision
        last = write(writer, b"last", revision)
        for each in watching:
            seen = each.result(TIMEOUT_S)
            revisions = [entry.revision for entry in seen]
            assert revisions == sorted(set(revisions))
            assert seen[-1] == last


def test_close_ends_calls_of_other_threads(stores: Stores) -> None:
    store = stores()
    read(store)
    begun = threading.Event()

    def watch() -> None:
        begun.set()
        store.watch(KEY, revision=0, timeout_s=10 * TIMEOUT_S)

    with ThreadPoolExecutor(1) as threads:
        watching = threads.submit(watch)
        assert begun.wait(TIMEOUT_S)
        store.close()
        assert isinstance(watching.exception(TIMEOUT_S), UnavailableError)
    store.close()
    for call in calls(store, KEY):
        with pytest.raises(UnavailableError, match="was closed; open it again"):
            call()


def test_every_increment_by_many_threads_counts_once(stores: Stores) -> None:
    shared = stores()
    with ThreadPoolExecutor(6) as threads:
        counting = [
            threads.submit(lambda store: [*count(store, 20)], shared if each % 2 else stores()) for each in range(6)
        ]
        written = [entry for each in counting for entry in each.result(4 * TIMEOUT_S)]
    assert sorted(int(entry.value) for entry in written) == [*range(1, 121)]
    assert read(shared) == max(written, key=lambda entry: entry.revision)
    in_order = sorted(written, key=lambda entry: entry.revision)
    assert [int(entry.value) for entry in in_order] == [*range(1, 121)]


def test_every_increment_by_many_processes_counts_once(url: str, namespace: str, store: CoordinationStore) -> None:
    counters = [start_counter(url, namespace, 25) for _ in range(4)]
    written = [printed(counter.communicate(timeout=4 * TIMEOUT_S)[0]) for counter in counters]
    assert [counter.returncode for counter in counters] == [0] * 4
    revisions = {number: revision for each in written for number, revision in each.items()}
    assert sorted(revisions) == [*range(1, 101)]
    assert sorted(revisions.values()) == [revisions[number] for number in range(1, 101)]
    assert read(store) == Entry(b"100", revisions[100])


def test_what_one_has_written_the_others_read(stores: Stores) -> None:
    many, revision = [stores() for _ in range(3)], 0
    for number in range(30):
        entry = write(many[number % 3], b"%d" % number, revision)
        assert [read(each) for each in many] == [entry] * 3
        revision = entry.revision
