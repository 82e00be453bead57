"""A file of a checkpoint, read by position: what is not there, or cannot be read, is an error that says where."""

from __future__ import annotations

import os
import re
import weakref
from pathlib import Path
from typing import Any, Final

import numpy as np

from ps_protocol.errors import (
    DataLossError,
    FailedPreconditionError,
    NotFoundError,
    PermissionDeniedError,
    UnimplementedError,
    UnknownError,
)
from ps_protocol.tensor_files.crc32c import extended

PIECE_BYTES: Final = 1024**2
"""What is read and checksummed at a time, so that it is still in the processor's cache."""

_SCHEME: Final = re.compile(r"([a-zA-Z][a-zA-Z0-9.+-]*)://")


def local_path(path: str | os.PathLike[str]) -> str:
    """Returns the path of a file of this machine, which may be given as "file:///path".

    Raises:
        UnimplementedError: It is the URL of something else, which must not become the name of a directory here.
    """
    text = os.fspath(path)
    scheme = _SCHEME.match(text)
    if scheme is None:
        return text
    if scheme[1] != "file":
        raise UnimplementedError(
            f"{text} is not on this machine, and only its files are read and written; copy it here, or mount it"
        )
    return text[scheme.end() :]


class CheckpointFile:
    """An open file, closed when it is forgotten. Safe from many threads until it is closed.

    Attributes:
        path: Where it is.
        size_bytes: When it was opened.

    Args:
        path: Where it is.

    Raises:
        NotFoundError: There is no such file.
        PermissionDeniedError: It may not be read.
        UnknownError: It cannot be opened.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._close = weakref.finalize(self, os.close, self._descriptor)
            self.size_bytes = os.fstat(self._descriptor).st_size
        except FileNotFoundError as error:
            raise NotFoundError(f"{path} is missing; a checkpoint is whole only with all of its files") from error
        except PermissionError as error:
            raise PermissionDeniedError(f"{path} may not be read by this user") from error
        except OSError as error:
            raise UnknownError(f"{path} cannot be opened: {error.strerror}") from error

    def close(self) -> None:
        """Closes the file; a second time does nothing. Nothing may be reading it."""
        self._close()

    def damaged(self, position: int, what: str) -> DataLossError:
        """Returns (does not raise) the error for damage that begins at a byte."""
        return DataLossError(f"{self.path} is damaged at byte {position}: {what}")

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Returns bytes of the file.

        Raises:
            DataLossError: The file ends before.
            UnknownError: The disk does not give them.
        """
        self.check_range(offset, size_bytes)
        data = np.empty(size_bytes, np.uint8)
        self.read_into(data, offset)
        return data.tobytes()

    def read_into(self, target: np.ndarray[Any, Any], offset: int, crc: int = 0) -> int:
        """Fills ``target`` from a place in the file; returns the CRC-32C of what was read, going on from the one given.

        Args:
            target: Bytes, shape [size in bytes], contiguous.
            offset: Of the first.
            crc: Not masked.

        Raises:
            DataLossError: The file ends before.
            UnknownError: The disk does not give them.
        """
        self.check_range(offset, len(target))
        for start in range(0, len(target), PIECE_BYTES):
            piece = target[start : start + PIECE_BYTES]
            done = 0
            while done < len(piece):
                done += self._read_some(piece[done:], offset + start + done)
            crc = extended(crc, piece)
        return crc

    def checksum(self, offset: int, size_bytes: int) -> int:
        """Returns the CRC-32C of bytes of the file, in little memory; raises as ``read_into`` does."""
        self.check_range(offset, size_bytes)
        room = np.empty(min(size_bytes, PIECE_BYTES), np.uint8)
        crc = 0
        for start in range(0, size_bytes, PIECE_BYTES):
            crc = self.read_into(room[: min(PIECE_BYTES, size_bytes - start)], offset + start, crc)
        return crc

    def check_range(self, offset: int, size_bytes: int) -> None:
        """Raises DataLossError if the file ends before the end of a range: before room is made for what is in it."""
        if offset < 0 or size_bytes < 0 or offset + size_bytes > self.size_bytes:
            what = f"{size_bytes} bytes should stand at byte {offset}"
            raise DataLossError(
                f"{self.path} ends at byte {self.size_bytes}, and {what}: the file is cut off or damaged"
            )

    def check_open(self) -> None:
        """Raises FailedPreconditionError if the file is closed."""
        if not self._close.alive:
            raise FailedPreconditionError(f"{self.path} is closed; open the checkpoint again to read it")

    def _read_some(self, target: np.ndarray[Any, Any], offset: int) -> int:
        self.check_open()
        try:
            count = os.preadv(self._descriptor, [target.data], offset)
        except OSError as error:
            raise UnknownError(f"{self.path} cannot be read at byte {offset}: {error.strerror}") from error
        if not count:
            raise DataLossError(f"{self.path} ends at byte {offset}: it was cut off while it was open")
        return count
