"""Reads checkpoints of version 1: one table for each file, with the values in it (``tensor_slice_reader.cc``).

Under the empty key stands which tensors there are and which slices of each, under the key of each slice its values, as
a ``Tensor`` message. What was saved by several tasks is several such files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError

from ps_protocol.errors import DataLossError, UnimplementedError
from ps_protocol.operations import Array
from ps_protocol.tensor_files.checkpoint_file import CheckpointFile
from ps_protocol.tensor_files.stored_tensor import Part, StoredTensor
from ps_protocol.tensorflow_files import checkpoint_pb2
from ps_protocol.tensorflow_files.dtypes import FileDType, of_number
from ps_protocol.tensorflow_files.slices import TensorSlice
from ps_protocol.tensorflow_files.table import Table

_META_KEY: Final = b""
_FORMAT_VERSION: Final = 1
_REFERENCE: Final = 100
"""What is added to the number of a dtype for that of a variable of it."""

_MOST_VARINT_BYTES: Final = 10

_INTEGERS: Final = ("int32", "int16", "int8", "uint16", "uint8", "qint32", "qint16", "qint8", "quint16", "quint8")
_FIELDS: Final = {
    **dict.fromkeys(_INTEGERS, "int_val"),
    "float32": "float_val",
    "float64": "double_val",
    "complex64": "scomplex_val",
    "complex128": "dcomplex_val",
    "float16": "half_val",
    "bfloat16": "half_val",
    "bool": "bool_val",
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
}
"""Which field of a message has the values of a dtype."""

_FIXED: Final = ("float_val", "double_val", "scomplex_val", "dcomplex_val")
_BITS: Final = ("half_val",)


@dataclass(slots=True)
class _Listed:
    """What the files say of a tensor: its dtype and shape, and where each slice is."""

    number: int
    shape: tuple[int, ...]
    slices: list[tuple[TensorSlice, _File]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _File:
    file: CheckpointFile
    table: Table


class Version1:
    """Open files of version 1. Safe from many threads until they are closed.

    Args:
        paths: Of all files of the checkpoint.

    Raises:
        NotFoundError: One is missing.
        DataLossError: One is damaged, or no checkpoint.
        UnimplementedError: A newer TensorFlow has written it.
    """

    def __init__(self, paths: Sequence[Path]):
        self._files: list[CheckpointFile] = []
        self._listed: dict[str, _Listed] = {}
        try:
            for path in paths:
                file = CheckpointFile(path)
                self._files.append(file)
                self._list(_File(file, Table(file)))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the files. Nothing may be reading them."""
        for file in self._files:
            file.close()

    def names(self) -> list[str]:
        """Returns the names of all tensors in the order of their bytes."""
        return sorted(self._listed, key=lambda name: name.encode(errors="surrogateescape"))

    def tensor(self, name: str) -> StoredTensor | None:
        """Returns the tensor of a name, None if there is none.

        Raises:
            DataLossError: What the files say of it is damaged.
        """
        listed = self._listed.get(name)
        if listed is None:
            return None
        dtype = of_number(listed.number % _REFERENCE)
        parts = []
        for place, where in listed.slices:
            shape = place.shape_in(listed.shape)
            if shape is None:
                what = f"is not inside its shape {list(listed.shape)}"
                raise where.file.damaged(0, f"the slice of {name!r} at {list(place.starts)} {what}")
            parts.append(Part(place.starts, shape, _StoredMessage(where, place, name, dtype, shape)))
        return dtype.tensor(name, listed.shape, parts, ", ".join([f"{file.path}" for file in self._files]))

    def _list(self, where: _File) -> None:
        value = where.table.get(_META_KEY)
        try:
            found = None if value is None else checkpoint_pb2.SavedTensorSlices.FromString(bytes(value))
        except DecodeError:
            found = None
        if found is None or not found.HasField("meta"):
            raise DataLossError(
                f"{where.file.path} is a table, but not a checkpoint: it does not say which tensors it has"
            )
        version = found.meta.versions
        if version.min_consumer > _FORMAT_VERSION or _FORMAT_VERSION in version.bad_consumers:
            raise UnimplementedError(f"{where.file.path} is for readers of version {version.min_consumer} and newer")
        for tensor in found.meta.tensor:
            shape = tuple([dimension.size for dimension in tensor.shape.dim])
            listed = self._listed.setdefault(tensor.name, _Listed(tensor.type, shape))
            if any(size < 0 for size in shape) or (listed.number, listed.shape) != (tensor.type, shape):
                raise where.file.damaged(
                    0, f"{tensor.name!r} has the shape {list(shape)}, elsewhere {list(listed.shape)}"
                )
            listed.slices += [(TensorSlice.of(each), where) for each in tensor.slice]


class _StoredMessage:
    """Values of a slice in a message. They are decoded as a whole each time: only then it is known where a row is."""

    def __init__(self, where: _File, place: TensorSlice, name: str, dtype: FileDType, shape: tuple[int, ...]):
        self._where = where
        self._place = place
        self._name = name
        self._dtype = dtype
        self._shape = shape
        self._key = place.key(name.encode(errors="surrogateescape"))

    def check_size(self) -> None:
        """Refuses more elements than can be in the file, each of which has a byte at least."""
        count, most = math.prod(self._shape), self._where.table.most_bytes(self._key)
        if count > most:
            raise self._where.file.damaged(
                0, f"{self._name!r} has {count} elements in what can have {most} bytes at most"
            )

    def verify(self) -> None:
        self._elements()

    def read_into(self, target: Array, first_row: int) -> None:
        found = self._elements()
        target[...] = found[first_row : first_row + len(target)] if target.ndim else found

    def _elements(self) -> Array:
        file = self._where.file
        value = self._where.table.get(self._key)
        if value is None:
            raise file.damaged(0, f"the slice of {self._name!r} at {list(self._place.starts)} is listed, but missing")
        try:
            message = checkpoint_pb2.SavedTensorSlices.FromString(bytes(value)).data.data
            return decode_message(message, self._dtype, math.prod(self._shape)).reshape(self._shape)
        except (DecodeError, ValueError) as error:
            raise file.damaged(0, f"the values of {self._name!r} cannot be read: {error}") from error


def decode_message(message: checkpoint_pb2.Tensor, dtype: FileDType, count: int) -> Array:
    """Returns the elements in a message, shape [count].

    Raises:
        ValueError: They are not as many, or damaged.
        UnimplementedError: Messages with such elements are not known.
    """
    if dtype.is_string:
        strings = list(message.string_val)
        found = np.empty(len(strings), object)
        found[:] = strings
    elif message.tensor_content:
        found = np.frombuffer(message.tensor_content, dtype.dtype)
    elif dtype.name not in _FIELDS:
        raise UnimplementedError(f"elements of {dtype.name} in a checkpoint of version 1 cannot be read here")
    else:
        name = _FIELDS[dtype.name]
        data: bytes = getattr(message, name)
        if name in _FIXED:
            found = np.frombuffer(data, dtype.dtype)
        elif name in _BITS:
            found = _numbers(data).astype(np.uint16).view(dtype.dtype)
        else:
            found = _numbers(data).view(np.int64).astype(dtype.dtype)
    if len(found) != count:
        raise ValueError(f"it has {len(found)} elements, and should have {count}")
    return found


def _numbers(data: bytes) -> Array:
    """Returns numbers of seven bits a byte, the lowest first, as uint64."""
    each = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
    ends = np.flatnonzero(each < 0x80) + 1
    if len(each) and (not len(ends) or ends[-1] != len(each)):
        raise ValueError("the last number has no end")
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64) if len(ends) else ends
    sizes = ends - starts
    if len(sizes) and sizes.max() > _MOST_VARINT_BYTES:
        raise ValueError(f"a number has {sizes.max()} bytes")
    found = np.zeros(len(starts), np.uint64)
    for place in range(int(sizes.max()) if len(sizes) else 0):
        longer = sizes > place
        found[longer] |= (each[starts[longer] + place] & 0x7F).astype(np.uint64) << np.uint64(7 * place)
    return found
