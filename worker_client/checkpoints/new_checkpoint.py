"""Writes a checkpoint of Shardscope's without a ps: from tensors of any files, or from values as they come."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar
from uuid import UUID, uuid4

import numpy as np

from ps_protocol.checkpoints.folder_store import FolderStore
from ps_protocol.checkpoints.manifest import BLOCK_BYTES, SavedPart, SavedVariable, part_file
from ps_protocol.checkpoints.store import CheckpointStore, PartWriter
from ps_protocol.codec.tensor_codec import bytes_of, dtype_name
from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError
from ps_protocol.files.safetensors_layout import header_in, header_room, values_layout
from ps_protocol.files.synced_files import MANY_UNSYNCED_BYTES, SyncedWriter
from ps_protocol.operations import Array, VariableSpec
from ps_protocol.tensor_files.stored_tensor import StoredTensor
from worker_client.values.text import STORED, is_text, stored

_WriterT = TypeVar("_WriterT", bound=PartWriter)

_FILE: Final = part_file(0, 1)
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
    with _begun(store, name, save):
        variables = [saved_variable(variable, tensor) for variable, tensor in tensors.items()]
        layout = values_layout([each.spec for each in variables], {"save": str(save)})
        with _seldom_synced(store.part_writer(name, save, _FILE, layout.size_bytes)) as writer:
            header_crc = writer.write(layout.header)
            for number in layout.order:
                spec = variables[number].spec
                checksums: list[int] = []
                room_bytes = 0  # of the last block
                for piece in tensors[spec.name].pieces():
                    room_bytes = _append(writer, as_stored(piece, spec), checksums, room_bytes)
                    if done is not None:
                        done(piece.nbytes)
                variables[number] = replace(
                    variables[number], offset=layout.offsets[number], checksums=tuple(checksums)
                )
        return _publish(store, name, save, variables, (len(layout.header), header_crc, layout.size_bytes), step)


@contextlib.contextmanager
def new_checkpoint(
    store: FolderStore, name: str, specs: Sequence[VariableSpec]
) -> Iterator[Callable[[VariableSpec, Array], None]]:
    """Gives what appends a value to a checkpoint of one part, which is there when the block ends; not after an error.

    Each value is written once, behind the one before. In front of them is room for the header, which comes last, when
    all sizes are known: a value may have another than its variable was declared with.

    It is given the spec of the variable, or of a part of one, and the value, which it does not keep unless it is a part
    of text: of that all elements have one length. Variables with larger elements have to come first.

    Args:
        store: Where to.
        name: Of the checkpoint.
        specs: All that is to come, in any order.

    Raises:
        AlreadyExistsError: There is a checkpoint of the name.
        OSError: The store fails.
    """
    save = uuid4()
    metadata = {"save": str(save)}
    with _begun(store, name, save):
        room_bytes = end = header_room(specs, metadata)
        saved: list[SavedVariable] = []
        texts: dict[str, Array] = {}
        likely_bytes = room_bytes + sum([each.size_bytes for each in specs])
        with _seldom_synced(store.part_writer(name, save, _FILE, likely_bytes)) as writer:

            def add(spec: VariableSpec, value: Array) -> None:
                nonlocal end
                if spec.slice is not None and is_text(spec.dtype):
                    whole = texts.setdefault(spec.slice.full_name, np.empty(spec.slice.full_shape, object))
                    whole[tuple(map(slice, spec.slice.offset, np.add(spec.slice.offset, spec.shape)))] = value
                    return
                kept = np.ascontiguousarray(stored(value) if is_text(value.dtype) else value).reshape(value.shape)
                checksums: list[int] = []
                _append(writer, kept, checksums)
                own = _saved(replace(spec, dtype=kept.dtype, shape=kept.shape))
                saved.append(replace(own, offset=end, checksums=tuple(checksums)))
                end += kept.nbytes

            writer.move_to(room_bytes)
            yield add
            for own_name, whole in texts.items():
                add(VariableSpec(own_name, STORED, whole.shape), whole)
            writer.end_here()
            writer.move_to(0)
            header_crc = writer.write(header_in(room_bytes, [each.spec for each in saved], metadata))
        _publish(store, name, save, saved, (room_bytes, header_crc, end))


@contextlib.contextmanager
def _begun(store: CheckpointStore, name: str, save: UUID) -> Iterator[None]:
    """Begins a checkpoint, of which nothing is left after an error inside the block."""
    try:
        store.begin(name, save, "client")
        yield
    except BaseException:
        store.discard(name, save)
        raise


def _seldom_synced(writer: _WriterT) -> _WriterT:
    """Returns a writer that has the disk work without a rest, where it is one of files."""
    if isinstance(writer, SyncedWriter):
        writer.most_unsynced_bytes = MANY_UNSYNCED_BYTES
    return writer


def _append(writer: PartWriter, value: Array, checksums: list[int], room_bytes: int = 0) -> int:
    """Appends some of a value, with a checksum for each block; returns how many bytes have room in the last one.

    Args:
        writer: Of the part.
        value: In C order.
        checksums: Of the blocks so far.
        room_bytes: What was returned for what is before it.
    """
    content = bytes_of(value)
    while len(content):
        if not room_bytes:
            checksums.append(0)
            room_bytes = BLOCK_BYTES
        some = content[:room_bytes]
        checksums[-1] = writer.write(some, checksums[-1])
        room_bytes -= len(some)
        content = content[len(some) :]
    return room_bytes


def _publish(
    store: CheckpointStore,
    name: str,
    save: UUID,
    saved: Sequence[SavedVariable],
    file: tuple[int, int, int],
    step: int | None = None,
) -> int:
    """Makes a checkpoint visible, of whose file the bytes of the header, their checksum and all bytes are given."""
    header_bytes, header_crc, size_bytes = file
    in_order = tuple(sorted(saved, key=lambda each: each.spec.name))
    store.note_part(name, save, SavedPart(_FILE, _TASK, size_bytes, header_bytes, header_crc, 0, in_order))
    return store.publish(name, save, [_TASK], time.time(), step, {})


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
    return _saved(VariableSpec(name, dtype, tensor.shape))


def _saved(spec: VariableSpec) -> SavedVariable:
    has_longer_text = spec.dtype.kind == "S" and spec.dtype != STORED
    return SavedVariable(spec, 0, True, declared=replace(spec, dtype=STORED) if has_longer_text else None)


def as_stored(piece: Array, spec: VariableSpec) -> Array:
    """Returns what a ps has for elements of a tensor: text in its form there."""
    return np.asarray(stored(piece), spec.dtype) if piece.dtype.hasobject else piece
