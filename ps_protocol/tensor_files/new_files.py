"""Files that are whole or not there: written beside, on disk, then given their name."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from ps_protocol.errors import (
    AlreadyExistsError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    ShardscopeError,
    UnknownError,
)
from ps_protocol.files.synced_files import sync_directory

_BEGIN_BYTES: Final = 8 * 1024**2
"""What is given to the disk at a time."""

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NewFile:
    """A file that has its name only when it is finished. One thread.

    Attributes:
        path: Its name.
        file: What is written to.

    Args:
        path: Its name; what is there of that name is replaced at the end.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, path: Path):
        self.path = path
        self._written = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        self.file: IO[bytes] = self._written.open("xb")
        self._begun_bytes = 0

    def begin_writing_out(self) -> None:
        """Has the disk begin with what was written, if that is much: it works while more is fetched.

        Raises:
            OSError: It cannot be written.
        """
        fresh_bytes = self.file.tell() - self._begun_bytes
        if fresh_bytes < _BEGIN_BYTES:
            return
        self.file.flush()
        # For DONTNEED Linux starts writing dirty pages, and drops only clean ones.
        os.posix_fadvise(self.file.fileno(), self._begun_bytes, fresh_bytes, os.POSIX_FADV_DONTNEED)
        self._begun_bytes += fresh_bytes

    def sync(self) -> None:
        """Returns when what was written is on disk, not yet under its name; else as ``finish``."""
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
        except BaseException:
            self.discard()
            raise

    def finish(self) -> None:
        """Returns when the file is on disk under its name. If it cannot be, nothing is left of it."""
        try:
            with self.file:
                self.sync()
            self._written.replace(self.path)
            sync_directory(self.path.parent)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Removes what was written, unless it is finished."""
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            self._written.unlink()


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """Gives a file to write to, which has its name when the block ends; nothing is left of it after an error.

    Raises:
        OSError: It cannot be written.
    """
    made = NewFile(path)
    try:
        yield made.file
    except BaseException:
        made.discard()
        raise
    made.finish()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what the system says of a file that cannot be written into an error that names it, inside the block."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Path, error: OSError) -> ShardscopeError:
    """Returns (does not raise) the error for a file that cannot be written."""
    if isinstance(error, FileNotFoundError | NotADirectoryError | FileExistsError):
        return NotFoundError(f"{path} cannot be written: there is no directory {path.parent}")
    if isinstance(error, PermissionError):
        return PermissionDeniedError(f"{path} cannot be written: this user may not write to {path.parent}")
    what = f"{path} cannot be written: {error.strerror}"
    return ResourceExhaustedError(what, retryable=False) if error.errno in _FULL else UnknownError(what)


def check_free(paths: Iterable[Path], *, overwrite: bool) -> None:
    """Raises AlreadyExistsError if one of some files is there, unless they may be replaced."""
    for path in paths:
        if path.exists() and not overwrite:
            raise AlreadyExistsError(
                f"{path} already exists; give another name, or overwrite=True, in a shell --overwrite"
            )
