"""In what a ps should keep its journal: ``python -m benchmarks.journal_stores [DIRECTORY]``.

Appends blobs of several sizes to each store in alternation, each durable on its own, and reads them back. The limit is
a plain file: append in pieces, then fdatasync. SQLite takes part with several page sizes, with its write-ahead log
carried over into the database every few MiB and used again (its rule), or growing until the file is given up. "journal"
is what the ps does: SQLite with large records in a plain file beside it, records encoded, checksummed and decoded. lmdb
takes part if it is installed. Give a directory on the disk in question; the default is the current one.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import numpy as np
from rich.console import Console

from benchmarks.tables import Table
from ps_protocol.operations import BatchReply, Result, Update, UpdateRule
from ps_server.journal import Journal
from ps_server.records import AppliedBatch, LoggedRecord

_SIZES = {300: 60, 4096: 60, 65_536: 30, 1_048_576: 8, 16 * 1_048_576: 2}  # bytes -> commits in a round
_WARM_UP_BYTES = 24 * 1024**2  # until a log of a few MiB has come round, even if each commit takes a page of 16 KiB
_WARM_UP_COMMITS = 300
_PAGES = (4096, 8192, 16384, 32768, 65536)
_LOG_BYTES = 4 * 1024**2
_WRITE_BYTES = 512 * 1024
_CLIENT = UUID(int=1)


class Store(Protocol):
    """Keeps blobs in the order in which they come."""

    def append(self, data: bytes) -> None:
        """Returns when the blob is on disk."""
        ...

    def read(self) -> Iterator[int]:
        """Returns the sizes of all blobs, having read them."""
        ...

    def close(self) -> None: ...


class PlainFile:
    """The limit, if it is written in small pieces."""

    def __init__(self, path: Path, piece_bytes: int):
        self._file = os.open(path, os.O_RDWR | os.O_CREAT)
        self._piece_bytes = piece_bytes
        self._sizes: list[int] = []

    def append(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(view), self._piece_bytes):
            os.write(self._file, view[start : start + self._piece_bytes])
        os.fdatasync(self._file)
        self._sizes.append(len(data))

    def read(self) -> Iterator[int]:
        os.lseek(self._file, 0, os.SEEK_SET)
        for size in self._sizes:
            yield len(os.read(self._file, size))

    def close(self) -> None:
        os.close(self._file)


class Sqlite:
    """SQLite with a write-ahead log and a sync for each commit."""

    def __init__(self, path: Path, page_bytes: int, log_bytes: int):
        self._database = sqlite3.connect(path, isolation_level=None)
        for pragma in (
            f"page_size={page_bytes}",
            "locking_mode=EXCLUSIVE",
            "journal_mode=WAL",
            "synchronous=FULL",
            f"wal_autocheckpoint={log_bytes // page_bytes}",
        ):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute("CREATE TABLE commits (first INTEGER PRIMARY KEY, frames BLOB)")

    def append(self, data: bytes) -> None:
        self._database.execute("INSERT INTO commits (frames) VALUES (?)", (data,))

    def read(self) -> Iterator[int]:
        for (data,) in self._database.execute("SELECT frames FROM commits ORDER BY first"):
            yield len(data)

    def close(self) -> None:
        self._database.close()


class Lmdb:
    """lmdb, whose map size has to be known beforehand."""

    def __init__(self, path: Path):
        lmdb: Any = importlib.import_module("lmdb")
        self._database = lmdb.open(str(path), map_size=8 * 1024**3)
        self._count = 0

    def append(self, data: bytes) -> None:
        self._count += 1
        with self._database.begin(write=True) as transaction:
            transaction.put(self._count.to_bytes(8, "big"), data, append=True)

    def read(self) -> Iterator[int]:
        with self._database.begin(buffers=True) as transaction:
            for _, data in transaction.cursor():
                yield len(bytes(data))

    def close(self) -> None:
        self._database.close()


class OurJournal:
    """What the ps does, with an update of so many bytes as a record."""

    def __init__(self, path: Path):
        self._path = path
        self._journal = Journal.open(path, after=0)
        self._position = 0

    def append(self, data: bytes) -> None:
        self._position += 1
        update = Update("variable", UpdateRule.ASSIGN_ADD, np.frombuffer(data, np.float32))
        reply = BatchReply((Result(self._position, True),))
        self._journal.write([LoggedRecord(self._position, AppliedBatch(_CLIENT, self._position, (update,), reply))])

    def read(self) -> Iterator[int]:
        self._journal.close()
        self._journal = Journal.open(self._path, after=0)
        for logged in self._journal.replay(0):
            assert isinstance(logged.record, AppliedBatch)
            update = logged.record.operations[0]
            assert isinstance(update, Update)
            yield update.value.nbytes

    def close(self) -> None:
        self._journal.close()


def stores(directory: Path) -> dict[str, Callable[[], Store]]:
    """Returns how to make each store."""
    made: dict[str, Callable[[], Store]] = {
        "plain file": lambda: PlainFile(directory / "plain", _WRITE_BYTES),
        "plain file, one write each": lambda: PlainFile(directory / "one-write", 1024**3),
        "journal": lambda: OurJournal(directory / "journal"),
    }
    for page_bytes in _PAGES:
        for how, log_bytes in (("log used again", _LOG_BYTES), ("log grows", 0)):
            path = directory / f"{page_bytes}-{log_bytes}.sqlite"
            name = f"SQLite, {page_bytes // 1024} KiB pages, {how}"
            made[name] = partial(Sqlite, path, page_bytes, log_bytes)
    with contextlib.suppress(ImportError):
        importlib.import_module("lmdb")
        made["lmdb"] = lambda: Lmdb(directory / "lmdb")
    return made


def measure(size: int, commits: int, rounds: int, root: Path) -> Table:
    """Returns what one size costs in each store."""
    data = os.urandom(size)
    taken: dict[str, list[float]] = {}
    worked: dict[str, float] = {}
    rows: list[Sequence[str]] = []
    warm_up = min(_WARM_UP_COMMITS, 1 + _WARM_UP_BYTES // size)
    with tempfile.TemporaryDirectory(dir=root) as name, contextlib.ExitStack() as stack:
        opened = {each: stack.enter_context(contextlib.closing(make())) for each, make in stores(Path(name)).items()}
        for store in opened.values():
            for _ in range(warm_up):
                store.append(data)
        for _ in range(rounds):
            for each, store in opened.items():
                cpu_s = time.thread_time()
                taken.setdefault(each, []).extend([_timed(store, data) for _ in range(commits)])
                worked[each] = worked.get(each, 0.0) + time.thread_time() - cpu_s
        for each, store in opened.items():
            started_s = time.perf_counter()
            read_bytes = sum(store.read())
            read_s = time.perf_counter() - started_s
            assert read_bytes == size * (warm_up + rounds * commits), each
            median_s = statistics.median(taken[each])
            rows.append(
                [
                    each,
                    f"{1e3 * median_s:.2f}",
                    f"{1e3 * min(taken[each]):.2f}",
                    f"{1e6 * worked[each] / len(taken[each]):.0f}",
                    f"{size / median_s / 1e6:.0f}",
                    f"{read_bytes / read_s / 1e6:.0f}",
                ]
            )
    columns = ["store", "commit, p50 ms", "best ms", "CPU us", "write MB/s", "read MB/s"]
    return Table(f"{size} bytes a commit, {rounds * commits} commits", columns, rows)


def _timed(store: Store, data: bytes) -> float:
    started_s = time.perf_counter()
    store.append(data)
    return time.perf_counter() - started_s


def main() -> None:
    """Measures all sizes and prints a table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, nargs="?", default=Path(), help="on the disk to measure")
    parser.add_argument("--rounds", type=int, default=5, help="how often each takes its turn (default: 5)")
    parser.add_argument(
        "--bytes", type=int, nargs="+", choices=list(_SIZES), default=list(_SIZES), help="(default: all)"
    )
    given = parser.parse_args()
    console = Console(width=120)
    for size in given.bytes:
        measure(size, _SIZES[size], given.rounds, given.directory).show(console)


if __name__ == "__main__":
    main()
