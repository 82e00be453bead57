"""The forms in which a saver writes checkpoints, and what it asks of each.

A form is one object. What is written is whole, or it is not there; what is read is read when it is
asked for, and no more than that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self

import numpy as np

from ps_protocol.errors import NotFoundError
from ps_protocol.operations import Array, PartitionSlice
from ps_protocol.tensorflow_files.bundle_writer import ShardWriter, write_index
from ps_protocol.tensorflow_files.checkpoint import open_tensorflow
from worker_client.checkpoints.state import checkpoint_exists, get_checkpoint_mtimes, remove_checkpoint

_MOST_NAMED: Final = 5


class StoredSpec(NamedTuple):
    """What a checkpoint says of a tensor.

    Attributes:
        dtype: Of its elements; ``object`` of text.
        shape: Of the whole.
        parts: Where those parts begin that there are, and their shapes; None if the whole is there.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    parts: Sequence[tuple[Sequence[int], Sequence[int]]] | None = None


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
            several = self._files.keys_of(key)
            if several:
                keys = ", ".join(several[:_MOST_NAMED])
                raise NotFoundError(
                    f"{key} is the full name of {len(several)} variables in {self._files.path}, with the keys {keys}; "
                    f"give the saver a mapping from the key that is meant to the variable"
                )
            return None
        stored = self._files[key]
        parts = None if stored.is_whole else [(part.starts, part.shape) for part in stored.parts]
        return StoredSpec(stored.dtype, stored.shape, parts)

    def verify(self, key: str) -> None:
        self._files[key].verify()

    def read(self, key: str, place: PartitionSlice | None, shape: Sequence[int]) -> Array:
        stored = self._files[key]
        return stored.read() if place is None else stored.read_block(place.offset, shape)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()


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
