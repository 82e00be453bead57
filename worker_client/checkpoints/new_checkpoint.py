"""Writes a checkpoint of Shardscope's without a cluster, from tensors of any files."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final
from uuid import uuid4

import numpy as np

from ps_protocol.checkpoints.manifest import BLOCK_BYTES, SavedPart, SavedVariable, part_file
from ps_protocol.checkpoints.store import CheckpointStore
from ps_protocol.codec.tensor_codec import bytes_of, dtype_name
from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError
from ps_protocol.files.safetensors_layout import values_layout
from ps_protocol.operations import Array, VariableSpec
from ps_protocol.tensor_files.stored_tensor import StoredTensor
from worker_client.values.text import STORED, stored

_TASK: Final = "ps:0"
"""What counts as the writer; a restore asks for no more than that each part has one."""


def write_checkpoint(
    store: CheckpointStore,
    name: str,
    tensors: Mapping[str, StoredTensor],
    *,
    step: int | None = None,
    done: Callable[[int], None] | None = None,
) -> int:
    """Writes a checkpoint of one part, which a restore divides among any number of ps tasks.

    Values go through in pieces of some MiB, text as a whole. After an error there is no checkpoint of the name.

    Args:
        store: Where to.
        name: Of the checkpoint.
        tensors: By the names of their variables.
        step: Training step that it belongs to.
        done: Called with the bytes of each piece that was written.

    Returns:
        Its size in bytes.

    Raises:
        AlreadyExistsError: There is a checkpoint of the name.
        ShardscopeError: A tensor cannot be read.
        OSError: The store fails.
    """
    save = uuid4()
    try:
        store.begin(name, save, "client")
        variables = [saved_variable(variable, tensor) for variable, tensor in tensors.items()]
        specs = [each.spec for each in variables]
        layout = values_layout(specs, {"save": str(save)})
        saved: dict[str, SavedVariable] = {}
        file = part_file(0, 1)
        with store.part_writer(name, save, file, layout.size_bytes) as writer:
            header_crc = writer.write(layout.header)
            for number in layout.order:
                spec = specs[number]
                blocks = _Blocks(writer.write)
                for piece in tensors[spec.name].pieces():
                    blocks.write(bytes_of(as_stored(piece, spec)))
                    if done is not None:
                        done(piece.nbytes)
                saved[spec.name] = replace(
                    variables[number], offset=layout.offsets[number], checksums=tuple(blocks.checksums)
                )
        in_order = tuple([saved[variable] for variable in sorted(saved)])
        part = SavedPart(file, _TASK, layout.size_bytes, len(layout.header), header_crc, 0, in_order)
        store.note_part(name, save, part)
        return store.publish(name, save, [_TASK], time.time(), step, {})
    except BaseException:
        store.discard(name, save)
        raise


class _Blocks:
    """Writes the bytes of a value, with a checksum for each block of them.

    Attributes:
        checksums: Of the blocks so far.
    """

    def __init__(self, write: Callable[[memoryview, int], int]):
        self.checksums: list[int] = []
        self._write = write
        self._room = 0

    def write(self, content: memoryview) -> None:
        """Appends bytes."""
        while len(content):
            if not self._room:
                self.checksums.append(0)
                self._room = BLOCK_BYTES
            some = content[: self._room]
            self.checksums[-1] = self._write(some, self.checksums[-1])
            self._room -= len(some)
            content = content[len(some) :]


def saved_variable(name: str, tensor: StoredTensor) -> SavedVariable:
    """Returns what a tensor is as a variable, not yet in a file; of text it is read, for the length of the longest.

    Raises:
        DTypeMismatchError: No variable can have such elements.
        ShardscopeError: Text cannot be read.
    """
    dtype = stored(tensor.read()).dtype if tensor.dtype.hasobject else tensor.dtype
    try:
        dtype_name(dtype)
    except InvalidArgumentError as error:
        raise DTypeMismatchError(f"{name!r} cannot be a variable: {error.message}", variable=name) from error
    spec = VariableSpec(name, dtype, tensor.shape)
    has_longer_text = dtype.kind == "S" and dtype != STORED
    return SavedVariable(spec, 0, True, declared=replace(spec, dtype=STORED) if has_longer_text else None)


def as_stored(piece: Array, spec: VariableSpec) -> Array:
    """Returns what a ps has for elements of a tensor: text in its form there."""
    return np.asarray(stored(piece), spec.dtype) if piece.dtype.hasobject else piece
