"""One file of the journal being written: records in an SQLite database, large ones in a plain file beside it.

The tensor file is synced before the row that refers to it is committed. So the records of a committed row are whole.
SQLite checksums its log and drops a row that was not committed. A record that does not match its checksum was damaged
later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from ps_protocol.fault_points import fault_point
from ps_protocol.files import synced_files
from ps_server.durability.disk.held_places import HeldPlaces
from ps_server.durability.journal.frames import Layout, Row
from ps_server.log.commit_log import SinkUnavailableError
from ps_server.log.records import LoggedRecord

SUFFIXES: Final = (".sqlite", ".sqlite-wal", ".sqlite-shm", ".tensors")
"""Of the files that make up one journal file; without the first, the others are useless."""

_HELD_SUFFIXES: Final = (".sqlite", ".sqlite-wal", ".tensors")

PAGE_BYTES: Final = 16 * 1024
LOG_BYTES: Final = 4 * 1024**2
"""Size of the write-ahead log at which SQLite copies it into the database and starts it again."""

_APPLICATION_ID: Final = 0x53485244  # "SHRD", for file(1)
_INSERT: Final = "INSERT INTO commits (first, last, frames) VALUES (?, ?, ?)"
_VECTOR_BUFFERS: Final = 512  # handed to one pwritev; the system takes at most 1024
_WRITE_BYTES: Final = 512 * 1024  # likewise: for 16 MiB at once, Linux takes ten times as long as for 1 MiB at a time
_SHARED_WORK_BYTES: Final = 4 * 1024**2  # worth a thread, which takes about 0.1 ms
_NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE})


class JournalFile:
    """A journal file that is written to. One thread at a time.

    Args:
        path: Of the database, as ``create`` has made it.
    """

    def __init__(self, path: Path):
        self._tensors = synced_files.open_private(path.with_suffix(".tensors"), os.O_WRONLY | os.O_CREAT)
        try:
            self._tensor_bytes = os.fstat(self._tensors).st_size
            self._database = _connect(path)
        except BaseException:
            os.close(self._tensors)
            raise
        self._place: HeldPlaces | None = None

    @classmethod
    def create(cls, path: Path) -> JournalFile:
        """Makes a journal file, which appears under its name when it is complete; replaces one without records.

        Raises:
            SinkUnavailableError: The disk is full, or there is no descriptor.
        """
        fresh = path.with_name(f".{path.stem}.new{path.suffix}")
        with _no_descriptor_may_pass(), _full_disk_may_pass():
            for suffix in SUFFIXES:
                fresh.with_suffix(suffix).unlink(missing_ok=True)
                path.with_suffix(suffix).unlink(missing_ok=True)
            with contextlib.closing(_connect(fresh)) as database:
                database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                database.execute("CREATE TABLE commits (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, frames BLOB)")
            fault_point("journal.file_made")
            fresh.rename(path)
            fault_point("journal.file_named")
            created = cls(path)
            try:
                created._database.execute("PRAGMA user_version = 1")  # creates the log before the directory is synced
                created._place = HeldPlaces([path.with_suffix(suffix) for suffix in _HELD_SUFFIXES])
                synced_files.sync_directory(path.parent)
            except BaseException:
                created.close()
                raise
        return created

    def append(self, records: Sequence[LoggedRecord]) -> None:
        """Commits records; they are on disk when this returns.

        Raises:
            SinkUnavailableError: The disk is full; none of the records is kept.
            OSError: The tensor file failed; it is not known what is on disk.
            sqlite3.Error: The same for the database.
        """
        layout = Layout(records, self._tensor_bytes)
        with _full_disk_may_pass():
            try:
                rows = self._write_outside(layout)
                if layout.outside:
                    os.fdatasync(self._tensors)
                fault_point("journal.before_commit")
                self._insert(rows)
            except BaseException as error:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                try:
                    self._check_quota(error)
                finally:
                    os.ftruncate(self._tensors, self._tensor_bytes)  # frees the room
                raise
        self._tensor_bytes = layout.end

    def check_place(self) -> None:
        """Raises DisplacedError if what was written would not be found under its name."""
        if self._place is not None:
            self._place.check()

    def close(self) -> None:
        """Closes the files; SQLite copies its log into the database."""
        if self._place is not None:
            self._place.close()
        os.close(self._tensors)
        self._database.close()

    def _write_outside(self, layout: Layout) -> list[Row]:
        """Writes large records to the tensor file, and returns the rows. Their checksums are made meanwhile.

        Checksums take a processor about as long as a fast disk takes for the bytes.
        """
        if layout.end - self._tensor_bytes < _SHARED_WORK_BYTES:
            _write_at(self._tensors, layout.outside, self._tensor_bytes)
            return layout.rows()
        with ThreadPoolExecutor(1, thread_name_prefix="journal-checksums") as pool:  # waits at its end
            rows = pool.submit(layout.rows)
            _write_at(self._tensors, layout.outside, self._tensor_bytes)
            return rows.result()

    def _check_quota(self, error: BaseException) -> None:
        """Raises the system's error if the quota is used up: SQLite reports that as a broken disk."""
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_WRITE:
            os.pwrite(self._tensors, bytes(LOG_BYTES), self._tensor_bytes)

    def _insert(self, rows: Sequence[Row]) -> None:
        values = [(row.first, row.last, row.frames) for row in rows]
        if len(values) == 1:
            # A single statement is a transaction: one call, which releases the GIL once.
            self._database.execute(_INSERT, values[0])
            return
        self._database.execute("BEGIN IMMEDIATE")
        self._database.executemany(_INSERT, values)
        self._database.execute("COMMIT")


def _connect(path: Path) -> sqlite3.Connection:
    os.close(synced_files.open_private(path, os.O_RDWR | os.O_CREAT))  # SQLite gives the log the mode of the database
    # The journal lets in one thread at a time.
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        database.execute("PRAGMA locking_mode = EXCLUSIVE")  # no other process: no shared memory, no locks
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(f"PRAGMA wal_autocheckpoint = {LOG_BYTES // PAGE_BYTES}")
    except BaseException:
        database.close()
        raise
    return database


def _write_at(descriptor: int, buffers: Sequence[memoryview], offset: int) -> None:
    """Writes the buffers end to end, and starts writing to the disk."""
    for vector in _vectors(buffers):
        size_bytes = sum(map(len, vector))
        written = os.pwritev(descriptor, vector, offset)
        if written < size_bytes:  # at the end of the disk, say; the next call raises the reason
            _write_at(descriptor, [memoryview(b"".join(vector))[written:]], offset + written)
        # For DONTNEED Linux starts writing dirty pages, and drops only clean ones.
        os.posix_fadvise(descriptor, offset, size_bytes, os.POSIX_FADV_DONTNEED)
        offset += size_bytes


def _vectors(buffers: Sequence[memoryview]) -> Iterator[list[memoryview]]:
    """Returns the bytes of the buffers in portions for one call each."""
    vector: list[memoryview] = []
    room = _WRITE_BYTES
    for buffer in buffers:
        start = 0
        while start < len(buffer):
            piece = buffer[start : start + room]
            vector.append(piece)
            start += len(piece)
            room -= len(piece)
            if not room or len(vector) == _VECTOR_BUFFERS:
                yield vector
                vector, room = [], _WRITE_BYTES
    if vector:
        yield vector


@contextlib.contextmanager
def _full_disk_may_pass() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL:
            raise
        raise SinkUnavailableError("the disk is full; free some of it") from error
    except OSError as error:
        if error.errno not in synced_files.NO_ROOM:
            raise
        raise SinkUnavailableError(f"{error.strerror}; free some of the disk, or raise the quota") from error


@contextlib.contextmanager
def _no_descriptor_may_pass() -> Iterator[None]:
    """For what has not yet taken any record, so that it can be tried again whatever has failed in opening it."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        # SQLite does not say why it could not open a file.
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_CANTOPEN and (
            getattr(error, "errno", None) not in _NO_DESCRIPTOR
        ):
            raise
        raise SinkUnavailableError(
            f"a new file cannot be opened ({error}); raise the limit of open files, or have fewer clients connected"
        ) from error
