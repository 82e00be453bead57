"""The forms in which a saver writes checkpoints, and what it asks of each.

A form is one object. What is written is whole, or it is not there; what is read is read when it is
asked for, and no more than that.
"""

from __future__ import annotations

import itertools
import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self
from uuid import UUID

import numpy as np

from ps_protocol.checkpoints.folder_store import FolderStore
from ps_protocol.checkpoints.manifest import CheckpointManifest
from ps_protocol.checkpoints.store import check_name, store_errors
from ps_protocol.errors import InvalidArgumentError, NotFoundError
from ps_protocol.files.synced_files import exchange, make_directory
from ps_protocol.operations import Array, PartitionSlice, VariableSpec
from ps_protocol.tensor_files.checkpoint_file import local_path
from ps_protocol.tensorflow_files.bundle_writer import ShardWriter, write_index
from worker_client.checkpoints.new_checkpoint import new_checkpoint
from worker_client.checkpoints.opening import open_saved
from worker_client.checkpoints.state import checkpoint_exists, get_checkpoint_mtimes, is_pinned, remove_checkpoint

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

    def read(self, key: str, place: PartitionSlice | None, shape: Sequence[int], room: Array | None = None) -> Array:
        """Reads a tensor.

        Args:
            key: Its name.
            place: Where in it that begins which is wanted; None for all of it.
            shape: Of what is wanted; of no account where ``place`` is None.
            room: Bytes, aligned for any dtype, in which the array is to lie if they are enough for it; not used for
                text.

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
            value: The value, which is not kept: it may lie in memory that is shared with a ps task.

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

    def create(
        self, path: str, num_shards: int, specs: Sequence[VariableSpec]
    ) -> AbstractContextManager[NewCheckpoint]:
        """Begins a checkpoint, in the place of that of the same path if there is one.

        Args:
            path: What its files are called, without what is behind the last dot.
            num_shards: On how many files its tensors are spread.
            specs: What is to be added, under the names and with the places there; those with larger elements are added
                first. A value that is a whole may have another shape, and text is longer.
        """
        ...

    def exists(self, path: str) -> bool:
        """Whether there is a checkpoint of this path."""
        ...

    def written_s(self, path: str) -> float | None:
        """Returns when a checkpoint was written, in seconds since 1970; None if there is none."""
        ...

    def remove(self, path: str, meta_graph_suffix: str) -> None:
        """Deletes a checkpoint, unless it is pinned.

        Args:
            path: Of it; it need not be there.
            meta_graph_suffix: Of a file of TensorFlow's beside it that is deleted as well.

        Raises:
            OSError: A file cannot be deleted.
        """
        ...


class _SavedFormat:
    """Reads and deletes checkpoints of each form, whichever is written."""

    def open(self, path: str) -> AbstractContextManager[OpenCheckpoint]:
        return _OpenStored(path)

    def exists(self, path: str) -> bool:
        return checkpoint_exists(path)

    def written_s(self, path: str) -> float | None:
        return next(iter(get_checkpoint_mtimes([path])), None)

    def remove(self, path: str, meta_graph_suffix: str) -> None:
        if not is_pinned(path):
            remove_checkpoint(path, meta_graph_suffix=meta_graph_suffix)


class TensorFlowFormat(_SavedFormat):
    """TensorFlow's own files, which TensorFlow 1 and 2 open: "path.index", "path.data-00000-of-00001" and so on."""

    def create(
        self,
        path: str,
        num_shards: int,
        specs: Sequence[VariableSpec],  # noqa: ARG002 - the index comes last
    ) -> AbstractContextManager[NewCheckpoint]:
        return _NewTensorFlow(path, num_shards)


class ShardscopeFormat(_SavedFormat):
    """The form of ``ss.save``, which ``ss.restore`` brings to any number of ps tasks: a folder, in one part."""

    def create(
        self,
        path: str,
        num_shards: int,  # noqa: ARG002 - one part
        specs: Sequence[VariableSpec],
    ) -> AbstractContextManager[NewCheckpoint]:
        return _NewShardscope(path, specs)


FORMATS: Final[Mapping[str, CheckpointFormat]] = {"tensorflow": TensorFlowFormat(), "shardscope": ShardscopeFormat()}
"""All forms by their names, which are those that ``Saver(write_format=...)`` takes."""


class _OpenStored:
    def __init__(self, path: str):
        self._files = open_saved(path)

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
        found = self._files[key]
        parts = None if found.is_whole else [(part.starts, part.shape) for part in found.parts]
        return StoredSpec(found.dtype, found.shape, parts)

    def verify(self, key: str) -> None:
        self._files[key].verify()

    def read(self, key: str, place: PartitionSlice | None, shape: Sequence[int], room: Array | None = None) -> Array:
        found = self._files[key]
        starts, shape = ((0,) * found.ndim, found.shape) if place is None else (place.offset, shape)
        size_bytes, out = math.prod(shape) * found.dtype.itemsize, None
        if room is not None and not found.dtype.hasobject and size_bytes <= len(room):
            out = room[:size_bytes].view(found.dtype).reshape(shape)
        return found.read_block(starts, shape, out)

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


class _NewShardscope:
    """One part, in which each part of a partitioned variable has an entry of its own, as in one of ``ss.save``."""

    def __init__(self, path: str, specs: Sequence[VariableSpec]):
        if path.endswith("/"):
            raise InvalidArgumentError(
                f"a checkpoint of this form is a folder with a name; give one behind the slash, as {path}model.ckpt"
            )
        folder, name = os.path.split(os.path.abspath(local_path(path)))  # noqa: PTH100 - without following links
        self._folder = Path(folder)
        self._specs = _named(specs)
        self._writing = new_checkpoint(_ReplacingFolder(self._folder), check_name(name), list(self._specs.values()))

    def add(self, shard: int, key: str, place: PartitionSlice | None, value: Array) -> None:  # noqa: ARG002 - one part
        with store_errors("this process"):
            self._append(self._specs[key, place], value)

    def __enter__(self) -> Self:
        with store_errors("this process"):
            make_directory(self._folder)
            self._append = self._writing.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with store_errors("this process"):
            self._writing.__exit__(kind, error, trace)


def _named(specs: Sequence[VariableSpec]) -> dict[tuple[str, PartitionSlice | None], VariableSpec]:
    """Returns specs by their names and places, those of parts with names of their own."""
    wholes = {each.name for each in specs}
    numbers: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)
    found: dict[tuple[str, PartitionSlice | None], VariableSpec] = {}
    for each in specs:
        name = each.name
        while each.slice is not None and name in wholes:
            name = f"{each.name}/part_{next(numbers[each.name])}"
        found[each.name, each.slice] = replace(each, name=name)
    return found


class _ReplacingFolder(FolderStore):
    """A folder in which a checkpoint takes the place of that of its name, when it is whole."""

    def begin(self, name: str, save: UUID, mark: str) -> Sequence[str]:
        make_directory(self._pending(name, save))
        return [mark]

    def publish(
        self,
        name: str,
        save: UUID,
        tasks: Sequence[str],
        saved_at_s: float,
        step: int | None,
        metrics: Mapping[str, float],
    ) -> int:
        if not Path(self.path, name).exists():
            return super().publish(name, save, tasks, saved_at_s, step, metrics)
        pending = self._pending(name, save)
        manifest = CheckpointManifest(name, save, saved_at_s, tuple(self._parts(pending, tasks)), step, metrics)
        self._complete(manifest)
        self._show(manifest, exchange)
        self.discard(name, save)  # which is the one of before
        return manifest.size_bytes
