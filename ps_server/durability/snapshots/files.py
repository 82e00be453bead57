"""Snapshots: images of a ps task's state as directories, each of which is whole or not there.

``snapshots/<position, 20 digits>/`` holds ``values.safetensors``, ``ledger.bin`` and ``manifest.json``. A snapshot is
written to ``.<position>.tmp``, synced file by file, and then renamed: a name without a dot is a whole snapshot, also
after a crash of the process or the machine. Checksums in the manifest cover every byte.
"""

from __future__ import annotations

import re
import shutil
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ps_protocol.fault_points import fault_point
from ps_protocol.files.synced_files import SyncedWriter, make_private_directory, sync_directory
from ps_server.durability.snapshots import ledger_file
from ps_server.durability.snapshots.manifest import (
    FileSummary,
    Manifest,
    ManifestError,
    decode_manifest,
    encode_manifest,
)
from ps_server.durability.snapshots.values import (
    CorruptSnapshotError,
    SnapshotAbandonedError,
    check_size,
    check_wanted,
    damaged,
    read_values,
    write_values,
)
from ps_server.log.state_image import StateImage

__all__ = ["CorruptSnapshotError", "SnapshotAbandonedError", "SnapshotFiles", "SnapshotInfo"]

VALUES_FILE: Final = "values.safetensors"
LEDGER_FILE: Final = "ledger.bin"
MANIFEST_FILE: Final = "manifest.json"

_COMPLETE: Final = re.compile(r"\d{20}", re.ASCII)


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
        if not root.is_dir():
            make_private_directory(root)
            sync_directory(root.parent)

    def positions(self) -> list[int]:
        """Positions of the whole snapshots, ascending."""
        return sorted(int(path.name) for path in self._root.iterdir() if _COMPLETE.fullmatch(path.name))

    def path_of(self, position: int) -> Path:
        """Directory of the snapshot of a position."""
        return self._root / f"{position:020}"

    def remove_incomplete(self) -> None:
        """Removes snapshots that a crash left half written or half removed."""
        for path in self._root.glob(".*.tmp"):
            shutil.rmtree(path)

    def drop_before(self, position: int) -> None:
        """Removes the snapshots of earlier positions."""
        for each in self.positions():
            if each < position:
                # Renamed first: after a crash, what is left must not look like a damaged snapshot.
                leaving = self._root / f".{each:020}.tmp"
                self.path_of(each).rename(leaving)
                sync_directory(self._root)
                shutil.rmtree(leaving)

    # -- writing ------------------------------------------------------------------------------

    def write(
        self,
        image: StateImage,
        *,
        before_rename: Callable[[int], None] | None = None,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> SnapshotInfo:
        """Writes an image; returns when it is on disk.

        Each lent value is given back as soon as it is written, if the caller holds no other reference to the image:
        updates of its variable then work in place again.

        Args:
            image: What to write; there must be no snapshot of its position.
            before_rename: Called with the position when all is on disk but not renamed; if it raises, the snapshot is
                dropped.
            is_wanted: Asked before each value and before the end; False drops the snapshot.

        Raises:
            OSError: There is no room, or the disk fails; nothing is left of the snapshot.
            SnapshotAbandonedError: It was not wanted any more; likewise.
        """
        taken_at_s, position = self._wall_clock(), image.position
        temporary = self._root / f".{position:020}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        make_private_directory(temporary)
        try:
            ledger = _write_ledger(temporary / LEDGER_FILE, image)
            variables = deque(image.variables)
            del image  # it would hold all values until the last is written
            manifest = write_values(temporary / VALUES_FILE, variables, position, taken_at_s, ledger, is_wanted)
            content = encode_manifest(manifest)
            with SyncedWriter(temporary / MANIFEST_FILE) as writer:
                writer.write(content)
            sync_directory(temporary)
            check_wanted(is_wanted)
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
            CorruptSnapshotError: A file is missing, was changed or was cut off.
            OSError: A file cannot be read.
            MemoryError: The values do not fit into memory.
        """
        path = self.path_of(position)
        manifest, manifest_bytes = _read_manifest(path / MANIFEST_FILE)
        if manifest.position != position:
            raise damaged(path / MANIFEST_FILE, f"it is of record {manifest.position}, not of {position}")
        ledger = _read_ledger(path / LEDGER_FILE, manifest.ledger)
        variables = read_values(path / VALUES_FILE, manifest)
        image = StateImage(
            position,
            tuple(variables),
            tuple(ledger.clients),
            tuple(ledger.departed),
            tuple(ledger.placements),
            ledger.restored,
        )
        size_bytes = manifest.values_bytes + manifest.ledger.size_bytes + manifest_bytes
        return image, SnapshotInfo(path, position, manifest.taken_at_s, size_bytes)


def _write_ledger(path: Path, image: StateImage) -> FileSummary:
    with SyncedWriter(path) as writer:
        return FileSummary(*ledger_file.write_entries(writer, image))


def _read_manifest(path: Path) -> tuple[Manifest, int]:
    """Returns the manifest and its size in bytes."""
    try:
        content = path.read_bytes()
        return decode_manifest(content), len(content)
    except FileNotFoundError as error:
        raise damaged(path, "it is not there") from error
    except ManifestError as error:
        raise damaged(path, str(error)) from error


def _read_ledger(path: Path, expected: FileSummary) -> ledger_file.ReadEntries:
    check_size(path, expected.size_bytes)
    if ledger_file.checksum(path) != expected.crc32:
        raise damaged(path, "its checksum does not fit")
    try:
        return ledger_file.ReadEntries(path)
    except ledger_file.MalformedEntryError as error:
        raise damaged(path, str(error)) from error
