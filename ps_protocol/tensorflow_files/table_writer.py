"""Writes a table as ``table`` reads it, without compression: TensorFlow does not compress an index either."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Final

from ps_protocol.codec.fast.varints import encode_varint
from ps_protocol.tensor_files.crc32c import extended
from ps_protocol.tensorflow_files.checksums import masked
from ps_protocol.tensorflow_files.table import FOOTER_BYTES, MAGIC, PLAIN

_BLOCK_BYTES: Final = 256 * 1024
_RESTART_INTERVAL: Final = 16


def write_table(file: IO[bytes], items: Iterable[tuple[bytes, bytes]], block_bytes: int = _BLOCK_BYTES) -> None:
    """Writes keys and values from where the file stands, which must be its beginning.

    Args:
        file: A binary file.
        items: Keys in order, each once, with their values.
        block_bytes: A block ends with the entry that makes it as large.

    Raises:
        ValueError: A key is not behind the one before; then the file is of no use.
    """
    offset = 0
    index = _BlockBuilder(restart_interval=1)
    block = _BlockBuilder(_RESTART_INTERVAL)

    def written(content: bytes) -> bytes:
        nonlocal offset
        trailer = bytes([PLAIN])
        checksum = masked(extended(extended(0, content), trailer)).to_bytes(4, "little")
        file.write(content + trailer + checksum)
        handle = encode_varint(offset) + encode_varint(len(content))
        offset += len(content) + len(trailer) + len(checksum)
        return handle

    last: bytes | None = None
    for key, value in items:
        if last is not None and key <= last:
            raise ValueError(f"the key {key!r} does not follow {last!r}")
        last = key
        block.add(key, value)
        if block.size_bytes >= block_bytes:
            index.add(key, written(block.finished()))
            block = _BlockBuilder(_RESTART_INTERVAL)
    if last is not None and not block.is_empty:
        index.add(last, written(block.finished()))
    metaindex = written(_BlockBuilder(_RESTART_INTERVAL).finished())
    handles = metaindex + written(index.finished())
    file.write(handles.ljust(FOOTER_BYTES - len(MAGIC), b"\0") + MAGIC)


class _BlockBuilder:
    """Entries of one block, each key without what it shares with the one before.

    Args:
        restart_interval: Of as many keys one is written whole, so that a reader can begin there.
    """

    def __init__(self, restart_interval: int):
        self._interval = restart_interval
        self._content = bytearray()
        self._restarts = [0]
        self._last = b""
        self._count = 0

    @property
    def size_bytes(self) -> int:
        return len(self._content) + 4 * len(self._restarts) + 4

    @property
    def is_empty(self) -> bool:
        return not self._count

    def add(self, key: bytes, value: bytes) -> None:
        shared = _shared_bytes(self._last, key)
        if self._count % self._interval == 0:
            shared = 0
            if self._count:
                self._restarts.append(len(self._content))
        self._count += 1
        self._last = key
        for number in (shared, len(key) - shared, len(value)):
            self._content += encode_varint(number)
        self._content += key[shared:]
        self._content += value

    def finished(self) -> bytes:
        numbers = [*self._restarts, len(self._restarts)]
        return bytes(self._content) + b"".join([number.to_bytes(4, "little") for number in numbers])


def _shared_bytes(one: bytes, other: bytes) -> int:
    size_bytes = min(len(one), len(other))
    difference = int.from_bytes(one[:size_bytes], "big") ^ int.from_bytes(other[:size_bytes], "big")
    return size_bytes - (difference.bit_length() + 7) // 8
