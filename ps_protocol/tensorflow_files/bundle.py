"""Reads checkpoints of version 2: an index, and shards with the data (``tensor_bundle.h`` of TensorFlow).

``prefix.index`` is a table: under the empty key a header, under each name what the tensor is and where its bytes stand
in ``prefix.data-00000-of-00001`` and its like. A partitioned tensor has under its name the list of its slices, and
under the key of each where that is.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError

from ps_protocol.errors import DataLossError, UnimplementedError
from ps_protocol.operations import Array
from ps_protocol.tensor_files.checkpoint_file import CheckpointFile
from ps_protocol.tensor_files.stored_tensor import Part, StoredTensor
from ps_protocol.tensorflow_files import checkpoint_pb2
from ps_protocol.tensorflow_files.checksums import unmasked
from ps_protocol.tensorflow_files.dtypes import FileDType, of_number
from ps_protocol.tensorflow_files.slices import FIRST_OF_SLICE_KEYS, TensorSlice
from ps_protocol.tensorflow_files.strings import decode_strings
from ps_protocol.tensorflow_files.table import Table

HEADER_KEY: Final = b""
FORMAT_VERSION: Final = 1


def index_path(prefix: str | os.PathLike[str]) -> Path:
    """Returns where the index of a checkpoint is: of "folder/", the text, the file ".index" in that folder."""
    return Path(f"{prefix}.index")


def shard_path(prefix: str | os.PathLike[str], shard: int, num_shards: int) -> Path:
    """Returns where a shard of a checkpoint is."""
    return Path(f"{prefix}.data-{shard:05d}-of-{num_shards:05d}")


class Bundle:
    """An open checkpoint of version 2. Safe from many threads until it is closed.

    Args:
        prefix: The path of its files without ".index".
        verify: Whether all bytes of a tensor are checked before some of them are given out.

    Raises:
        NotFoundError: There is no index.
        DataLossError: The index is damaged.
        UnimplementedError: A newer TensorFlow has written it, or a computer that has the highest byte first.
    """

    def __init__(self, prefix: str | os.PathLike[str], verify: bool = True):
        self._prefix = prefix
        self._verify = verify
        self._shards: dict[int, CheckpointFile] = {}
        self._lock = threading.Lock()  # guards: _shards; a file is opened under it, at most once each
        self._listed: dict[bytes, memoryview] | None = None  # all of the index, when the names were asked for
        self._index = CheckpointFile(index_path(prefix))
        try:
            self._table = Table(self._index)
            self._num_shards = self._checked_header()
        except BaseException:
            self._index.close()
            raise

    def close(self) -> None:
        """Closes the files. Nothing may be reading them."""
        self._index.close()
        with self._lock:
            for shard in self._shards.values():
                shard.close()

    def names(self) -> list[str]:
        """Returns the names of all tensors in the order of their bytes; DataLossError if the index is damaged."""
        self._listed = dict(self._table.items())
        keys = [key for key in self._listed if key != HEADER_KEY and not key.startswith(FIRST_OF_SLICE_KEYS)]
        return [key.decode(errors="surrogateescape") for key in keys]

    def tensor(self, name: str) -> StoredTensor | None:
        """Returns the tensor of a name, None if there is none.

        Raises:
            DataLossError: What the index says of it is damaged.
        """
        key = name.encode(errors="surrogateescape")
        if key == HEADER_KEY or key.startswith(FIRST_OF_SLICE_KEYS):
            return None
        entry = self._entry(key, name)
        if entry is None:
            return None
        dtype, shape = of_number(entry.dtype), self._shape(entry, name)
        if entry.slices:
            parts = [self._slice(TensorSlice.of(each), key, name, dtype, shape) for each in entry.slices]
        else:
            parts = [self._part(entry, name, dtype, (0,) * len(shape), shape)]
        return dtype.tensor(name, shape, parts, f"{self._index.path}")

    def content_of(self, name: str) -> tuple[Hashable, ...] | None:
        """What tells a tensor from others without reading it: dtype, shape, size, checksum; None of one in parts."""
        entry = self._entry(name.encode(errors="surrogateescape"), name)
        if entry is None or entry.slices:
            return None
        return entry.dtype, self._shape(entry, name), entry.size, entry.crc32c

    def _slice(self, place: TensorSlice, key: bytes, name: str, dtype: FileDType, shape: tuple[int, ...]) -> Part:
        part_shape = place.shape_in(shape)
        if part_shape is None:
            raise self._damaged(name, f"a slice at {list(place.starts)} is not inside its shape {list(shape)}")
        entry = self._entry(place.key(key), name)
        if entry is None:
            raise self._damaged(name, f"its slice at {list(place.starts)} is missing")
        if entry.slices or entry.dtype != dtype.number or self._shape(entry, name) != part_shape:
            raise self._damaged(name, f"its slice at {list(place.starts)} has another shape or dtype than it should")
        return self._part(entry, name, dtype, place.starts, part_shape)

    def _part(
        self,
        entry: checkpoint_pb2.BundleEntry,
        name: str,
        dtype: FileDType,
        starts: tuple[int, ...],
        shape: tuple[int, ...],
    ) -> Part:
        count = math.prod(shape)
        fits = entry.size == count * dtype.dtype.itemsize if dtype.dtype != object else entry.size >= count
        if not 0 <= entry.shard_id < self._num_shards:
            raise self._damaged(name, f"shard {entry.shard_id} of {self._num_shards} has it")
        if not fits or entry.size < 0 or entry.offset < 0:
            what = f"{entry.size} bytes at {entry.offset} cannot be {dtype.name} of shape {list(shape)}"
            raise self._damaged(name, what)
        make = _StoredStrings if dtype.is_string else _StoredNumbers
        return Part(starts, shape, make(lambda: self._shard(entry.shard_id), name, entry, self._verify))

    def _shard(self, number: int) -> CheckpointFile:
        with self._lock:
            found = self._shards.get(number)
            if found is None:
                self._index.check_open()
                found = self._shards[number] = CheckpointFile(shard_path(self._prefix, number, self._num_shards))
            return found

    def _entry(self, key: bytes, name: str) -> checkpoint_pb2.BundleEntry | None:
        value = self._table.get(key) if self._listed is None else self._listed.get(key)
        if value is None:
            return None
        try:
            return checkpoint_pb2.BundleEntry.FromString(bytes(value))
        except DecodeError as error:
            raise self._damaged(name, "what the index says of it cannot be read") from error

    def _shape(self, entry: checkpoint_pb2.BundleEntry, name: str) -> tuple[int, ...]:
        shape = tuple([dimension.size for dimension in entry.shape.dim])
        if entry.shape.unknown_rank or any(size < 0 for size in shape):
            raise self._damaged(name, f"it has no shape, or {list(shape)}")
        return shape

    def _checked_header(self) -> int:
        value = self._table.get(HEADER_KEY)
        try:
            header = None if value is None else checkpoint_pb2.BundleHeader.FromString(bytes(value))
        except DecodeError:
            header = None
        path = self._index.path
        if header is None or header.num_shards < 1:
            raise DataLossError(f"{path} is a table, but not the index of a checkpoint: it has no header")
        if header.endianness != checkpoint_pb2.BundleHeader.LITTLE:
            raise UnimplementedError(f"{path} was written with the highest byte first, which cannot be read here")
        version = header.version
        if version.min_consumer > FORMAT_VERSION or FORMAT_VERSION in version.bad_consumers:
            raise UnimplementedError(
                f"{path} has version {version.producer} of TensorFlow's format, which is for readers of version "
                f"{version.min_consumer} and newer; this one reads version {FORMAT_VERSION}"
            )
        return header.num_shards

    def _damaged(self, name: str, what: str) -> DataLossError:
        return DataLossError(f"{self._index.path} is damaged: of {name!r}, {what}", variable=name)


class _StoredNumbers:
    """Numbers as they stand in a shard."""

    def __init__(self, shard: Callable[[], CheckpointFile], name: str, entry: checkpoint_pb2.BundleEntry, verify: bool):
        self._shard = shard
        self._name = name
        self._offset, self._size_bytes = entry.offset, entry.size
        self._crc = unmasked(entry.crc32c)
        self._is_checked = not verify

    def check_size(self) -> None:
        self._shard().check_range(self._offset, self._size_bytes)

    def verify(self) -> None:
        shard = self._shard()
        self._check(shard, shard.checksum(self._offset, self._size_bytes))
        self._is_checked = True

    def read_into(self, target: Array, first_row: int) -> None:
        shard = self._shard()
        data = target.reshape(-1).view(np.uint8)  # a view: it is contiguous
        if len(data) == self._size_bytes:
            self._check(shard, shard.read_into(data, self._offset))
            return
        if not self._is_checked:
            self.verify()
        row_bytes = len(data) // len(target)
        shard.read_into(data, self._offset + first_row * row_bytes)

    def _check(self, shard: CheckpointFile, crc: int) -> None:
        if crc != self._crc:
            what = f"the checksum of the {self._size_bytes} bytes of {self._name!r} is wrong"
            raise shard.damaged(self._offset, what)


class _StoredStrings(_StoredNumbers):
    """Strings as they stand in a shard: some are read with all of them, for only then it is known where they begin."""

    def __init__(self, shard: Callable[[], CheckpointFile], name: str, entry: checkpoint_pb2.BundleEntry, verify: bool):
        super().__init__(shard, name, entry, verify)
        self._count = math.prod([dimension.size for dimension in entry.shape.dim])

    def verify(self) -> None:
        self._strings()

    def read_into(self, target: Array, first_row: int) -> None:
        strings = self._strings()
        first = first_row * (target.size // len(target)) if target.ndim else 0
        target.reshape(-1)[:] = strings[first : first + target.size]

    def _strings(self) -> list[bytes]:
        shard = self._shard()
        data = shard.read(self._offset, self._size_bytes)
        try:
            strings, crc = decode_strings(data, self._count)
        except ValueError as error:
            raise shard.damaged(self._offset, f"the strings of {self._name!r}: {error}") from error
        self._check(shard, crc)
        return strings
