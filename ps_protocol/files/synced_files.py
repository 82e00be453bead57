"""Files that are on disk when their writer closes: written in pieces, checksummed on the way, synced.

Each piece goes to the disk at once, not all at the end: on a file system such as ext4 an fsync of one file waits for
unwritten data of others, and the fsync of the journal must be short.
"""

from __future__ import annotations

import ctypes
import errno
import io
import os
import shutil
import zlib
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ps_protocol.codec.tensor_codec import Buffer

PIECE_BYTES: Final = 512 * 1024
"""What is checksummed and written or read at a time, so that it is still in the processor's cache.

For writes above one or two MiB Linux makes large folios, which take ten times as long. Writing to the disk begins
when so much is there: to begin takes as long for less.
"""

_UNSYNCED_BYTES: Final = 8 * 1024**2
"""What may be unwritten at a time; a sync of another file waits for it, a few milliseconds."""

MANY_UNSYNCED_BYTES: Final = 64 * 1024**2
"""Likewise, of a process that keeps no journal: the disk has something to do nearly always."""

_BUFFER_BYTES: Final = 64 * 1024
"""Small pieces are collected in so much; larger ones go to the system as they are, without a copy."""

PRIVATE: Final = 0o600
"""The mode of a file that belongs to one task alone, whatever the umask."""

USUAL: Final = 0o666
"""That of a file that belongs to the user, as other programs make them: less what the umask takes away."""

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Numbers of the errors of a full disk."""


def open_private(path: Path, flags: int) -> int:
    """Opens a file that belongs to this task alone, and returns its descriptor; makes it for its user only.

    Raises:
        OSError: It cannot be opened; ELOOP if the name is a link, which could lead anywhere.
    """
    return _opened(path, flags, PRIVATE)


def _opened(path: Path, flags: int, mode: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def make_private_directory(path: Path) -> None:
    """Makes a directory for its user only, and those above it, if they are not there."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)  # those above get the usual mode


class SyncedWriter:
    """Writes a new file, from its beginning to its end or in any order. One thread.

    Args:
        path: Of the file, which must not exist.
        size_bytes: Its size at the end; allocated now, so that a full disk is noticed before anything is written.
        mode: Who may read and write it, ``PRIVATE`` or ``USUAL``.

    Attributes:
        most_unsynced_bytes: What may be unwritten at a time.

    Raises:
        OSError: There is no room, or the file cannot be made.
    """

    def __init__(self, path: Path, size_bytes: int = 0, *, mode: int = PRIVATE):
        self._raw = io.FileIO(path, "xb", opener=lambda _name, flags: _opened(path, flags, mode))
        self._file = io.BufferedWriter(self._raw, _BUFFER_BYTES)
        self.most_unsynced_bytes = _UNSYNCED_BYTES
        self._written_bytes = 0  # up to where the disk has begun
        self._waiting_bytes = 0  # with which it has not
        self._unsynced_bytes = 0
        try:
            if size_bytes:
                os.posix_fallocate(self._file.fileno(), 0, size_bytes)
        except BaseException:
            self._raw.close()
            raise

    def write(self, data: Buffer, crc: int = 0) -> int:
        """Appends bytes; returns their CRC-32, going on from the one given."""
        view = memoryview(data)
        for start in range(0, len(view), PIECE_BYTES):
            piece = view[start : start + PIECE_BYTES]
            crc = zlib.crc32(piece, crc)
            self._file.write(piece)
            self._waiting_bytes += len(piece)
            self._unsynced_bytes += len(piece)
            if self._waiting_bytes >= PIECE_BYTES:
                self._begin_writing_out()
            if self._unsynced_bytes >= self.most_unsynced_bytes:
                self._force_out()
        return crc

    def move_to(self, offset: int) -> None:
        """Goes on at another place of the file."""
        if offset == self._file.tell():
            return
        self._begin_writing_out()
        self._file.seek(offset)
        self._written_bytes = offset

    def end_here(self) -> None:
        """Makes the place that was reached the end of the file, which may be another than was said."""
        self._file.truncate()

    def close(self) -> None:
        """Returns when all is on disk."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._raw.close()  # what is still buffered is dropped

    def _begin_writing_out(self) -> None:
        """Starts writing to the disk, which then works while the next piece is checksummed."""
        self._file.flush()
        self._waiting_bytes = 0
        written_bytes = self._raw.tell()
        # For DONTNEED Linux starts writing dirty pages, and drops only clean ones.
        os.posix_fadvise(
            self._raw.fileno(), self._written_bytes, written_bytes - self._written_bytes, os.POSIX_FADV_DONTNEED
        )
        self._written_bytes = written_bytes

    def _force_out(self) -> None:
        self._file.flush()
        os.fdatasync(self._file.fileno())
        self._unsynced_bytes = 0


def read_into(descriptor: int, target: memoryview, offset: int, crc: int = 0) -> int:
    """Fills ``target`` from a place in a file; returns the CRC-32 of what was read, going on from the one given.

    Safe from many threads.

    Raises:
        EOFError: The file ends before.
        OSError: It cannot be read.
    """
    for start in range(0, len(target), PIECE_BYTES):
        piece = target[start : start + PIECE_BYTES]
        done = 0
        while done < len(piece):
            count = os.preadv(descriptor, [piece[done:]], offset + start + done)
            if not count:
                raise EOFError(f"the file ends at byte {offset + start + done}")
            done += count
        crc = zlib.crc32(piece, crc)
    return crc


def sync_directory(path: Path) -> None:
    """Returns when the names in a directory are on disk, as they are now."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Makes a directory, and those above it, if they are not there; their names are on disk when this returns.

    Raises:
        OSError: It cannot be made, or something else has its name.
    """
    missing = path
    while not missing.is_dir():
        missing = missing.parent
    path.mkdir(parents=True, exist_ok=True)
    for each in [path, *path.parents]:
        if each == missing:
            break
        sync_directory(each.parent)


def replace_file(path: Path, content: bytes, *, mode: int = PRIVATE) -> None:
    """Puts a small file in the place of another, or of none, whole or not at all.

    Args:
        path: Of the file.
        content: What is to be in it.
        mode: As of ``SyncedWriter``.

    Raises:
        OSError: It cannot be written; the one before is still there.
    """
    fresh = path.with_name(f".{path.name}.tmp")
    fresh.unlink(missing_ok=True)
    with SyncedWriter(fresh, mode=mode) as writer:
        writer.write(content)
    fresh.replace(path)
    sync_directory(path.parent)


def exchange(one: Path, other: Path) -> None:
    """Gives each of two folders the name of the other: at once, or on file systems that cannot in three steps.

    Raises:
        OSError: They cannot be renamed; each has its name, or that of the second is free.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # Linux since 3.15
    if rename is not None:
        if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
            raise OSError(number, os.strerror(number), str(other))
    aside = other.with_name(f".{other.name}.replaced.tmp")
    shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed here; another one is in its place by now
    try:
        other.rename(aside)
        one.rename(other)
    except BaseException:
        if aside.exists() and not other.exists():
            aside.rename(other)
        raise
    aside.rename(one)


def overwrite_file(path: Path, content: bytes) -> None:
    """Writes a small file where it lies, which a full disk has room for if it was as long before.

    It must not be larger than a sector of the disk, 512 bytes: then it is the old or the new one after a power loss.

    Raises:
        OSError: It cannot be written.
    """
    is_new = not path.exists()
    descriptor = open_private(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        sync_directory(path.parent)
