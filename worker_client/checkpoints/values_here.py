"""What a restore through the client reads here: a checkpoint of Shardscope's, or one of another form."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from uuid import UUID

import numpy as np

from ps_protocol.checkpoints.boxes import CheckedValue, box_of, fill
from ps_protocol.checkpoints.locations import locate
from ps_protocol.checkpoints.manifest import CheckpointManifest, SavedPart, SavedVariable
from ps_protocol.checkpoints.service import CheckpointPath, Target
from ps_protocol.checkpoints.store import RangeReader, check_part, read_manifest, store_errors
from ps_protocol.errors import NotFoundError
from ps_protocol.operations import Array
from ps_protocol.tensor_files.stored_tensor import StoredTensor
from worker_client.checkpoints.new_checkpoint import as_stored, saved_variable
from worker_client.checkpoints.opening import open_checkpoint
from worker_client.checkpoints.other_slots import without_slots


class ValuesHere(Protocol):
    """Values of an open checkpoint. Safe from many threads.

    Attributes:
        where: The checkpoint.
        manifest: What is in it.
    """

    where: CheckpointPath
    manifest: CheckpointManifest

    def value(self, target: Target) -> Array:
        """Reads what a variable of the cluster is to have, in C order.

        Raises:
            FailedPreconditionError: A file of Shardscope's is damaged.
            DataLossError: One of another form is.
        """


@contextlib.contextmanager
def open_values(path: str) -> Iterator[ValuesHere]:
    """Opens the checkpoint at a path, of whatever form, while the block is open.

    Raises:
        NotFoundError: There is none.
        FailedPreconditionError: It is damaged, or this process cannot read it.
        DataLossError: One of another form is damaged.
    """
    with contextlib.ExitStack() as opened:
        values: ValuesHere
        try:
            with store_errors("this client"):
                values = _Saved(path, opened)
        except NotFoundError:
            values = _OfOtherForm(path, opened)
        yield values


class _Saved:
    """Of a checkpoint of Shardscope's: the parts that a target has elements in, each block checked."""

    def __init__(self, path: str, opened: contextlib.ExitStack):
        store, name = locate(path)
        self.where = CheckpointPath(store.path, name)
        self.manifest = read_manifest(store, name)
        self._readers: list[RangeReader] = []
        for part in self.manifest.parts:
            reader = check_part(store, name, part)
            opened.callback(reader.close)
            self._readers.append(reader)

    def value(self, target: Target) -> Array:
        value = np.empty(target.spec.shape, target.spec.dtype)
        for source in target.sources:
            part = self.manifest.parts[source.part]
            saved = part.variables[source.index]
            checked = CheckedValue(self._readers[source.part], saved, f"{self.where}/{part.file}")
            fill(value, target.spec, saved.spec, checked.read_into)
        return value


class _OfOtherForm:
    """Of a checkpoint of another form: the rows that a target has."""

    def __init__(self, path: str, opened: contextlib.ExitStack):
        checkpoint = opened.enter_context(open_checkpoint(path))
        tensors, _ = without_slots(checkpoint)
        saved: list[SavedVariable] = []
        self._tensors: list[StoredTensor] = []
        for name, tensor in tensors.items():
            if tensor.problem is None:  # others are no variables
                saved.append(saved_variable(name, tensor))
                self._tensors.append(tensor)
        size_bytes = sum([each.spec.size_bytes for each in saved])
        file = Path(path).name
        self.where = CheckpointPath(os.path.dirname(path), file)  # noqa: PTH120 - as it was given
        self.manifest = CheckpointManifest(
            file, UUID(int=0), 0.0, (SavedPart(file, checkpoint.form, size_bytes, 0, 0, 0, tuple(saved)),)
        )

    def value(self, target: Target) -> Array:
        tensor = self._tensors[target.sources[0].index]  # which is a whole one
        return np.ascontiguousarray(as_stored(tensor.read_block(*box_of(target.spec)), target.spec)).reshape(
            target.spec.shape
        )
