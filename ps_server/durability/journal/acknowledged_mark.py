"""A note of the newest acknowledged record: it tells lost records from a write that was never finished."""

from __future__ import annotations

import logging
import os
import struct
import zlib
from pathlib import Path
from typing import Final

from ps_protocol.files.synced_files import open_private

_LOG = logging.getLogger(__name__)


class AcknowledgedMark:
    """The position of the newest acknowledged record, in a small file. One thread at a time."""

    _FORM: Final = struct.Struct("<QI")  # the position and its CRC-32

    def __init__(self, path: Path):
        self.was_absent = not path.exists()
        self._descriptor: int = open_private(path, os.O_RDWR | os.O_CREAT)
        self.position = self._read()
        self._path = path

    def write(self, position: int) -> None:
        """Notes a position; it survives the process, and the machine a little later."""
        data = position.to_bytes(8, "little")
        try:
            os.pwrite(self._descriptor, data + zlib.crc32(data).to_bytes(4, "little"), 0)
        except OSError as error:
            # The record is safe. With an older mark, a loss might not be noticed.
            _LOG.warning("%s cannot be written: %s", self._path, error)
            return
        self.position = position

    def close(self) -> None:
        """Syncs and closes the file."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _read(self) -> int:
        data = os.pread(self._descriptor, self._FORM.size, 0)
        if len(data) != self._FORM.size:
            return 0
        position, checksum = self._FORM.unpack(data)
        return int(position) if zlib.crc32(data[:8]) == checksum else 0
