"""The forms in which a saver writes checkpoints, and what it asks of each.

A form is one object. What is written is whole, or it is not there; what is read is read when it is
asked for, and no more than that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self

import numpy as np

from ps_protocol.operations import Array, PartitionSlice
from ps_protocol.tensor_files.stored_tensor import StoredTensor
from ps_protocol.tensorflow_files.bundle_writer import ShardWriter, write_index
from ps_protocol.tensorflow_files.checkpoint import open_tensorflow
from worker_client.checkpoints.state import checkpoint_exists, get_checkpoint_mtimes, remove_checkpoint

_READ_BYTES: Final = 16 * 1024**2
"""What is read at a time of a tensor of which only some columns are wanted."""


class StoredSpec(NamedTuple):
    """What a checkpoint says of a tensor.

    Attributes:
        dtype: Of its elements; ``object`` of text.
        shape: Of the whole.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class OpenCheckpoint(Protocol):
    """A checkpoint that can be read."""

    def find(self, key: str) -> StoredSpec | None:
        """Returns what there is under a name, None if nothing is."""
        ...

    def verify(self, key: str) -> None:
        """Makes sure that a tensor can be read, in little memory.

        Raises:
            DataLossError: A file is damaged.
            NotFoundError: A file is missing.
        """
        ...

    def read(self, key: str, place: PartitionSlice | None, shape: Sequence[int]) -> Array:
        """Reads a tensor.

        Args:
            key: Its name.
            place: Where in it that begins which is wanted; None for all of it.
            shape: Of what is wanted; of no account where ``place`` is None.

        Raises:
            DataLossError: A file is damaged.
        """
        ...


class NewCheckpoint(Protocol):
    """A checkpoint that is being written. It is there when its ``with`` block ends, and not at all after an error."""

    def add(self, shard: int, key: str, place: PartitionSlice | None, value: Array) -> None:
        """Appends a tensor.

        Args:
            shard: To which of the files.
            key: Its name.
            place: Where in the tensor of that name the value lies; None if it is all of it.
            value: The value.

        Raises:
            ResourceExhaustedError: The disk is full.
            PermissionDeniedError: This user may not write there.
        """
        ...


class CheckpointFormat(Protocol):
    """A form of checkpoints."""

    def open(self, path: str) -> AbstractContextManager[OpenCheckpoint]:
        """Opens a checkpoint.

        Raises:
            NotFoundError: There is none of that path.
            DataLossError: A file is damaged.
        """
        ...

    def create(self, path: str, num_shards: int) -> AbstractContextManager[NewCheckpoint]:
        """Begins a checkpoint, in the place of that of the same path if there is one.

        Args:
            path: What its files are called, without what is behind the last dot.
            num_shards: On how many files its tensors are spread.
        """
        ...

    def exists(self, path: str) -> bool:
        """Whether there is a checkpoint of this path."""
        ...

    def written_s(self, path: str) -> float | None:
        """Returns when a checkpoint was written, in seconds since 1970; None if there is none."""
        ...

    def remove(self, path: str, meta_graph_suffix: str) -> None:
        """Deletes a checkpoint.

        Args:
            path: Of it; it need not be there.
            meta_graph_suffix: Of a file of TensorFlow's beside it that is deleted as well.

        Raises:
            OSError: A file cannot be deleted.
        """
        ...


class TensorFlowFormat:
    """TensorFlow's own files, which TensorFlow 1 and 2 open: "path.index", "path.data-00000-of-00001" and so on."""

    def open(self, path: str) -> AbstractContextManager[OpenCheckpoint]:
        return _OpenTensorFlow(path)

    def create(self, path: str, num_shards: int) -> AbstractContextManager[NewCheckpoint]:
        return _NewTensorFlow(path, num_shards)

    def exists(self, path: str) -> bool:
        return checkpoint_exists(path)

    def written_s(self, path: str) -> float | None:
        return next(iter(get_checkpoint_mtimes([path])), None)

    def remove(self, path: str, meta_graph_suffix: str) -> None:
        remove_checkpoint(path, meta_graph_suffix=meta_graph_suffix)


FORMATS: Final[Mapping[str, CheckpointFormat]] = {"tensorflow": TensorFlowFormat()}
"""All forms by their names, which are those that ``Saver(write_format=...)`` takes."""


class _OpenTensorFlow:
    def __init__(self, path: str):
        self._files = open_tensorflow(path)

    def find(self, key: str) -> StoredSpec | None:
        if key not in self._files:
            return None
        stored = self._files[key]
        return StoredSpec(stored.dtype, stored.shape)

    def verify(self, key: str) -> None:
        self._files[key].verify()

    def read(self, key: str, place: PartitionSlice | None, shape: Sequence[int]) -> Array:
        stored = self._files[key]
        if place is None or not shape:
            return stored.read()
        start, stop = place.offset[0], place.offset[0] + shape[0]
        if tuple(shape[1:]) == stored.shape[1:]:
            return stored.read(slice(start, stop))
        return _read_columns(stored, place.offset, shape)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()


def _read_columns(stored: StoredTensor, offset: Sequence[int], shape: Sequence[int]) -> Array:
    """Reads a block that does not have whole rows, few rows at a time."""
    columns = [slice(start, start + size) for start, size in zip(offset[1:], shape[1:], strict=True)]
    found = np.empty(tuple(shape), stored.dtype)
    step = max(1, _READ_BYTES // max(1, math.prod(stored.shape[1:]) * stored.dtype.itemsize))
    for row in range(0, shape[0], step):
        count = min(step, shape[0] - row)
        rows = stored.read(slice(offset[0] + row, offset[0] + row + count))
        found[row : row + count] = rows[(slice(None), *columns)]
    return found


class _NewTensorFlow:
    def __init__(self, path: str, num_shards: int):
        self._path = path
        self._num_shards = num_shards
        self._discards = ExitStack()
        self._shards: list[ShardWriter] = []

    def add(self, shard: int, key: str, place: PartitionSlice | None, value: Array) -> None:
        if place is None:
            self._shards[shard].add(key, value)
        else:
            self._shards[shard].add_slice(key, place.full_shape, place.offset, value)

    def __enter__(self) -> Self:
        with ExitStack() as until_all_are_there:
            for shard in range(self._num_shards):
                writer = ShardWriter(self._path, shard, self._num_shards)
                until_all_are_there.callback(writer.discard)
                self._shards.append(writer)
            self._discards = until_all_are_there.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._discards:  # which does nothing to what is finished
            if kind is None:
                write_index(self._path, [each.finish() for each in self._shards])
