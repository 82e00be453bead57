"""Reads the table in which an index, and a file of version 1, keeps its keys in order.

The format is LevelDB's (doc/table_format.md there; core/lib/io/format.cc in TensorFlow). A table is blocks, and a
footer of 48 bytes at its end. A block has entries, each with the number of bytes that its key shares with the one
before, then an array of the places where a whole key stands. Behind each block stand a byte for its compression and a
checksum. The footer says where the index block is, which has the last key of each data block and where that is.
"""

from __future__ import annotations

import importlib
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from ps_protocol.codec.fast.varints import decode_varint
from ps_protocol.errors import DataLossError
from ps_protocol.tensor_files.checkpoint_file import CheckpointFile
from ps_protocol.tensor_files.crc32c import extended
from ps_protocol.tensorflow_files.checksums import unmasked

FOOTER_BYTES: Final = 48
MAGIC: Final = 0xDB4775248B80FB57.to_bytes(8, "little")
TRAILER_BYTES: Final = 5
PLAIN, SNAPPY = 0, 1

_KEPT_BLOCK_BYTES: Final = 4 * 1024**2
"""The last block is kept unless it is larger: blocks of version 1 may hold a whole variable."""

_MOST_OF_KEYS: Final = 64
"""Of 16 entries one has its whole key, so that keys are at most some 16 times as large as their block."""

_MOST_OF_SNAPPY: Final = 64
"""Snappy makes data at most some 21 times smaller; a block that claims more is damaged, and gets no memory."""


class Table:
    """The keys and values of a file. Safe from many threads.

    Reads the footer and the index block; a data block when a key in it is looked up. Each is checked before it is used.

    Args:
        file: Closed by the caller.

    Raises:
        DataLossError: It is no table, or damaged.
    """

    def __init__(self, file: CheckpointFile):
        self._file = file
        if file.size_bytes < FOOTER_BYTES:
            raise DataLossError(
                f"{file.path} is no table: it has {file.size_bytes} bytes, and a footer has {FOOTER_BYTES}"
            )
        start = file.size_bytes - FOOTER_BYTES
        footer = file.read(start, FOOTER_BYTES)
        if footer[-len(MAGIC) :] != MAGIC:
            where = f"at byte {file.size_bytes - len(MAGIC)}"
            raise DataLossError(
                f"{file.path} is no table of TensorFlow's, or cut off: its magic number {where} is wrong"
            )
        numbers, position = [], 0
        for _ in range(4):  # where the metaindex is, which is empty, and where the index is
            number, position = self._number(footer[: -len(MAGIC)], position, start)
            numbers.append(number)
        index = self._block(numbers[2], numbers[3])
        handles = list(index.items())
        self._last_keys = [key for key, _ in handles]
        self._handles = [self._handle(value, index.offset) for _, value in handles]
        self._kept: _Block | None = None

    def get(self, key: bytes) -> memoryview | None:
        """Returns the value of a key, None if it is not there.

        Raises:
            DataLossError: The block in which it would be is damaged.
        """
        number = bisect_left(self._last_keys, key)
        if number == len(self._handles):
            return None
        return self._data_block(number).find(key)

    def most_bytes(self, key: bytes) -> int:
        """Returns how large the value of a key can be at most, without reading it; raises as ``get`` does."""
        number = bisect_left(self._last_keys, key)
        if number == len(self._handles):
            return 0
        offset, size_bytes = self._handles[number]
        self._check_handle(offset, size_bytes)
        is_plain = self._file.read(offset + size_bytes, 1)[0] == PLAIN
        return size_bytes if is_plain else size_bytes * _MOST_OF_SNAPPY

    def items(self) -> Iterator[tuple[bytes, memoryview]]:
        """All keys in order, with their values; raises DataLossError where a block is damaged."""
        before: bytes | None = None
        for number, last in enumerate(self._last_keys):
            block = self._data_block(number)
            for key, value in block.items():
                if key > last or (before is not None and key <= before):
                    raise self._file.damaged(block.offset, "the keys of the block are not those that the index says")
                before = key
                yield key, value

    def _data_block(self, number: int) -> _Block:
        offset, size_bytes = self._handles[number]
        kept = self._kept  # once: another thread may put another in its place
        if kept is not None and kept.offset == offset:
            return kept
        block = self._block(offset, size_bytes)
        if size_bytes <= _KEPT_BLOCK_BYTES:
            self._kept = block
        return block

    def _check_handle(self, offset: int, size_bytes: int) -> None:
        file = self._file
        if offset + size_bytes + TRAILER_BYTES + FOOTER_BYTES > file.size_bytes:
            raise file.damaged(
                file.size_bytes - FOOTER_BYTES, f"a block of {size_bytes} bytes at {offset} is not in the file"
            )

    def _block(self, offset: int, size_bytes: int) -> _Block:
        self._check_handle(offset, size_bytes)
        file = self._file
        data = file.read(offset, size_bytes + TRAILER_BYTES)
        stored = unmasked(int.from_bytes(data[-4:], "little"))
        if extended(0, np.frombuffer(data, np.uint8)[:-4]) != stored:
            raise file.damaged(offset, f"the checksum of the block of {size_bytes} bytes is wrong")
        return _Block(file, offset, self._content(data, offset))

    def _content(self, data: bytes, offset: int) -> memoryview:
        kind, content = data[-TRAILER_BYTES], memoryview(data)[:-TRAILER_BYTES]
        if kind == PLAIN:
            return content
        if kind != SNAPPY:
            raise self._file.damaged(offset, f"the block is compressed in a way, {kind}, that is not known")
        size = decode_varint(bytes(content[:10]), 0)
        if size is None or size[0] > max(1024, _MOST_OF_SNAPPY * len(content)):
            raise self._file.damaged(offset, "the block cannot be as large as it says when decompressed")
        cramjam: Any = importlib.import_module("cramjam")  # few files need it
        try:
            found = cramjam.snappy.decompress_raw(content)
        except cramjam.DecompressionError as error:
            raise self._file.damaged(offset, f"the block cannot be decompressed: {error}") from error
        return memoryview(found)

    def _handle(self, value: memoryview, offset: int) -> tuple[int, int]:
        start, position = self._number(value, 0, offset)
        size_bytes, _ = self._number(value, position, offset)
        return start, size_bytes

    def _number(self, data: bytes | memoryview, start: int, offset: int) -> tuple[int, int]:
        return _number(self._file, data, start, offset)


class _Block:
    """A block: entries, and the places among them where a whole key stands.

    Attributes:
        offset: Of the block in the file.

    Args:
        file: For errors.
        offset: Of the block in the file.
        content: Of the block, decompressed.

    Raises:
        DataLossError: It is damaged. Raised by all methods.
    """

    def __init__(self, file: CheckpointFile, offset: int, content: memoryview):
        self._file = file
        self.offset = offset
        self._content = content
        self._count = int.from_bytes(content[-4:], "little")
        self._end = len(content) - 4 - 4 * self._count
        if len(content) < 4 or self._end < 0:
            raise file.damaged(offset, f"the block of {len(content)} bytes has no room for {self._count} restarts")

    def find(self, key: bytes) -> memoryview | None:
        """Returns the value of a key, None if it is not there."""
        low, high = 0, self._count  # the key is behind restart `low`, if it is there, and before `high`
        while low + 1 < high:
            middle = (low + high) // 2
            whole, _, _ = self._entry(self._restart(middle), b"")
            low, high = (low, middle) if whole > key else (middle, high)
        position, found, key_bytes = self._restart(low) if self._count else self._end, b"", 0
        while position < self._end:
            found, value, position = self._entry(position, found)
            key_bytes = self._checked_sum(key_bytes + len(found))
            if found >= key:
                return value if found == key else None
        return None

    def items(self) -> Iterator[tuple[bytes, memoryview]]:
        """All keys in order, with their values."""
        position, key, key_bytes = 0, b"", 0
        while position < self._end:
            key, value, position = self._entry(position, key)
            key_bytes = self._checked_sum(key_bytes + len(key))
            yield key, value

    def _checked_sum(self, key_bytes: int) -> int:
        """Refuses a block whose keys share so much that they would fill the memory."""
        if key_bytes > _MOST_OF_KEYS * len(self._content):
            raise self._file.damaged(self.offset, f"the block of {len(self._content)} bytes has keys without end")
        return key_bytes

    def _entry(self, position: int, before: bytes) -> tuple[bytes, memoryview, int]:
        """Returns the key and the value of the entry at a position, and the position of the next one."""
        content, end = self._content, self._end
        if position + 3 <= end and (content[position] | content[position + 1] | content[position + 2]) < 0x80:
            shared, fresh, size = content[position], content[position + 1], content[position + 2]
            start = position + 3
        else:
            shared, start = _number(self._file, content, position, self.offset)
            fresh, start = _number(self._file, content, start, self.offset)
            size, start = _number(self._file, content, start, self.offset)
        middle = start + fresh
        if shared > len(before) or middle + size > end:
            raise self._file.damaged(self.offset, f"the entry at byte {position} of the block goes beyond its end")
        return before[:shared] + bytes(content[start:middle]), content[middle : middle + size], middle + size

    def _restart(self, number: int) -> int:
        place = self._end + 4 * number
        return int.from_bytes(self._content[place : place + 4], "little")


def _number(file: CheckpointFile, data: bytes | memoryview, start: int, offset: int) -> tuple[int, int]:
    found = decode_varint(bytes(data[start : start + 10]), 0)
    if found is None:
        raise file.damaged(offset, f"there is no number at byte {start} of what begins here")
    return found[0], start + found[1]
