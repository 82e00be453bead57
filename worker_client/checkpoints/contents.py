"""A checkpoint of Shardscope's as a mapping from names to variables that are read when they are asked for."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from ps_protocol.checkpoints.boxes import CheckedValue, box_of
from ps_protocol.checkpoints.locations import locate
from ps_protocol.checkpoints.manifest import CheckpointManifest, SavedPart, SavedVariable
from ps_protocol.checkpoints.store import CheckpointStore, RangeReader, check_part, read_manifest
from ps_protocol.checkpoints.urls import absolute
from ps_protocol.codec.tensor_codec import bytes_of
from ps_protocol.dtype_traits import dtype_name
from ps_protocol.errors import DataLossError, FailedPreconditionError, UnknownError
from ps_protocol.operations import Array
from ps_protocol.tensor_files.covering import cover_once
from ps_protocol.tensor_files.stored_tensor import Part, StoredTensor, StoredTensors, row_offset, text_part
from worker_client.checkpoints.counts import whole_name
from worker_client.values.text import taken

_PIECE_BYTES: Final = 4 * 1024**2


class ShardscopeCheckpoint(StoredTensors):
    """The variables of a checkpoint, slots included, partitioned ones as wholes. Safe from many threads until closed.

    What is read is compared with its checksums, of some rows those of the blocks that they are in.

    Attributes:
        path: Its folder.
        step: The training step that it was saved with; None if there was none.
        saved_at_s: When it was saved, in seconds since the epoch.

    Args:
        path: Its absolute folder, or one of checkpoints, of which the newest is taken.

    Raises:
        NotFoundError: There is none.
        FailedPreconditionError: Its manifest was changed, or a newer version wrote it.
    """

    form = "Shardscope"

    def __init__(self, path: str):
        store, name = locate(path)
        self.path = f"{store.path}/{name}"
        manifest = read_manifest(store, name)
        self.step, self.saved_at_s = manifest.step, manifest.saved_at_s
        self._files = [_PartFile(store, name, part) for part in manifest.parts]
        self._tensors = {name: _whole(name, parts) for name, parts in sorted(self._by_whole(manifest).items())}

    def __getitem__(self, name: str) -> StoredTensor:
        return self._tensors[name]

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _by_whole(self, manifest: CheckpointManifest) -> dict[str, list[_SavedValue]]:
        found: dict[str, list[_SavedValue]] = {}
        saved = [
            (file, each)
            for file, part in zip(self._files, manifest.parts, strict=True)
            for each in part.variables
            if not each.spec.object_kind  # the state of a barrier is no tensor
        ]
        wholes = {each.spec.name: whole_name(each.spec) for _, each in saved}
        for file, each in saved:
            owner = wholes.get(each.spec.slot_of, each.spec.slot_of)
            found.setdefault(whole_name(each.spec), []).append(_SavedValue(file, each, owner))
        return found


class _PartFile:
    """A file of a checkpoint, opened and looked at when it is first read, closed when it is forgotten. Thread-safe."""

    def __init__(self, store: CheckpointStore, name: str, part: SavedPart):
        self.where = f"{store.path}/{name}/{part.file}"
        self._store, self._name, self._part = store, name, part
        self._lock = threading.Lock()  # guards: _reader, _is_closed; the file is opened under it, once
        self._reader: RangeReader | None = None
        self._is_closed = False

    @contextlib.contextmanager
    def opened(self) -> Iterator[RangeReader]:
        """Gives what reads it, and turns what fails inside of the block into errors of files that are damaged.

        Raises:
            DataLossError: It is missing, was cut off or was changed.
            FailedPreconditionError: The checkpoint is closed.
            UnknownError: It cannot be read.
        """
        with self._lock:
            if self._is_closed:
                raise FailedPreconditionError(f"{self.where} is closed; open the checkpoint again to read it")
        try:
            yield self._opened()
        except FailedPreconditionError as error:
            raise DataLossError(error.message, variable=error.variable) from error
        except OSError as error:
            raise UnknownError(f"{self.where} cannot be read: {error.strerror or error}") from error

    def _opened(self) -> RangeReader:
        with self._lock:
            if self._reader is None:
                reader = check_part(self._store, self._name, self._part)
                weakref.finalize(self, reader.close)
                self._reader = reader
            return self._reader

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            if self._reader is not None:
                self._reader.close()


class _SavedValue:
    """The value of a variable, or of a part of one, as a file of a checkpoint has it."""

    def __init__(self, file: _PartFile, saved: SavedVariable, slot_of: str):
        self.saved = saved
        self.slot_of = slot_of
        self._file = file

    @property
    def as_part(self) -> Part:
        """Its place in the whole."""
        starts, shape = box_of(self.saved.spec)
        part = Part(starts, shape, self)
        return text_part(part, self.saved.spec.dtype, taken) if self.saved.spec.dtype.kind == "S" else part

    def check_size(self) -> None:
        with self._file.opened() as reader:
            end = self.saved.offset + self.saved.spec.size_bytes
            if end > reader.size_bytes:
                raise DataLossError(
                    f"{self._file.where} is damaged: variable {self.saved.spec} should end at byte {end} of "
                    f"{reader.size_bytes}",
                    variable=self.saved.spec.name,
                )

    def verify(self) -> None:
        size_bytes = self.saved.spec.size_bytes
        room = np.empty(min(size_bytes, _PIECE_BYTES), np.uint8).data
        for start in range(0, size_bytes, _PIECE_BYTES):
            self._read(room[: min(_PIECE_BYTES, size_bytes - start)], start)

    def read_into(self, target: Array, first_row: int) -> None:
        self._read(bytes_of(target), row_offset(target, first_row))

    def _read(self, target: memoryview, start: int) -> None:
        with self._file.opened() as reader:
            CheckedValue(reader, self.saved, self._file.where).read_into(target, start)


def open_shardscope(path: str | os.PathLike[str]) -> ShardscopeCheckpoint:
    """Opens a checkpoint of Shardscope's; see ``ShardscopeCheckpoint``, whose path need not be absolute here."""
    return ShardscopeCheckpoint(absolute(path))


def _whole(name: str, values: Sequence[_SavedValue]) -> StoredTensor:
    """Puts the parts of a variable together."""
    specs = [each.saved.spec for each in values]
    first = specs[0]
    shape = first.shape if first.slice is None else first.slice.full_shape
    is_text = first.dtype.kind == "S"
    parts = sorted([each.as_part for each in values], key=lambda part: part.starts)
    problem = None
    has_value = not [each for each in values if not each.saved.initialized]
    if not has_value:
        problem = FailedPreconditionError(f"{name!r} had no value when it was saved", variable=name)
    elif not cover_once(shape, [part.starts for part in parts], [part.shape for part in parts]):
        there = ", ".join([f"{list(part.shape)} at {list(part.starts)}" for part in parts])
        problem = FailedPreconditionError(
            f"{name!r} has the shape {list(shape)}, and of its parts only these were there when it was saved: {there}",
            variable=name,
        )
    return StoredTensor(
        name,
        np.dtype(object) if is_text else first.dtype,
        shape,
        parts,
        dtype_name="string" if is_text else dtype_name(first.dtype),
        problem=problem,
        has_value=has_value,
        slot_of=values[0].slot_of,
    )
