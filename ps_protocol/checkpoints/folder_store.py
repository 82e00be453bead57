"""Checkpoints in a folder: each is a folder in it, which gets its name when it is whole."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

from ps_protocol.checkpoints.manifest import (
    MANIFEST_FILE,
    CheckpointManifest,
    ManifestError,
    SavedPart,
    decode_part,
    encode_manifest,
    encode_part,
)
from ps_protocol.checkpoints.store import (
    CheckpointStore,
    RangeReader,
    damaged,
    inside_another,
    is_name,
    not_shared,
    parse_pending,
    pending_name,
    read_manifest,
)
from ps_protocol.errors import AlreadyExistsError, NotFoundError
from ps_protocol.fault_points import fault_point
from ps_protocol.files import synced_files
from ps_protocol.files.synced_files import USUAL, SyncedWriter, make_directory, sync_directory
from ps_protocol.interrupts import sheltered

_REMOVED: Final = ".removed.tmp"
_PIN_FILE: Final = "pinned"
_OF_FILE_SYSTEM: Final = "lost+found"
"""At the root of many, which few may look into."""


class FolderStore(CheckpointStore):
    """Checkpoints in a folder: each is a folder in it.

    Args:
        root: The folder; it need not be there before something is saved.
    """

    def __init__(self, root: Path):
        self._root: Final = root

    @property
    def path(self) -> str:
        return str(self._root)

    def begin(self, name: str, save: UUID, mark: str) -> Sequence[str]:
        if (self._root / name).exists():
            raise AlreadyExistsError(
                f"there is a checkpoint {name} in {self._root} already; give the new one another name or step, or "
                f"remove the old one"
            )
        if (self._root / MANIFEST_FILE).exists():
            raise inside_another(self.path)
        folder = self._pending(name, save)
        make_directory(folder)
        (folder / f"mark-{mark}").touch()
        return sorted(path.name.removeprefix("mark-") for path in folder.glob("mark-*"))

    def part_writer(self, name: str, save: UUID, file: str, size_bytes: int) -> SyncedWriter:
        path = self._pending(name, save) / file
        path.unlink(missing_ok=True)  # of an attempt whose answer was lost
        return SyncedWriter(path, size_bytes, mode=USUAL)

    def note_part(self, name: str, save: UUID, part: SavedPart) -> None:
        synced_files.replace_file(self._pending(name, save) / f"{part.file}.json", encode_part(part), mode=USUAL)

    def publish(
        self,
        name: str,
        save: UUID,
        tasks: Sequence[str],
        saved_at_s: float,
        step: int | None,
        metrics: Mapping[str, float],
    ) -> int:
        final, folder = self._root / name, self._pending(name, save)
        if final.exists():
            manifest = read_manifest(self, name)
            if manifest.save == save:  # an answer was lost
                return manifest.size_bytes
            raise AlreadyExistsError(f"there is a checkpoint {name} in {self._root} already, made meanwhile")
        manifest = CheckpointManifest(name, save, saved_at_s, tuple(self._parts(folder, tasks)), step, metrics)
        self._complete(manifest)
        self._show(manifest, Path.rename)
        return manifest.size_bytes

    def _complete(self, manifest: CheckpointManifest) -> None:
        """Makes a checkpoint whole, under the name that it has before it is visible."""
        folder = self._pending(manifest.name, manifest.save)
        synced_files.replace_file(folder / MANIFEST_FILE, encode_manifest(manifest), mode=USUAL)
        self._make_newest(folder / MANIFEST_FILE)
        for path in [*folder.glob("mark-*"), *folder.glob("*.safetensors.json")]:
            path.unlink()
        sync_directory(folder)

    def _show(self, manifest: CheckpointManifest, rename: Callable[[Path, Path], object]) -> None:
        fault_point("checkpoint.before_visible")
        rename(self._pending(manifest.name, manifest.save), self._root / manifest.name)
        fault_point("checkpoint.visible")
        sync_directory(self._root)

    def _make_newest(self, manifest: Path) -> None:
        """Dates a manifest behind those that are there, which may be from before a clock was set back, or ahead."""
        newest_ns = max(sheltered(self._times_ns).values(), default=0)  # of as many as there are
        if manifest.stat().st_mtime_ns <= newest_ns:
            os.utime(manifest, ns=(newest_ns + 1, newest_ns + 1))

    def _parts(self, folder: Path, tasks: Sequence[str]) -> list[SavedPart]:
        parts = {part.task: part for part in map(_read_part, folder.glob("*.safetensors.json"))}
        for task in tasks:
            part = parts.get(task)
            if part is None or _size(folder / part.file) != part.size_bytes:
                raise not_shared(self.path, [task])
        return [parts[task] for task in tasks]

    def discard(self, name: str, save: UUID) -> None:
        shutil.rmtree(self._pending(name, save), ignore_errors=True)

    def manifest_bytes(self, name: str) -> bytes:
        try:
            return (self._root / name / MANIFEST_FILE).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _no_checkpoint(name, self._root) from error

    def exists(self, name: str) -> bool:
        return (self._root / name / MANIFEST_FILE).is_file()

    def open(self, name: str, file: str) -> RangeReader:
        return _FileReader(self._root / name / file)

    def names(self) -> list[str]:
        times = self._times_ns()
        return sorted(times, key=lambda name: (times[name], name))

    def _times_ns(self) -> dict[str, int]:
        """When each checkpoint was made. A link within the folder is another name of one, not one more."""
        if not self._root.is_dir():
            return {}
        times: dict[str, int] = {}
        for path in self._root.iterdir():
            if is_name(path.name) and path.name != _OF_FILE_SYSTEM and not self._is_other_name(path):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # it may just have been removed
                    times[path.name] = (path / MANIFEST_FILE).stat().st_mtime_ns
        return times

    def _is_other_name(self, path: Path) -> bool:
        if not path.is_symlink():
            return False
        return os.path.dirname(os.path.realpath(path)) == os.path.realpath(self._root)  # noqa: PTH120 - links may loop

    def remove(self, name: str) -> None:
        if (self._root / name).is_symlink():
            (self._root / name).unlink(missing_ok=True)
            sync_directory(self._root)
            return
        leaving = self._root / f".{name}{_REMOVED}"
        shutil.rmtree(leaving, ignore_errors=True)
        try:
            (self._root / name).rename(leaving)  # first, so that what is left after a crash looks like no checkpoint
        except FileNotFoundError:
            return
        sync_directory(self._root)
        fault_point("checkpoint.removing")
        _remove_tree(leaving)

    def pin(self, name: str, *, is_pinned: bool) -> None:
        folder = self._root / name
        if not self.exists(name):
            raise _no_checkpoint(name, self._root)
        try:
            if is_pinned:
                (folder / _PIN_FILE).touch()
            else:
                (folder / _PIN_FILE).unlink(missing_ok=True)
            sync_directory(folder)
        except FileNotFoundError as error:  # it was removed at this very moment
            raise _no_checkpoint(name, self._root) from error

    def is_pinned(self, name: str) -> bool:
        return (self._root / name / _PIN_FILE).exists()

    def clean(self, before_s: float) -> list[str]:
        left = [path for path in self._root.glob(".*.tmp") if _is_left_behind(path.name) and path.is_dir()]
        dead = sorted([path for path in left if _newest_s(path) < before_s])
        for path in dead:
            _remove_tree(path)
        return [path.name for path in dead]

    def _pending(self, name: str, save: UUID) -> Path:
        return self._root / pending_name(name, save)


class _FileReader:
    def __init__(self, path: Path):
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size_bytes = os.fstat(self._descriptor).st_size

    def read_into(self, target: memoryview, offset: int) -> int:
        return synced_files.read_into(self._descriptor, target, offset)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _no_checkpoint(name: str, root: Path) -> NotFoundError:
    return NotFoundError(f"there is no checkpoint {name} in {root}: it has no {MANIFEST_FILE}")


def _is_left_behind(name: str) -> bool:
    return parse_pending(name) is not None or (name.endswith(_REMOVED) and is_name(name[1 : -len(_REMOVED)]))


def _remove_tree(folder: Path) -> None:
    """Removes a folder, which others may be removing too; what they have removed is removed."""
    while os.path.lexists(folder):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)


def _newest_s(folder: Path) -> float:
    """When something in a folder was last changed, or the folder renamed."""
    try:
        return max([path.lstat().st_ctime for path in [folder, *folder.rglob("*")]])
    except FileNotFoundError:  # at this very moment
        return math.inf


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _read_part(path: Path) -> SavedPart:
    try:
        return decode_part(path.read_bytes())
    except ManifestError as error:
        raise damaged(str(path), str(error)) from error
