"""Coordination stores while processes are killed and stopped, networks cut, and disks full or away."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from ps_protocol.errors import UnavailableError
from ps_server.coordination.addresses import open_store
from ps_server.coordination.store import CoordinationStore, Entry
from tests.chaos.proxy import Direction, Proxy
from tests.chaos.test_disk import fill
from tests.conftest import Eventually
from tests.coordination_counter import KEY, TIMEOUT_S, count, printed, start_counter
from tests.etcd_process import EtcdProcess, etcd_cluster

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

SHORT_S: Final = 0.5
NAMESPACE: Final = "chaos"


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdProcess]:
    with EtcdProcess(tmp_path / "etcd") as process:
        process.wait_until_ready()
        yield process


@pytest.fixture(params=["file", "etcd"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a store that nobody has used."""
    if request.param == "file":
        return (tmp_path / "coordination").as_uri()
    process: EtcdProcess = request.getfixturevalue("etcd")
    return process.url


@contextlib.contextmanager
def opened(url: str) -> Iterator[CoordinationStore]:
    store = open_store(url, namespace=NAMESPACE)
    try:
        yield store
    finally:
        store.close()


def read(store: CoordinationStore) -> Entry | None:
    return store.read(KEY, timeout_s=TIMEOUT_S)


def write(store: CoordinationStore, value: bytes, revision: int = 0) -> Entry:
    written, entry = store.compare_and_set(KEY, value, revision=revision, timeout_s=TIMEOUT_S)
    assert written
    assert entry is not None
    return entry


def number_in(store: CoordinationStore) -> int:
    entry = read(store)
    return int(entry.value) if entry else 0


@contextlib.contextmanager
def counter(url: str) -> Iterator[subprocess.Popen[str]]:
    """A process that counts until it is killed."""
    process = start_counter(url, NAMESPACE, sys.maxsize)
    try:
        yield process
    finally:
        process.kill()
        process.wait(TIMEOUT_S)
        if process.stdout is not None:
            process.stdout.close()


def take_lines(process: subprocess.Popen[str], num_lines: int) -> str:
    assert process.stdout is not None
    return "".join(process.stdout.readline() for _ in range(num_lines))


def test_writers_that_are_killed_lose_nothing_that_was_acknowledged(url: str) -> None:
    moments = random.Random(20)
    acknowledged: dict[int, int] = {}
    with opened(url) as store:
        for _ in range(8):
            with counter(url) as process, counter(url) as other:
                output = take_lines(process, moments.randrange(1, 12)) + take_lines(other, 1)
                process.kill()
                other.kill()
                assert process.stdout is not None
                assert other.stdout is not None
                for text in (output + process.stdout.read(), other.stdout.read()):
                    numbers = printed(text)
                    assert not numbers.keys() & acknowledged.keys()
                    acknowledged |= numbers
            entry = read(store)
            assert entry is not None
            last = int(entry.value)
            assert max(acknowledged) <= int(entry.value)
            assert max(acknowledged.values()) <= entry.revision
        in_order = sorted(acknowledged)
        assert [acknowledged[number] for number in in_order] == sorted(acknowledged.values())
        [after] = count(store, 1)
        assert int(after.value) == last + 1


def test_a_writer_that_is_stopped_anywhere_holds_up_nobody(url: str) -> None:
    """A lock would be held by the one that was stopped, now and then; a few percent of the time it is writing."""
    with opened(url) as store, counter(url) as process:
        take_lines(process, 1)
        for _ in range(25):
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            before = number_in(store)
            # The stopped one may have written a last time in between, in etcd.
            assert [int(entry.value) for entry in count(store, 3)][-1] in (before + 3, before + 4)
            process.send_signal(signal.SIGCONT)
            take_lines(process, 1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, in memory."""
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    with mounted(disk):
        yield disk


@contextlib.contextmanager
def mounted(place: Path) -> Iterator[None]:
    """Has another disk, of 1 MiB, at a place."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"root may not mount here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_an_error_and_what_was_written_can_be_read(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    with opened((small_disk / "coordination").as_uri()) as store:
        entry = write(store, b"value")
        fill(ballast)
        for _ in range(3):
            with pytest.raises(UnavailableError, match=r"did not write .*No space left on device; free some of the di"):
                store.compare_and_set(KEY, bytes(10_000), revision=entry.revision, timeout_s=TIMEOUT_S)
        assert read(store) == entry
        assert store.watch(KEY, revision=0, timeout_s=TIMEOUT_S) == entry
        with opened((small_disk / "coordination").as_uri()) as other:
            assert read(other) == entry
        ballast.unlink()
        later = write(store, bytes(10_000), entry.revision)
        assert later.revision == entry.revision + 1
        assert [each.name for each in small_disk.rglob(".*")] == []


def test_a_store_that_begins_on_a_full_disk_begins_when_there_is_room(small_disk: Path) -> None:
    fill(small_disk / "ballast")
    with opened((small_disk / "coordination").as_uri()) as store:
        for _ in range(2):
            with pytest.raises(UnavailableError, match=r"did not write .*No space left on device; free some of the di"):
                store.compare_and_set(KEY, b"value", revision=0, timeout_s=TIMEOUT_S)
        (small_disk / "ballast").unlink()
        assert read(store) is None
        write(store, b"value")


def test_a_disk_that_is_not_mounted_is_noticed_and_serves_when_it_is_back(tmp_path: Path) -> None:
    directory = tmp_path / "coordination"
    with opened(directory.as_uri()) as store:
        entry = write(store, b"value")
        with mounted(directory):
            with pytest.raises(UnavailableError, match=r"did not read .*or its disk is not mounted; put the directory"):
                read(store)
            with pytest.raises(UnavailableError, match=r"did not write .*or its disk is not mounted"):
                store.compare_and_set(KEY, b"other", revision=entry.revision, timeout_s=TIMEOUT_S)
            assert list(directory.iterdir()) == []
        assert read(store) == entry
        write(store, b"other", entry.revision)


def test_a_stopped_etcd_is_an_error_and_serves_when_it_goes_on(etcd: EtcdProcess) -> None:
    with opened(etcd.url) as store:
        entry = write(store, b"value")
        etcd.stop()
        with pytest.raises(UnavailableError, match=r"did not read .*no answer in time .*check that etcd runs"):
            store.read(KEY, timeout_s=SHORT_S)
        with pytest.raises(UnavailableError, match=r"did not watch .*no answer in time"):
            store.watch(KEY, revision=entry.revision, timeout_s=SHORT_S)
        with pytest.raises(UnavailableError, match=r"did not write .*no answer in time"):
            store.compare_and_set(KEY, b"other", revision=entry.revision, timeout_s=SHORT_S)
        etcd.wake()
        assert read(store) == entry
        etcd.stop()
        with pytest.raises(UnavailableError, match=r"did not say whether it wrote .*no answer in time"):
            store.compare_and_set(KEY, b"other", revision=entry.revision, timeout_s=SHORT_S)
        etcd.wake()
        now = read(store)
        assert now is not None
        assert now == entry or (now.value == b"other" and now.revision > entry.revision)


def watch_until(store: CoordinationStore, value: bytes) -> Entry:
    """Watches as a process does that waits for something, whatever happens to the store."""
    entry: Entry | None = None
    while entry is None or entry.value != value:
        try:
            entry = store.watch(KEY, revision=entry.revision if entry else 0, timeout_s=1.0)
        except UnavailableError as error:
            if "was closed" in str(error):
                raise
    return entry


def test_an_etcd_that_is_killed_again_and_again_keeps_everything(etcd: EtcdProcess) -> None:
    """Those who use it connect again; every increment counts once, and watchers see the last one."""
    is_over = threading.Event()

    def restart() -> None:
        while not is_over.is_set():
            etcd.restart()
            etcd.wait_until_ready()

    with (
        opened(etcd.url) as store,
        opened(etcd.url) as watched,
        ThreadPoolExecutor(4) as threads,
    ):
        before = read(store)
        restarting = threads.submit(restart)
        watching = threads.submit(watch_until, watched, b"last")
        counting: list[Future[list[Entry]]] = [threads.submit(lambda: [*count(store, 60)]) for _ in range(2)]
        try:
            written = [entry for each in counting for entry in each.result(4 * TIMEOUT_S)]
        finally:
            is_over.set()
            restarting.result(4 * TIMEOUT_S)
        assert before is None
        numbers = {int(entry.value): entry.revision for entry in written}
        assert len(numbers) == len(written) == 120
        assert [numbers[number] for number in sorted(numbers)] == sorted(numbers.values())
        entry = read(store)
        assert entry is not None
        assert int(entry.value) >= max(numbers)  # one that was not answered may have counted
        last = write(store, b"last", entry.revision)
        assert watching.result(TIMEOUT_S) == last


def test_an_etcd_that_has_lost_its_data_is_refused(etcd: EtcdProcess) -> None:
    with opened(etcd.url) as store:
        write(store, b"value")
        etcd.kill()
        etcd.remove_data()
        etcd.start()
        etcd.wait_until_ready()
        for revision in (0, 2, 3):
            with pytest.raises(UnavailableError, match="begun anew"):
                store.compare_and_set(KEY, b"other", revision=revision, timeout_s=TIMEOUT_S)
        with opened(etcd.url) as other:
            write(other, b"of another history")
            with pytest.raises(UnavailableError, match="begun anew"):
                read(store)


def test_each_member_of_a_cluster_may_be_killed_or_stopped(tmp_path: Path) -> None:
    with etcd_cluster(tmp_path) as members:
        url = "etcd://" + ",".join(member.address for member in members)
        with opened(url) as store, opened(url) as watched, ThreadPoolExecutor(1) as threads:
            watching = threads.submit(watch_until, watched, b"last")
            written: list[Entry] = []
            for member in members:
                member.kill()
                written += count(store, 5)
                member.start()
                member.wait_until_ready()
                member.stop()
                written += count(store, 5)
                member.wake()
                member.wait_until_ready()
            numbers = [int(entry.value) for entry in written]
            assert numbers == sorted(set(numbers))
            assert read(store) == written[-1]
            last = write(store, b"last", written[-1].revision)
            assert watching.result(TIMEOUT_S) == last


def test_a_cluster_without_a_quorum_writes_nothing(tmp_path: Path) -> None:
    with (
        etcd_cluster(tmp_path) as members,
        opened("etcd://" + ",".join(member.address for member in members)) as store,
    ):
        entry = write(store, b"value")
        for member in members[1:]:
            member.kill()
        with pytest.raises(UnavailableError, match="did not read"):
            store.read(KEY, timeout_s=SHORT_S)
        with pytest.raises(UnavailableError, match="did not"):
            store.compare_and_set(KEY, b"other", revision=entry.revision, timeout_s=SHORT_S)
        members[1].start()
        assert read(store) == entry


@pytest.mark.parametrize("fault", ["cut", "cut-in-reply", "black-hole", "stall"])
def test_a_connection_that_is_cut_or_goes_silent(etcd: EtcdProcess, fault: str, eventually: Eventually) -> None:
    port = int(etcd.address.partition(":")[2])
    with (
        opened(etcd.url) as directly,
        Proxy(port) as proxy,
        ThreadPoolExecutor(1) as threads,
        opened(f"etcd://{proxy.address}") as store,
    ):
        entry = write(store, b"value")
        watching = threads.submit(watch_until, store, b"last")
        match fault:
            case "cut":
                proxy.cut()
            case "cut-in-reply":
                proxy.cut_after(20, Direction.TO_CLIENT)
                assert read(store) == entry
            case _:
                proxy.black_hole() if fault == "black-hole" else proxy.stall()
                with pytest.raises(UnavailableError, match="did not read"):
                    store.read(KEY, timeout_s=SHORT_S)
                proxy.heal()
                eventually(lambda: proxy.num_withheld, message="something was withheld")
        if fault.startswith("cut"):
            eventually(lambda: proxy.num_cut, message="the connection is cut")
        last = write(directly, b"last", entry.revision)
        assert watching.result(TIMEOUT_S) == last
        assert read(store) == last
