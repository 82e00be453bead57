"""Images of a ps task's state as directories: written so that each is whole or not there, and read with suspicion.

``snapshots/<position, 20 digits>/`` holds ``values.safetensors``, ``ledger.bin`` and ``manifest.json``. A snapshot is
written to ``.<position>.tmp``, forced to disk file by file, and then renamed: a name without a dot is a whole snapshot,
whatever happened to the process or the machine. Every byte of it is covered by a checksum in the manifest.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ps_protocol.fault_points import fault_point
from ps_protocol.operations import Array
from ps_protocol.tensor_codec import bytes_of
from ps_server import ledger_file, synced_files
from ps_server.safetensors_layout import values_layout
from ps_server.snapshot_manifest import (
    FileSummary,
    Manifest,
    ManifestError,
    StoredValue,
    decode_manifest,
    encode_manifest,
)
from ps_server.state_image import StateImage, VariableImage
from ps_server.synced_files import SyncedWriter, sync_directory

VALUES_FILE: Final = "values.safetensors"
LEDGER_FILE: Final = "ledger.bin"
MANIFEST_FILE: Final = "manifest.json"

_COMPLETE: Final = re.compile(r"\d{20}", re.ASCII)
_READERS: Final = 2
_SHARE_BYTES: Final = 16 * 1024**2


class CorruptSnapshotError(Exception):
    """A snapshot is not what was written; the message names the file, the variable and what to do."""


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot on disk.

    Attributes:
        path: Its directory.
        position: Newest record whose effect is in it.
        taken_at_s: When, in seconds since the epoch.
        size_bytes: Of its files.
    """

    path: Path
    position: int
    taken_at_s: float
    size_bytes: int


class SnapshotFiles:
    """The snapshots of one ps task. One thread writes, or reads.

    Args:
        root: Their directory; made if it is not there.
        wall_clock: Seconds since the epoch.
    """

    def __init__(self, root: Path, wall_clock: Callable[[], float] = time.time):
        self._root = root
        self._wall_clock = wall_clock
        root.mkdir(parents=True, exist_ok=True)

    def positions(self) -> list[int]:
        """Positions of the whole snapshots, ascending."""
        return sorted(int(path.name) for path in self._root.iterdir() if _COMPLETE.fullmatch(path.name))

    def path_of(self, position: int) -> Path:
        """Directory of the snapshot of a position."""
        return self._root / f"{position:020}"

    def remove_incomplete(self) -> None:
        """Removes what a process left that ended while it wrote or removed a snapshot."""
        for path in self._root.glob(".*.tmp"):
            shutil.rmtree(path)

    def drop_before(self, position: int) -> None:
        """Removes the snapshots of earlier positions."""
        for each in self.positions():
            if each < position:
                # Renamed first, or what is left of it after a crash would look like a damaged one.
                leaving = self._root / f".{each:020}.tmp"
                self.path_of(each).rename(leaving)
                sync_directory(self._root)
                shutil.rmtree(leaving)

    # -- writing ------------------------------------------------------------------------------

    def write(self, image: StateImage, before_rename: Callable[[int], None] | None = None) -> SnapshotInfo:
        """Writes an image; returns when it will outlast a power cut.

        The image is used up: if the caller holds no other reference to it, each lent value is given back when it is
        written, so that updates need not go on beside it.

        Args:
            image: What to write; not of a position that there is a snapshot of already.
            before_rename: Called with the position when all is on disk but not yet a snapshot; if it raises, there will
                be none.

        Raises:
            OSError: There is no room, or the disk fails; nothing is left of the snapshot.
        """
        taken_at_s, position = self._wall_clock(), image.position
        temporary = self._root / f".{position:020}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            ledger = _write_ledger(temporary / LEDGER_FILE, image)
            variables = deque(image.variables)
            del image  # which would hold all values until the last is written
            manifest = _write_values(temporary / VALUES_FILE, variables, position, taken_at_s, ledger)
            content = encode_manifest(manifest)
            with SyncedWriter(temporary / MANIFEST_FILE) as writer:
                writer.write(content)
            sync_directory(temporary)
            if before_rename is not None:
                before_rename(position)
            fault_point("snapshot.before_rename")
            temporary.rename(self.path_of(position))
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_directory(self._root)
        fault_point("snapshot.after_rename")
        size_bytes = manifest.values_bytes + ledger.size_bytes + len(content)
        return SnapshotInfo(self.path_of(position), position, taken_at_s, size_bytes)

    # -- reading ------------------------------------------------------------------------------

    def read(self, position: int) -> tuple[StateImage, SnapshotInfo]:
        """Reads a snapshot; the values are new arrays, writable and in C order.

        Raises:
            CorruptSnapshotError: A file lacks, was changed or cut off.
            OSError: A file cannot be read.
            MemoryError: The values do not fit into memory.
        """
        path = self.path_of(position)
        manifest, manifest_bytes = _read_manifest(path / MANIFEST_FILE)
        if manifest.position != position:
            raise _damaged(path / MANIFEST_FILE, f"it is of record {manifest.position}, not of {position}")
        ledger = _read_ledger(path / LEDGER_FILE, manifest.ledger)
        variables = _read_values(path / VALUES_FILE, manifest)
        image = StateImage(
            position, tuple(variables), tuple(ledger.clients), tuple(ledger.departed), tuple(ledger.placements)
        )
        size_bytes = manifest.values_bytes + manifest.ledger.size_bytes + manifest_bytes
        return image, SnapshotInfo(path, position, manifest.taken_at_s, size_bytes)


def _write_ledger(path: Path, image: StateImage) -> FileSummary:
    with SyncedWriter(path) as writer:
        return FileSummary(*ledger_file.write_entries(writer, image))


def _write_values(
    path: Path, variables: deque[VariableImage], position: int, taken_at_s: float, ledger: FileSummary
) -> Manifest:
    """Writes the values, giving back each in turn, and returns the manifest."""
    stored = [StoredValue(each.spec, each.version, each.value is not None, 0, 0) for each in variables]
    with_value = [index for index, each in enumerate(stored) if each.initialized]
    layout = values_layout([stored[index].spec for index in with_value], {"position": str(position)})
    values: list[Array | None] = [each.value for each in variables if each.value is not None]
    variables.clear()
    with SyncedWriter(path, layout.size_bytes) as writer:
        header_crc = writer.write(layout.header)
        for index in layout.order:
            value, values[index] = values[index], None
            assert value is not None
            crc = writer.write(bytes_of(value))
            del value
            each = stored[with_value[index]]
            stored[with_value[index]] = StoredValue(each.spec, each.version, True, layout.offsets[index], crc)
    header = FileSummary(len(layout.header), header_crc)
    return Manifest(position, taken_at_s, tuple(stored), layout.size_bytes, header, ledger)


def _read_manifest(path: Path) -> tuple[Manifest, int]:
    """Returns the manifest and its size in bytes."""
    try:
        content = path.read_bytes()
        return decode_manifest(content), len(content)
    except FileNotFoundError as error:
        raise _damaged(path, "it is not there") from error
    except ManifestError as error:
        raise _damaged(path, str(error)) from error


def _read_ledger(path: Path, expected: FileSummary) -> ledger_file.ReadEntries:
    _check_size(path, expected.size_bytes)
    if ledger_file.checksum(path) != expected.crc32:
        raise _damaged(path, "its checksum does not fit")
    try:
        return ledger_file.ReadEntries(path)
    except ledger_file.MalformedEntryError as error:
        raise _damaged(path, str(error)) from error


def _read_values(path: Path, manifest: Manifest) -> list[VariableImage]:
    _check_size(path, manifest.values_bytes)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        header = bytearray(manifest.values_header.size_bytes)
        if synced_files.read_into(descriptor, memoryview(header), 0) != manifest.values_header.crc32:
            raise _damaged(path, "the checksum of its header does not fit")

        def read(share: Sequence[StoredValue]) -> list[VariableImage]:
            return [_read_variable(path, descriptor, each) for each in share]

        with ThreadPoolExecutor(_READERS, thread_name_prefix="snapshot-read") as readers:
            return [image for images in readers.map(read, _shares(manifest.variables)) for image in images]
    finally:
        os.close(descriptor)


def _read_variable(path: Path, descriptor: int, stored: StoredValue) -> VariableImage:
    if not stored.initialized:
        return VariableImage(stored.spec, None, stored.version)
    value = np.empty(stored.spec.shape, stored.spec.dtype)
    try:
        crc = synced_files.read_into(descriptor, bytes_of(value), stored.offset)
    except EOFError as error:
        raise _damaged(path, f"variable {stored.spec.name} is cut off: {error}") from error
    if crc != stored.crc32:
        raise _damaged(path, f"the checksum of variable {stored.spec} does not fit its {value.nbytes} bytes")
    return VariableImage(stored.spec, value, stored.version)


def _shares(variables: Sequence[StoredValue]) -> Iterator[list[StoredValue]]:
    """Runs of variables that are worth a turn of a thread."""
    share: list[StoredValue] = []
    size_bytes = 0
    for variable in variables:
        share.append(variable)
        size_bytes += variable.spec.size_bytes + 4096
        if size_bytes >= _SHARE_BYTES:
            yield share
            share, size_bytes = [], 0
    yield share


def _check_size(path: Path, size_bytes: int) -> None:
    try:
        found = path.stat().st_size
    except FileNotFoundError as error:
        raise _damaged(path, "it is not there") from error
    if found != size_bytes:
        raise _damaged(path, f"it has {found} bytes instead of {size_bytes}")


def _damaged(path: Path, what: str) -> CorruptSnapshotError:
    return CorruptSnapshotError(
        f"the snapshot file {path} is damaged: {what}. Nothing of it is used. Put back a copy of {path.parent}; or "
        f"move the task's data directory away, start the task without its variables, and restore a checkpoint"
    )
