"""Writes checkpoints of version 2, which TensorFlow 1 and 2 open.

Data first: each shard is on disk under its name before the index, which is put in place last, names it. So there is a
whole checkpoint or none. Several processes may write a shard each; one of them writes the index from what the others
return.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from ps_protocol.errors import (
    AlreadyExistsError,
    DTypeMismatchError,
    FailedPreconditionError,
    InvalidValueError,
    NotFoundError,
    ShapeMismatchError,
)
from ps_protocol.files.synced_files import make_directory
from ps_protocol.operations import Array
from ps_protocol.tensor_files.checkpoint_file import local_path
from ps_protocol.tensor_files.covering import cover_once
from ps_protocol.tensor_files.crc32c import extended
from ps_protocol.tensor_files.new_files import NewFile, explained, new_file
from ps_protocol.tensor_files.stored_tensor import StoredTensor
from ps_protocol.tensorflow_files import checkpoint_pb2
from ps_protocol.tensorflow_files.bundle import FORMAT_VERSION, HEADER_KEY, index_path, shard_path
from ps_protocol.tensorflow_files.checksums import masked
from ps_protocol.tensorflow_files.dtypes import BY_NAME, FileDType, of_array
from ps_protocol.tensorflow_files.slices import FIRST_OF_SLICE_KEYS, TensorSlice
from ps_protocol.tensorflow_files.strings import as_strings, encode_strings
from ps_protocol.tensorflow_files.table_writer import write_table

_PIECE_BYTES: Final = 512 * 1024
"""What is checksummed and written at a time, so that it is still in the processor's cache."""

_MOST_SHARDS: Final = 99_999


@dataclass(frozen=True, slots=True)
class ShardEntries:
    """What the index has to say of a finished shard. Plain bytes, so that it can travel from one process to another.

    Attributes:
        shard: Its number.
        num_shards: Of the checkpoint.
        entries: The key and the entry of each tensor and slice.
    """

    shard: int
    num_shards: int
    entries: tuple[tuple[bytes, bytes], ...]


class ShardWriter:
    """Writes one shard of a checkpoint. One thread.

    In a ``with`` block it is finished at the end, or discarded after an error.

    Args:
        prefix: The path of the checkpoint's files without ".index"; its directory is made if it is not there.
        shard: The number of this shard.
        num_shards: Of the checkpoint; each has to be written, by this process or another.

    Raises:
        InvalidValueError: There is no such shard.
        NotFoundError: The directory cannot be made.
        PermissionDeniedError: This user may not write there.
        UnimplementedError: The prefix is the URL of another file system.
        ResourceExhaustedError: The disk is full. Raised by all methods.
        UnknownError: The file cannot be written. Raised by all methods.
    """

    def __init__(self, prefix: str | os.PathLike[str], shard: int = 0, num_shards: int = 1):
        if not 0 <= shard < num_shards <= _MOST_SHARDS:
            raise InvalidValueError(f"there is no shard {shard} of {num_shards}; a checkpoint has 1 to {_MOST_SHARDS}")
        self._prefix = local_path(prefix)  # as text, since a path loses a slash at its end
        self._shard, self._num_shards = shard, num_shards
        self._entries: dict[bytes, checkpoint_pb2.BundleEntry] = {}
        self._offset = 0
        self._finished: ShardEntries | None = None
        path = shard_path(self._prefix, shard, num_shards)
        with explained(path):
            make_directory(path.parent)
            self._new = NewFile(path)

    def add(self, name: str, value: Any, dtype: str | None = None) -> None:
        """Appends a tensor.

        Args:
            name: Of the tensor.
            value: What NumPy takes for an array; of strings an array of bytes or text, whatever its dtype.
            dtype: TensorFlow's name of the dtype, if it is another than that of the array: "qint8" for int8.

        Raises:
            AlreadyExistsError: There is one of that name.
            DTypeMismatchError: Files cannot hold such elements.
            InvalidValueError: The name is empty or begins with a zero byte.
        """
        key = _key(name)
        array = _array(value)
        self._append(key, name, array.shape, _file_dtype(array.dtype, name, dtype), [array])

    def add_slice(
        self, name: str, full_shape: Sequence[int], starts: Sequence[int], value: Any, dtype: str | None = None
    ) -> None:
        """Appends a part of a partitioned tensor; all parts, in any shards, make up the tensor.

        Args:
            name: Of the whole tensor.
            full_shape: Of the whole tensor.
            starts: Of each dimension, the first index of the part in the tensor.
            value: As for ``add``.
            dtype: As for ``add``.

        Raises:
            AlreadyExistsError: There is such a part, or a whole tensor of that name.
            DTypeMismatchError: Files cannot hold such elements, or another part has others.
            InvalidValueError: The part is not inside the tensor, or the name is none.
            ShapeMismatchError: Another part says another shape of the whole tensor.
        """
        array = _array(value)
        self._add_part(name, full_shape, starts, array.shape, _file_dtype(array.dtype, name, dtype), [array])

    def add_stored(self, name: str, tensor: StoredTensor) -> None:
        """Appends a tensor of another checkpoint in the parts that it has there, some MiB at a time.

        Args:
            name: That it is to have.
            tensor: What is read.

        Raises:
            AlreadyExistsError: There is one of that name.
            DTypeMismatchError: Files cannot hold such elements.
            InvalidValueError: The name is empty or begins with a zero byte.
            DataLossError: What is read is damaged.
        """
        quantized = tensor.dtype_name if tensor.dtype_name.startswith(("qint", "quint")) else None
        kind = _file_dtype(tensor.dtype, name, quantized)
        parts = [part for part in tensor.parts if math.prod(part.shape)]
        if not parts:
            self._append(_key(name), name, tensor.shape, kind, [tensor.read()])
        for part in parts:
            self._add_part(name, tensor.shape, part.starts, part.shape, kind, tensor.pieces_of(part))

    def _add_part(
        self,
        name: str,
        full_shape: Sequence[int],
        starts: Sequence[int],
        shape: tuple[int, ...],
        kind: FileDType,
        pieces: Iterable[Array],
    ) -> None:
        key = _key(name)
        place = TensorSlice.part(full_shape, starts, shape)
        if shape == tuple(full_shape):  # TensorFlow does not read a part that is all
            self._append(key, name, shape, kind, pieces)
            return
        whole = self._entries.get(key)
        fresh = checkpoint_pb2.BundleEntry(dtype=kind.number, shape=_shape_message(full_shape))
        _check_same_whole(name, whole, fresh)
        self._append(place.key(key), f"{name} at {list(starts)}", shape, kind, pieces)
        self._entries.setdefault(key, fresh).slices.append(place.message())

    def finish(self) -> ShardEntries:
        """Returns what the index has to say of this shard, when the shard is on disk; a second time the same.

        An index of that prefix is removed before, since it does not describe this shard.
        """
        if self._finished is None:
            with explained(self._new.path):
                self._new.sync()  # takes the longest, and until it has ended what was there before is still whole
                index_path(self._prefix).unlink(missing_ok=True)
                self._new.finish()
            entries = tuple([(key, entry.SerializeToString()) for key, entry in self._entries.items()])
            self._finished = ShardEntries(self._shard, self._num_shards, entries)
        return self._finished

    def discard(self) -> None:
        """Removes what was written, unless it is finished."""
        self._new.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        else:
            self.discard()

    def _append(self, key: bytes, name: str, shape: tuple[int, ...], dtype: FileDType, pieces: Iterable[Array]) -> None:
        """Appends arrays whose elements follow each other; strings are one array."""
        if self._finished is not None:
            raise FailedPreconditionError(
                f"{self._new.path} is finished; {name!r} has to be added before", variable=name
            )
        if key in self._entries:
            raise AlreadyExistsError(f"{name!r} already exists in {self._prefix}", variable=name)
        crc = size_bytes = 0
        with explained(self._new.path):
            for array in pieces:
                if dtype.is_string:
                    data, crc = encode_strings(as_strings(array, name))
                    self._new.file.write(data)
                    size_bytes += len(data)
                else:
                    crc = self._write_numbers(np.ascontiguousarray(array, dtype.dtype).reshape(-1).view(np.uint8), crc)
                    size_bytes += math.prod(array.shape) * dtype.dtype.itemsize
        self._entries[key] = checkpoint_pb2.BundleEntry(
            dtype=dtype.number,
            shape=_shape_message(shape),
            shard_id=self._shard,
            offset=self._offset,
            size=size_bytes,
            crc32c=masked(crc),
        )
        self._offset += size_bytes

    def _write_numbers(self, data: Array, crc: int) -> int:
        for start in range(0, len(data), _PIECE_BYTES):
            piece = data[start : start + _PIECE_BYTES]
            crc = extended(crc, piece)
            self._new.file.write(piece.data)
            self._new.begin_writing_out()
        return crc


def write_index(prefix: str | os.PathLike[str], shards: Iterable[ShardEntries]) -> None:
    """Makes a checkpoint of its shards, all on disk: writes the index, which is there, whole, when this returns.

    Args:
        prefix: As of the shards.
        shards: What ``ShardWriter.finish`` returned for each, in any order.

    Raises:
        FailedPreconditionError: A shard is missing, or there twice.
        AlreadyExistsError: Two shards have the same tensor.
        InvalidValueError: The parts of a tensor do not have each of its elements once.
        DTypeMismatchError: Parts of a tensor have different dtypes.
        ShapeMismatchError: Parts of a tensor say different shapes of it.
        NotFoundError: The file of a shard is not there.
        PermissionDeniedError: This user may not write there.
        ResourceExhaustedError: The disk is full.
        UnknownError: The index cannot be written.
    """
    path, given = local_path(prefix), list(shards)
    num_shards = given[0].num_shards if given else 1
    found = sorted([each.shard for each in given])
    if found != list(range(num_shards)) or any(each.num_shards != num_shards for each in given):
        raise FailedPreconditionError(f"{path} needs each of its {num_shards} shards once, and has {found}")
    for number in found:
        if not shard_path(path, number, num_shards).is_file():
            raise NotFoundError(f"{shard_path(path, number, num_shards)} is missing; write it before the index")
    entries = _merged([item for each in given for item in each.entries])
    header = checkpoint_pb2.BundleHeader(num_shards=num_shards, version=checkpoint_pb2.Version(producer=FORMAT_VERSION))
    items = [
        (HEADER_KEY, header.SerializeToString()),
        *sorted((key, each.SerializeToString()) for key, each in entries.items()),
    ]
    with explained(index_path(path)), new_file(index_path(path)) as file:
        write_table(file, items)


@contextmanager
def new_checkpoint(prefix: str | os.PathLike[str]) -> Iterator[ShardWriter]:
    """Gives a writer for a checkpoint of one shard, which is there when the block ends; raises as its parts do."""
    with ShardWriter(prefix) as writer:
        yield writer
    write_index(prefix, [writer.finish()])


def _merged(items: Iterable[tuple[bytes, bytes]]) -> dict[bytes, checkpoint_pb2.BundleEntry]:
    merged: dict[bytes, checkpoint_pb2.BundleEntry] = {}
    partitioned: dict[bytes, checkpoint_pb2.BundleEntry] = {}
    for key, data in items:
        entry = checkpoint_pb2.BundleEntry.FromString(data)
        known = merged.get(key)
        if known is None:
            merged[key] = entry
        elif known.slices and entry.slices:
            _check_same_whole(_name(key), known, entry)
            known.slices.extend(entry.slices)
        else:
            raise AlreadyExistsError(f"{_name(key)!r} is in two shards", variable=_name(key))
        if entry.slices:
            partitioned[key] = merged[key]
    for key, whole in partitioned.items():
        shape = [dimension.size for dimension in whole.shape.dim]
        places = [TensorSlice.of(each) for each in whole.slices]
        if not cover_once(shape, [each.starts for each in places], [each.shape_in(shape) or () for each in places]):
            starts = sorted([list(each.starts) for each in places])
            what = f"its parts, at {starts}, do not have each of its elements once"
            raise InvalidValueError(f"{_name(key)!r} of shape {shape} cannot be saved: {what}", variable=_name(key))
    return merged


def _check_same_whole(name: str, known: checkpoint_pb2.BundleEntry | None, other: checkpoint_pb2.BundleEntry) -> None:
    if known is None:
        return
    if not known.slices:
        raise AlreadyExistsError(f"{name!r} already exists as a whole tensor", variable=name)
    if known.dtype != other.dtype:
        raise DTypeMismatchError(f"the parts of {name!r} have different dtypes", variable=name)
    if known.shape != other.shape:
        shapes = [[dimension.size for dimension in each.shape.dim] for each in (known, other)]
        raise ShapeMismatchError(
            f"the parts of {name!r} say that it has the shape {shapes[0]}, and {shapes[1]}", variable=name
        )


def _array(value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind in "SU" and not isinstance(value, np.ndarray):
        return np.array(value, dtype=object)  # in arrays of bytes and text zeros at their ends are lost
    return array


def _file_dtype(of: np.dtype[Any], name: str, dtype: str | None) -> FileDType:
    own = of_array(of, name)
    if dtype is None:
        return own
    wanted = BY_NAME.get(dtype)
    if wanted is None or wanted.dtype != own.dtype:
        raise DTypeMismatchError(f"{name!r} is an array of {of}, which cannot be saved as {dtype}", variable=name)
    return wanted


def _shape_message(shape: Sequence[int]) -> checkpoint_pb2.TensorShape:
    return checkpoint_pb2.TensorShape(dim=[checkpoint_pb2.TensorShape.Dimension(size=size) for size in shape])


def _key(name: str) -> bytes:
    if not isinstance(name, str):
        raise InvalidValueError(f"tensors in a checkpoint are called by texts, not {name!r}")
    try:
        key = name.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # half a character
        key = b""
    if not key or key.startswith(FIRST_OF_SLICE_KEYS):
        raise InvalidValueError(f"a tensor in a checkpoint cannot be called {name!r}", variable=name)
    return key


def _name(key: bytes) -> str:
    return key.decode(errors="surrogateescape")
