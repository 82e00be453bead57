"""Reads safetensors: a file, or many with an index (https://github.com/huggingface/safetensors, "Format").

All that a header says is checked before any memory is taken for a tensor: sizes against the file, and that the tensors
lie one behind the other without gaps, so that none can show bytes of another. The format has no checksums.
"""

from __future__ import annotations

import json
import math
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from ps_protocol.codec.tensor_codec import MAX_DIMENSIONS, parse_dtype
from ps_protocol.errors import DataLossError, FailedPreconditionError, NotFoundError, UnimplementedError
from ps_protocol.files.safetensors_layout import METADATA_KEY, NAME_OF_DTYPE
from ps_protocol.operations import Array
from ps_protocol.tensor_files.checkpoint_file import PIECE_BYTES, CheckpointFile
from ps_protocol.tensor_files.stored_tensor import Part, StoredTensor, StoredTensors, row_offset

SUFFIX: Final = ".safetensors"
INDEX_SUFFIX: Final = ".safetensors.index.json"

_OF_SEVERAL: Final = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")

_SIZE_BYTES: Final = 8
_MOST_HEADER_BYTES: Final = 100_000_000
"""The limit of the format's own library."""

_DTYPES: Final = {short: parse_dtype(name) for name, short in NAME_OF_DTYPE.items()}


class SafetensorsCheckpoint(StoredTensors):
    """Tensors in a safetensors file, or in those that an index names. Safe from many threads until it is closed.

    A file that an index names is opened when a tensor in it is asked for.

    Args:
        path: Of the file, or of the index, as "model.safetensors.index.json".

    Raises:
        NotFoundError: There is no such file.
        DataLossError: It is damaged, or something else.
        PermissionDeniedError: It may not be read.
        UnknownError: It cannot be read.
    """

    form = "safetensors"

    def __init__(self, path: str | os.PathLike[str]):
        self.path = os.fspath(path)
        self._place = Path(path)
        self._lock = threading.Lock()  # guards: _files, _is_closed; a file is opened under it, at most once each
        self._files: dict[str, _File] = {}
        self._is_closed = False
        if self.path.endswith(".json"):
            self._where = _read_index(self._place)
            return
        only = self._files[self._place.name] = _File(self._place)
        self._where = dict.fromkeys(only.tensors, self._place.name)

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the writer of the first file has said beside the tensors."""
        return self._file(next(iter(self._where.values()), self._place.name)).metadata

    def __getitem__(self, name: str) -> StoredTensor:
        where = self._where[name]
        found = self._file(where).tensors.get(name)
        if found is None:
            raise DataLossError(f"{self._place} is damaged: {name!r} should be in {where}, which does not have it")
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._where

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            for each in self._files.values():
                each.file.close()

    def _file(self, name: str) -> _File:
        with self._lock:
            found = self._files.get(name)
            if found is None:
                if self._is_closed:
                    raise FailedPreconditionError(f"{self._place} is closed; open the checkpoint again to read it")
                found = self._files[name] = _File(self._place.with_name(name))
            return found


def files_of_index(path: Path) -> list[str]:
    """Returns the names of the files that an index names; raises as ``SafetensorsCheckpoint`` does."""
    return sorted(set(_read_index(path).values()))


class _File:
    """One file, whose header was read and checked.

    Attributes:
        file: The file.
        tensors: By name.
        metadata: What its writer has said beside them.
    """

    def __init__(self, path: Path):
        self.file = CheckpointFile(path)
        try:
            self._base, header = self._header()
            self.metadata: dict[str, str] = self._metadata(header.pop(METADATA_KEY, {}))
            self.tensors = {name: self._tensor(name, entry) for name, entry in header.items()}
            self._check_gaps(header)
        except BaseException:
            self.file.close()
            raise

    def _header(self) -> tuple[int, dict[str, Any]]:
        """Returns where the first tensor begins, and what is said of all."""
        file = self.file
        if file.size_bytes < _SIZE_BYTES:
            raise file.damaged(0, f"it has {file.size_bytes} bytes, fewer than the size of a header")
        size_bytes = int.from_bytes(file.read(0, _SIZE_BYTES), "little")
        base = _SIZE_BYTES + size_bytes
        if size_bytes > _MOST_HEADER_BYTES or base > file.size_bytes:
            what = f"it says that its header has {size_bytes} bytes, and has {file.size_bytes} in all"
            raise file.damaged(0, f"{what}: it is no safetensors file, or was cut off")
        try:
            found = json.loads(file.read(_SIZE_BYTES, size_bytes).decode(), object_pairs_hook=_without_doubles)
        except (ValueError, RecursionError) as error:
            raise file.damaged(_SIZE_BYTES, f"its header is not what safetensors files have ({error})") from error
        if not isinstance(found, dict):
            raise file.damaged(_SIZE_BYTES, "its header is no JSON object")
        return base, found

    def _metadata(self, given: Any) -> dict[str, str]:
        if not isinstance(given, dict) or not all(isinstance(each, str) for each in given.values()):
            raise self.file.damaged(_SIZE_BYTES, f"its {METADATA_KEY} should be texts by name")
        return given

    def _tensor(self, name: str, entry: Any) -> StoredTensor:
        try:
            short, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        except (KeyError, TypeError, ValueError) as error:
            raise self._wrong(name, "its dtype, shape and data_offsets are not there") from error
        if not isinstance(short, str) or [each for each in (*shape, start, end) if type(each) is not int or each < 0]:
            raise self._wrong(name, f"it cannot have the shape {list(shape)} and be at {[start, end]}")
        if start > end or self._base + end > self.file.size_bytes:
            room = self.file.size_bytes - self._base
            raise self._wrong(name, f"it should be at {[start, end]} of {room} bytes: the file is cut off or damaged")
        dtype, problem = _DTYPES.get(short), None
        if dtype is None or len(shape) > MAX_DIMENSIONS:
            what = f"has {len(shape)} dimensions" if dtype is not None else f"has elements of {short}"
            problem = UnimplementedError(f"{name!r} in {self.file.path} {what}, which cannot be read here")
            dtype = dtype or np.dtype(object)
        elif end - start != math.prod(shape) * dtype.itemsize:
            raise self._wrong(name, f"{end - start} bytes cannot be {short} of shape {list(shape)}")
        values = _Bytes(self.file, name, self._base + start, end - start, is_bool=dtype == np.bool)
        whole = Part((0,) * len(shape), shape, values)
        return StoredTensor(name, dtype, shape, [whole], dtype_name=short if problem else "", problem=problem)

    def _check_gaps(self, header: Mapping[str, Any]) -> None:
        """Makes sure that each byte belongs to one tensor."""
        reached = 0
        for (start, end), name in sorted([(tuple(each["data_offsets"]), name) for name, each in header.items()]):
            if start != reached:
                what = f"it should begin at {reached}, where the one before ends, and not at {start}"
                raise self._wrong(name, what)
            reached = end
        if self._base + reached != self.file.size_bytes:
            more = self.file.size_bytes - self._base - reached
            raise self.file.damaged(self._base + reached, f"{more} bytes follow that belong to no tensor")

    def _wrong(self, name: str, what: str) -> DataLossError:
        return self.file.damaged(_SIZE_BYTES, f"of the tensor {name!r}, {what}")


class _Bytes:
    """The elements of a tensor as they lie in a file."""

    def __init__(self, file: CheckpointFile, name: str, offset: int, size_bytes: int, *, is_bool: bool):
        self._file = file
        self._name = name
        self._offset, self._size_bytes = offset, size_bytes
        self._is_bool = is_bool

    def check_size(self) -> None:
        self._file.check_range(self._offset, self._size_bytes)

    def verify(self) -> None:
        room = np.empty(min(self._size_bytes, PIECE_BYTES), np.uint8)
        for start in range(0, self._size_bytes, PIECE_BYTES):
            self._read(room[: min(PIECE_BYTES, self._size_bytes - start)], start)

    def read_into(self, target: Array, first_row: int) -> None:
        data = target.reshape(-1).view(np.uint8)  # a view: it is contiguous
        self._read(data, row_offset(target, first_row))

    def _read(self, data: Array, start: int) -> None:
        self._file.read_into(data, self._offset + start)
        if self._is_bool and len(data) and data.max() > 1:
            first = self._offset + start + int(np.argmax(data > 1))
            raise self._file.damaged(first, f"the tensor {self._name!r} of truth values has another byte than 0 and 1")


def _read_index(path: Path) -> dict[str, str]:
    """Returns the name of the file of each tensor."""
    file = CheckpointFile(path)
    try:
        if file.size_bytes > _MOST_HEADER_BYTES:
            raise DataLossError(f"{path} is no index of safetensors files: it has {file.size_bytes} bytes")
        found = json.loads(file.read(0, file.size_bytes).decode(), object_pairs_hook=_without_doubles)["weight_map"]
        where = dict(found)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataLossError(f"{path} is damaged, or no index of safetensors files ({error!r})") from error
    finally:
        file.close()
    for name, each in where.items():
        if not isinstance(each, str) or Path(each).name != each or each in {"", ".", ".."}:
            raise DataLossError(f"{path} is damaged: {name!r} should be in {each!r}, which is no file beside it")
    return where


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        ((twice, _),) = Counter([name for name, _ in pairs]).most_common(1)
        raise ValueError(f"{twice!r} is there twice")
    return found


def find_safetensors(folder: Path) -> Path | None:
    """Returns what to open of a folder: its only index, or else its only file of the form; None if it has none.

    Raises:
        NotFoundError: It has several of which none is "model"; says which. Or it has one of several, and no index.
    """
    for pattern, usual in ((f"*{INDEX_SUFFIX}", f"model{INDEX_SUFFIX}"), (f"*{SUFFIX}", f"model{SUFFIX}")):
        found = sorted([each for each in folder.glob(pattern) if not each.name.startswith(".")])
        chosen = [each for each in found if each.name == usual] or found
        if len(chosen) > 1:
            names = ", ".join([each.name for each in found[:5]])
            raise NotFoundError(f"{folder} has {len(found)} files of the form: {names}; give the path of one of them")
        if chosen and _OF_SEVERAL.search(chosen[0].name):
            raise NotFoundError(f"{chosen[0]} is one of several files, and there is no *{INDEX_SUFFIX} beside it")
        if chosen:
            return chosen[0]
    return None
