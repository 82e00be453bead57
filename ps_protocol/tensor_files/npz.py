"""NumPy's npz files: a zip archive with an array in each of its files, read and written without pickle.

NumPy's format has names for NumPy's own dtypes alone, so bfloat16, 8-bit floats and 4-bit integers are written as the
smallest of those that have all of their values.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy

from ps_protocol.codec.tensor_codec import MAX_DIMENSIONS, bytes_of
from ps_protocol.dtype_traits import DTypeCategory, dtype_category, integer_limits, is_ml_dtype
from ps_protocol.errors import (
    DataLossError,
    DTypeMismatchError,
    FailedPreconditionError,
    InvalidValueError,
    NotFoundError,
    PermissionDeniedError,
    UnimplementedError,
    UnknownError,
)
from ps_protocol.files.synced_files import make_directory
from ps_protocol.operations import Array
from ps_protocol.tensor_files.new_files import check_free, explained, new_file
from ps_protocol.tensor_files.stored_tensor import Part, StoredTensor, StoredTensors, is_utf8, text_part

SUFFIX: Final = ".npz"

_ARRAY_SUFFIX: Final = ".npy"
_MAX_NAME_BYTES: Final = 2**16 - 1  # of a file in an archive
_MOST_SHOWN: Final = 200
_PIECE_BYTES: Final = 1024**2
_KNOWN_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_MOST_COMPRESSION: Final = 1032
"""How many bytes a compressed one can stand for at most (zlib's "Technical Details")."""

_DAMAGED: Final = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError),
    *(ValueError, TypeError, KeyError, OverflowError, SyntaxError, tokenize.TokenError),  # of a header
)
"""What Python and NumPy raise for what is damaged."""

_KINDS: Final = "biufcSU"
"""Of dtypes whose elements are numbers, truth values or text."""


class NpzCheckpoint(StoredTensors):
    """Arrays in an npz file. Safe from many threads until it is closed, which read one after the other.

    Args:
        path: Of the file.

    Raises:
        NotFoundError: There is no such file.
        DataLossError: It is damaged, or something else.
        PermissionDeniedError: It may not be read.
        UnknownError: It cannot be read.
    """

    form = "npz"

    def __init__(self, path: str | os.PathLike[str]):
        self.path = os.fspath(path)
        self._lock = threading.Lock()  # guards: _tensors, _streams; all reads of the archive, since it has one position
        self._tensors: dict[str, StoredTensor] = {}
        self._streams: list[_Stream] = []
        try:
            self._archive = zipfile.ZipFile(path)
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no file {self.path}") from error
        except PermissionError as error:
            raise PermissionDeniedError(f"{self.path} may not be read by this user") from error
        except OSError as error:
            raise UnknownError(f"{self.path} cannot be read: {error.strerror}") from error
        except _DAMAGED as error:
            raise DataLossError(f"{self.path} is damaged, or no npz file: {error}") from error
        self._entries = {each.filename.removesuffix(_ARRAY_SUFFIX): each for each in self._archive.infolist()}
        if len(self._entries) != len(self._archive.infolist()):
            self.close()
            raise DataLossError(f"{self.path} is damaged: a name is there twice")

    def __getitem__(self, name: str) -> StoredTensor:
        entry = self._entries[name]
        with self._lock:
            found = self._tensors.get(name)
            if found is None:
                found = self._tensors[name] = self._tensor(name, entry)
            return found

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def close(self) -> None:
        with self._lock:
            for stream in self._streams:
                stream.close()
            self._archive.close()

    def _tensor(self, name: str, entry: zipfile.ZipInfo) -> StoredTensor:
        """Reads what stands before an array, with the lock held."""
        where = f"{name!r} in {self.path}"
        if entry.compress_type not in _KNOWN_METHODS or entry.flag_bits & 1:
            problem = UnimplementedError(f"{where} is compressed or encrypted in a way that NumPy does not use")
            return StoredTensor(name, np.dtype(object), (), [], problem=problem)
        if entry.file_size > _MOST_COMPRESSION * entry.compress_size:
            raise DataLossError(f"{where} is damaged: {entry.compress_size} bytes cannot be {entry.file_size}")
        stream = _Stream(self._archive, entry, where, self._lock)
        self._streams.append(stream)
        shape, in_columns, dtype = stream.header()
        begin = stream.position
        if dtype.kind not in _KINDS or len(shape) > MAX_DIMENSIONS:
            why = "are read by running code" if dtype.hasobject else "no variable can have"
            problem = UnimplementedError(f"{where} has {len(shape)} dimensions of {dtype}, which {why}: not here")
            return StoredTensor(name, np.dtype(object), shape, [], problem=problem)
        if math.prod(shape) * dtype.itemsize != entry.file_size - begin:
            what = f"{entry.file_size - begin} bytes cannot be {dtype} of shape {list(shape)}"
            raise DataLossError(f"{where} is damaged: {what}")
        values = _Values(stream, begin, shape, dtype, in_columns=in_columns)
        whole = Part((0,) * len(shape), shape, values)
        if dtype.kind in "SU":
            parts = [text_part(whole, dtype.newbyteorder("="))]
            return StoredTensor(name, np.dtype(object), shape, parts, dtype_name="string")
        return StoredTensor(name, dtype.newbyteorder("="), shape, [whole])


class _Stream:
    """Reads one file of an archive, which goes on where it was unless it is asked for something before that."""

    def __init__(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str, lock: threading.Lock):
        self.lock = lock
        self.size_bytes = entry.file_size
        self.where = where
        self._archive, self._entry = archive, entry
        self._file: IO[bytes] | None = None

    @property
    def position(self) -> int:
        """Of the next byte."""
        return 0 if self._file is None else self._file.tell()

    def header(self) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        """Returns the shape, whether columns lie behind each other, and the dtype, with the lock held."""
        with self._explained():
            file = self._opened(0)
            version = npy.read_magic(file)
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
            if read is None:
                raise ValueError(f"version {version} of NumPy's format is not known here")
            found: tuple[tuple[int, ...], bool, np.dtype[Any]] = read(file)
            return found

    def read_into(self, target: Array, offset: int) -> None:
        """Fills bytes from a place on, with the lock held."""
        with self._explained():
            file = self._opened(offset)
            done = 0
            while done < len(target):
                some = file.read(min(_PIECE_BYTES, len(target) - done))
                if not some:
                    raise EOFError(f"it ends at byte {offset + done}")
                target[done : done + len(some)] = np.frombuffer(some, np.uint8)
                done += len(some)
            if offset + done == self.size_bytes:
                file.read(1)  # which compares the checksum

    def close(self) -> None:
        """Gives its place in the archive up, with the lock held."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self, offset: int) -> IO[bytes]:
        if self._file is None or self._file.tell() > offset:
            self.close()
            self._file = self._archive.open(self._entry)
        while self._file.tell() < offset:
            if not self._file.read(min(_PIECE_BYTES, offset - self._file.tell())):
                raise EOFError(f"it ends before byte {offset}")
        return self._file

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what Python says of an archive that cannot be read into an error that names it."""
        if self._archive.fp is None:
            raise FailedPreconditionError(f"{self.where} is closed; open the checkpoint again to read it")
        try:
            yield
        except OSError as error:
            self.close()
            raise UnknownError(f"{self.where} cannot be read: {error.strerror}") from error
        except _DAMAGED as error:
            self.close()
            raise DataLossError(f"{self.where} is damaged: {error}") from error


class _Values:
    """The elements of an array in an archive. Rows are given out when all were compared with the checksum once."""

    def __init__(self, stream: _Stream, begin: int, shape: tuple[int, ...], dtype: np.dtype[Any], *, in_columns: bool):
        self._stream = stream
        self._begin, self._size_bytes = begin, math.prod(shape) * dtype.itemsize
        self._shape, self._dtype = shape, dtype
        self._in_columns = in_columns and len(shape) > 1
        self._is_checked = False

    def check_size(self) -> None:
        pass  # the size of all that is in the archive was looked at when it was opened

    def verify(self) -> None:
        with self._stream.lock:
            self._verify()

    def read_into(self, target: Array, first_row: int) -> None:
        with self._stream.lock:
            if target.shape != self._shape and not self._is_checked:
                self._verify()
            if self._in_columns:
                whole = np.empty(self._shape, self._dtype, order="F")
                self._stream.read_into(whole.ravel(order="K").view(np.uint8), self._begin)
                target[...] = whole[first_row : first_row + len(target)]
                return
            row_bytes = self._size_bytes // self._shape[0] if self._shape and self._shape[0] else 0
            data = target.reshape(-1).view(np.uint8)  # a view: it is contiguous
            self._stream.read_into(data, self._begin + first_row * row_bytes)
            if self._dtype.byteorder not in "=|<":
                target.byteswap(inplace=True)

    def _verify(self) -> None:
        room = np.empty(min(self._size_bytes, _PIECE_BYTES), np.uint8)
        for start in range(0, self._size_bytes, _PIECE_BYTES):
            self._stream.read_into(room[: min(_PIECE_BYTES, self._size_bytes - start)], self._begin + start)
        self._is_checked = True


def write_npz(
    path: Path,
    tensors: Mapping[str, StoredTensor],
    *,
    overwrite: bool = False,
    done: Callable[[int], None] | None = None,
) -> list[Path]:
    """Writes tensors to an npz file, uncompressed.

    Args:
        path: Of the file; the directory is made if it is not there.
        tensors: By the names that they are to have.
        overwrite: Whether a file of that name is replaced.
        done: Called with the bytes of each piece that was written.

    Returns:
        The file.

    Raises:
        AlreadyExistsError: There is such a file.
        DTypeMismatchError: The format has no such elements.
        InvalidValueError: An array cannot be called so.
        ShardscopeError: A tensor cannot be read, or the file cannot be written; nothing is left of it.
    """
    check_free([path], overwrite=overwrite)
    with explained(path):
        make_directory(path.parent)
        with new_file(path) as file, zipfile.ZipFile(file, "w", allowZip64=True) as archive:
            for name, tensor in tensors.items():
                with archive.open(_entry(name), "w", force_zip64=True) as entry:
                    _write_array(entry, tensor, name, done)
    return [path]


def _entry(name: str) -> str:
    """Returns what an array's file is called in the archive, whose library would cut a name at a zero byte."""
    entry = f"{name}{_ARRAY_SUFFIX}"
    if "\0" in name or not is_utf8(name) or len(entry.encode()) > _MAX_NAME_BYTES:
        raise InvalidValueError(
            f"an array in an npz file cannot be called {name[:_MOST_SHOWN]!r}; say in names= what it is to be called, "
            f"in a shell --names",
            variable=name,
        )
    return entry


def _write_array(entry: IO[bytes], tensor: StoredTensor, name: str, done: Callable[[int], None] | None) -> None:
    if tensor.dtype.hasobject:
        text = _fixed(tensor.read(), name)
        dtype, pieces = text.dtype, iter([text])
    else:
        dtype, pieces = _numpy_dtype(tensor.dtype), tensor.pieces()
    header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": tensor.shape}
    npy.write_array_header_2_0(entry, header)
    for piece in pieces:
        entry.write(bytes_of(piece.astype(dtype, copy=False)))
        if done is not None:
            done(piece.nbytes)


def _numpy_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Returns the smallest dtype of NumPy's own that has all values of one."""
    if not is_ml_dtype(dtype):
        return dtype
    category = dtype_category(dtype)
    if category is DTypeCategory.INTEGER:
        return np.dtype(np.int8 if integer_limits(dtype)[0] < 0 else np.uint8)
    return np.dtype(np.complex64 if category is DTypeCategory.COMPLEX else np.float32)


def _fixed(text: Array, name: str) -> Array:
    """Returns text as bytes of one length."""
    elements = text.ravel().tolist()
    if [each for each in elements if each.endswith(b"\0")]:
        raise DTypeMismatchError(
            f"{name!r} has texts that end in a zero byte, which NumPy's arrays of bytes lose; leave it out by saying "
            f"which names to export",
            variable=name,
        )
    return np.array(elements, f"S{max(map(len, elements), default=1) or 1}").reshape(text.shape)
