"""Reads one file of the journal after a restart; every record is checked.

Reading changes nothing: a damaged journal stays as it was found.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from ps_protocol.codec import tensor_codec
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.files import synced_files
from ps_server.durability.disk.data_directory import DataDirectoryError
from ps_server.durability.journal.file import SUFFIXES
from ps_server.durability.journal.frames import Frame, MalformedRowError, Row, frames_of
from ps_server.log import record_codec
from ps_server.log.records import LoggedRecord


class CorruptJournalError(DataDirectoryError):
    """The journal is damaged; the message names file, position and remedy."""


def refuse(path: Path, position: int, what: object) -> NoReturn:
    """Raises the error for a journal that is damaged from a position on."""
    raise CorruptJournalError(
        f"the journal file {path} is damaged at the record {position} or after it: {what}. Put back an undamaged copy "
        f"of {path.parent}; or, to go on from the newest snapshot without what came after it, move everything named "
        f"journal-* and the file 'acknowledged' out of {path.parent}"
    )


def last_position(path: Path, first: int) -> int | None:
    """Returns the position of the newest record in a journal file that begins with ``first``, None if it has none.

    Raises:
        CorruptJournalError: The database cannot be read.
    """
    with _reading(path, first) as database:
        last = database.execute("SELECT max(last) FROM commits").fetchone()[0]
    if last is not None and not isinstance(last, int):
        refuse(path, first, f"{last!r} is no position")
    return last


def force_out(path: Path) -> None:
    """Syncs a journal file, also what its writer had not synced."""
    for suffix in SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path.with_suffix(suffix), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def read_records(path: Path, after: int) -> Iterator[LoggedRecord]:
    """Returns the records of a journal file after a position, in order, one in memory at a time, each checked.

    Raises:
        CorruptJournalError: A record is damaged, or missing before others.
    """
    expected = after + 1
    with contextlib.ExitStack() as resources:
        database = resources.enter_context(_reading(path, expected))
        tensors = os.open(path.with_suffix(".tensors"), os.O_RDONLY | os.O_CLOEXEC)
        resources.callback(os.close, tensors)
        os.posix_fadvise(tensors, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        for values in database.execute(
            "SELECT first, last, frames FROM commits WHERE last > ? ORDER BY first", (after,)
        ):
            row = _row(path, values, expected)
            try:
                for frame in frames_of(row):
                    if frame.position >= expected:
                        yield _read(path, frame, tensors)
            except MalformedRowError as error:
                refuse(path, error.position, error)
            expected = row.last + 1


def _row(path: Path, values: tuple[object, object, object], expected: int) -> Row:
    first, last, frames = values
    if not (isinstance(first, int) and isinstance(last, int) and isinstance(frames, bytes)):
        refuse(path, expected, "its row in the database is damaged")
    if not first <= expected <= last:
        refuse(path, expected, f"the records found next are {first} to {last}")
    return Row(first, last, frames)


def _read(path: Path, frame: Frame, tensors: int) -> LoggedRecord:
    try:
        logged = _read_outside(frame, tensors) if frame.inline is None else _read_inline(frame, frame.inline)
    except EOFError as error:
        refuse(path.with_suffix(".tensors"), frame.position, error)
    except InvalidArgumentError as error:
        # The checksum is right, so this was written, perhaps by a newer version.
        refuse(path, frame.position, f"{error.message} (was it written by a newer version?)")
    if logged is None or logged.position != frame.position:
        refuse(
            path if frame.inline is not None else path.with_suffix(".tensors"), frame.position, "its checksum is wrong"
        )
    return logged


def _read_inline(frame: Frame, data: memoryview) -> LoggedRecord | None:
    """Returns the record; None if it is not what was written."""
    if zlib.crc32(data) != frame.crc:
        return None
    return record_codec.decode_record_of(
        record_codec.parse_record(data[: frame.header_bytes]), data[frame.header_bytes :]
    )


def _read_outside(frame: Frame, tensors: int) -> LoggedRecord | None:
    """Returns the record, each tensor with memory of its own; None if it is not what was written."""
    # The size first, so that a file that was cut takes no memory.
    size_bytes = os.fstat(tensors).st_size
    if frame.offset + frame.size_bytes > size_bytes:
        raise EOFError(f"the file has {size_bytes} bytes only")
    content = bytearray(frame.header_bytes)
    crc = synced_files.read_into(tensors, memoryview(content), frame.offset)
    try:
        header = record_codec.parse_record(content)
        layouts = record_codec.record_layouts(header)
    except InvalidArgumentError:
        if crc == frame.crc:  # of a record without tensors
            raise
        return None
    if sum(layout.size_bytes for layout in layouts) != frame.tensor_bytes:
        return None
    offset, buffers = frame.offset + frame.header_bytes, list[memoryview]()
    for layout in layouts:
        _, buffer = tensor_codec.allocate(layout)
        crc = synced_files.read_into(tensors, buffer, offset, crc)
        offset += layout.size_bytes
        buffers.append(buffer)
    return record_codec.decode_record(header, buffers) if crc == frame.crc else None


@contextlib.contextmanager
def _reading(path: Path, position: int) -> Iterator[sqlite3.Connection]:
    try:
        # This process owns the directory. Without locks SQLite writes nothing, not even a shared index of its log, for
        # which a full disk would have no room.
        uri = f"{path.absolute().as_uri()}?mode=ro&vfs=unix-none"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as database:
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("PRAGMA trusted_schema = OFF")
            yield database
    except (sqlite3.Error, FileNotFoundError) as error:
        refuse(path, position, error)
