"""The values of a snapshot: written one after the other, read by two threads, each with its checksum."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from ps_protocol.codec.tensor_codec import bytes_of
from ps_protocol.files import synced_files
from ps_protocol.files.safetensors_layout import values_layout
from ps_protocol.files.synced_files import SyncedWriter
from ps_protocol.operations import Array
from ps_server.durability.snapshots.manifest import FileSummary, Manifest, StoredValue
from ps_server.store.stored_variable import VariableImage

_READERS: Final = 2
_SHARE_BYTES: Final = 16 * 1024**2


class SnapshotAbandonedError(Exception):
    """The snapshot was given up: it is not wanted any more."""


class CorruptSnapshotError(Exception):
    """A snapshot is not what was written; the message names the file, the variable and what to do."""


def write_values(
    path: Path,
    variables: deque[VariableImage],
    position: int,
    taken_at_s: float,
    ledger: FileSummary,
    is_wanted: Callable[[], bool],
) -> Manifest:
    """Writes the values, giving back each in turn, and returns the manifest."""
    stored = [StoredValue(each.spec, each.version, each.value is not None, 0, 0, each.declared) for each in variables]
    with_value = [index for index, each in enumerate(stored) if each.initialized]
    layout = values_layout([stored[index].spec for index in with_value], {"position": str(position)})
    values: list[Array | None] = [each.value for each in variables if each.value is not None]
    variables.clear()
    with SyncedWriter(path, layout.size_bytes) as writer:
        header_crc = writer.write(layout.header)
        for index in layout.order:
            check_wanted(is_wanted)
            value, values[index] = values[index], None
            assert value is not None
            crc = writer.write(bytes_of(value))
            del value
            each = stored[with_value[index]]
            stored[with_value[index]] = replace(each, offset=layout.offsets[index], crc32=crc)
    header = FileSummary(len(layout.header), header_crc)
    return Manifest(position, taken_at_s, tuple(stored), layout.size_bytes, header, ledger)


def check_wanted(is_wanted: Callable[[], bool]) -> None:
    """Raises SnapshotAbandonedError if it is not."""
    if not is_wanted():
        raise SnapshotAbandonedError("the snapshot is not wanted any more")


def read_values(path: Path, manifest: Manifest) -> list[VariableImage]:
    """Returns all variables, those that are initialised with new arrays.

    Raises:
        CorruptSnapshotError: The file is not what the manifest says.
    """
    check_size(path, manifest.values_bytes)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        header = bytearray(manifest.values_header.size_bytes)
        if synced_files.read_into(descriptor, memoryview(header), 0) != manifest.values_header.crc32:
            raise damaged(path, "the checksum of its header does not fit")

        def read(share: Sequence[StoredValue]) -> list[VariableImage]:
            return [_read_variable(path, descriptor, each) for each in share]

        with ThreadPoolExecutor(_READERS, thread_name_prefix="snapshot-read") as readers:
            return [image for images in readers.map(read, _shares(manifest.variables)) for image in images]
    finally:
        os.close(descriptor)


def _read_variable(path: Path, descriptor: int, stored: StoredValue) -> VariableImage:
    if not stored.initialized:
        return VariableImage(stored.spec, None, stored.version, stored.declared)
    value = np.empty(stored.spec.shape, stored.spec.dtype)
    try:
        crc = synced_files.read_into(descriptor, bytes_of(value), stored.offset)
    except EOFError as error:
        raise damaged(path, f"variable {stored.spec.name} is cut off: {error}") from error
    if crc != stored.crc32:
        raise damaged(path, f"the checksum of variable {stored.spec} does not fit its {value.nbytes} bytes")
    return VariableImage(stored.spec, value, stored.version, stored.declared)


def _shares(variables: Sequence[StoredValue]) -> Iterator[list[StoredValue]]:
    """Divides the variables into runs that are worth a task for a thread."""
    share: list[StoredValue] = []
    size_bytes = 0
    for variable in variables:
        share.append(variable)
        size_bytes += variable.spec.size_bytes + 4096
        if size_bytes >= _SHARE_BYTES:
            yield share
            share, size_bytes = [], 0
    yield share


def check_size(path: Path, size_bytes: int) -> None:
    """Raises CorruptSnapshotError unless there is a file of that size."""
    try:
        found = path.stat().st_size
    except FileNotFoundError as error:
        raise damaged(path, "it is not there") from error
    if found != size_bytes:
        raise damaged(path, f"it has {found} bytes instead of {size_bytes}")


def damaged(path: Path, what: str) -> CorruptSnapshotError:
    """Returns the error for a damaged file."""
    return CorruptSnapshotError(
        f"the snapshot file {path} is damaged: {what}. Nothing of it is used. Put back a copy of {path.parent}; or "
        f"move the task's data directory away, start the task without its variables, and restore a checkpoint"
    )
