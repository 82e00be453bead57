"""Where checkpoints lie: a store, which is a folder or a bucket, holds checkpoints by name.

``CheckpointStore`` is all that saving and restoring ask of it, so that an object store fits: a part is written from its
beginning to its end, ranges of it are read, and one step makes a checkpoint visible. In a folder that step is a rename,
in an object store the manifest, written last.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self
from uuid import UUID

from ps_protocol.checkpoints.manifest import (
    MANIFEST_FILE,
    CheckpointManifest,
    ManifestError,
    SavedPart,
    decode_manifest,
    decode_part,
    encode_manifest,
    encode_part,
)
from ps_protocol.errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from ps_protocol.fault_points import fault_point
from ps_protocol.files import synced_files
from ps_protocol.files.synced_files import SyncedWriter, sync_directory

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+=@,-]{0,199}", re.ASCII)
_URL: Final = re.compile(r"[a-z][a-z0-9+]+://", re.ASCII)


class PartWriter(Protocol):
    """Writes one part from its beginning to its end; as a context manager, drops it if an error is raised inside."""

    def write(self, data: memoryview | bytes, crc: int = 0) -> int:
        """Appends bytes; returns their CRC-32, going on from the one given."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


class RangeReader(Protocol):
    """Reads ranges of one part. Safe from many threads."""

    @property
    def size_bytes(self) -> int: ...

    def read_into(self, target: memoryview, offset: int) -> int:
        """Fills ``target`` from a place in the part and returns the CRC-32 of it; EOFError if the part ends before."""
        ...

    def close(self) -> None: ...


class CheckpointStore(Protocol):
    """Checkpoints by name. Methods raise OSError where the store fails."""

    @property
    def path(self) -> str:
        """Where it is, for messages."""
        ...

    def begin(self, name: str, save: UUID, mark: str) -> Sequence[str]:
        """Begins a checkpoint and leaves a mark there; returns all marks that can be seen.

        Raises:
            AlreadyExistsError: There is a checkpoint of the name.
        """
        ...

    def part_writer(self, name: str, save: UUID, file: str, size_bytes: int) -> PartWriter:
        """Begins a part of a checkpoint that was begun."""
        ...

    def note_part(self, name: str, save: UUID, part: SavedPart) -> None:
        """Leaves the manifest's entry of a part there."""
        ...

    def publish(self, name: str, save: UUID, tasks: Sequence[str], saved_at_s: float, step: int | None) -> int:
        """Makes a checkpoint visible, which has the parts of these ps tasks; returns its size in bytes."""
        ...

    def discard(self, name: str, save: UUID) -> None:
        """Removes a checkpoint that is not visible."""
        ...

    def manifest_bytes(self, name: str) -> bytes:
        """The manifest of a checkpoint; NotFoundError if there is none."""
        ...

    def open(self, name: str, file: str) -> RangeReader: ...

    def names(self) -> list[str]:
        """The checkpoints, oldest first."""
        ...

    def remove(self, name: str) -> None:
        """Removes a checkpoint."""
        ...


class FolderStore:
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
        folder = self._pending(name, save)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"mark-{mark}").touch()
        return sorted(path.name.removeprefix("mark-") for path in folder.glob("mark-*"))

    def part_writer(self, name: str, save: UUID, file: str, size_bytes: int) -> PartWriter:
        path = self._pending(name, save) / file
        path.unlink(missing_ok=True)  # of an attempt whose answer was lost
        return SyncedWriter(path, size_bytes)

    def note_part(self, name: str, save: UUID, part: SavedPart) -> None:
        synced_files.replace_file(self._pending(name, save) / f"{part.file}.json", encode_part(part))

    def publish(self, name: str, save: UUID, tasks: Sequence[str], saved_at_s: float, step: int | None) -> int:
        final, folder = self._root / name, self._pending(name, save)
        if final.exists():
            manifest = read_manifest(self, name)
            if manifest.save == save:  # an answer was lost
                return manifest.size_bytes
            raise AlreadyExistsError(f"there is a checkpoint {name} in {self._root} already, made meanwhile")
        parts = self._parts(folder, tasks)
        manifest = CheckpointManifest(name, save, saved_at_s, tuple(parts), step)
        synced_files.replace_file(folder / MANIFEST_FILE, encode_manifest(manifest))
        for path in [*folder.glob("mark-*"), *folder.glob("*.safetensors.json")]:
            path.unlink()
        sync_directory(folder)
        fault_point("checkpoint.before_rename")
        folder.rename(final)
        fault_point("checkpoint.renamed")
        sync_directory(self._root)
        return manifest.size_bytes

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
            raise NotFoundError(f"there is no checkpoint {name} in {self._root}: it has no {MANIFEST_FILE}") from error

    def open(self, name: str, file: str) -> RangeReader:
        return _FileReader(self._root / name / file)

    def names(self) -> list[str]:
        if not self._root.is_dir():
            return []
        found = [path for path in self._root.iterdir() if _NAME.fullmatch(path.name)]
        manifests = {path.name: path / MANIFEST_FILE for path in found}
        times = {name: path.stat().st_mtime_ns for name, path in manifests.items() if path.is_file()}
        return sorted(times, key=lambda name: (times[name], name))

    def remove(self, name: str) -> None:
        leaving = self._root / f".{name}.removed.tmp"
        shutil.rmtree(leaving, ignore_errors=True)
        (self._root / name).rename(leaving)  # first, so that what is left after a crash looks like no checkpoint
        sync_directory(self._root)
        fault_point("checkpoint.removing")
        shutil.rmtree(leaving)

    def _pending(self, name: str, save: UUID) -> Path:
        return self._root / f".{name}.{save.hex}.tmp"


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


def open_store(path: str) -> CheckpointStore:
    """Returns the store at a path.

    Raises:
        InvalidArgumentError: It is empty, relative, or a URL of a kind that is not known.
    """
    if _URL.match(path):
        raise InvalidArgumentError(
            f"checkpoints are kept in folders; {path} is a URL. Give a folder that all ps tasks share, on a network "
            f"file system or a mounted bucket, say"
        )
    if not Path(path).is_absolute():
        raise InvalidArgumentError(f"the folder of a checkpoint has to be absolute for a ps task, not {path!r}")
    return FolderStore(Path(path))


def check_name(name: str) -> str:
    """Returns the name of a checkpoint; InvalidArgumentError if it cannot be one."""
    if not _NAME.fullmatch(name):
        raise InvalidArgumentError(
            f"{name!r} cannot be the name of a checkpoint: use at most 200 letters, digits and _ . + = @ , - and begin "
            f"with a letter or digit"
        )
    return name


def locate(path: str) -> tuple[CheckpointStore, str]:
    """Returns the store and the name of the checkpoint at a path: the folder of one, or the newest of a folder of them.

    Raises:
        NotFoundError: There is none.
    """
    store = open_store(path)
    folder = Path(path)
    if (folder / MANIFEST_FILE).is_file():
        return open_store(str(folder.parent)), folder.name
    names = store.names()
    if not names:
        raise NotFoundError(
            f"there is no checkpoint at {path}: neither has it a {MANIFEST_FILE}, nor a folder in it; give the folder "
            f"that was given to save(), or that of one checkpoint in it"
        )
    return store, names[-1]


def read_manifest(store: CheckpointStore, name: str) -> CheckpointManifest:
    """Reads the manifest of a checkpoint.

    Raises:
        NotFoundError: There is none of the name.
        FailedPreconditionError: It was changed, or a newer version wrote it.
    """
    return parse_manifest(store.manifest_bytes(name), f"{store.path}/{name}")


def parse_manifest(data: bytes, where: str) -> CheckpointManifest:
    """Returns the manifest of the checkpoint at a path; errors as ``read_manifest``."""
    try:
        return decode_manifest(data)
    except ManifestError as error:
        raise damaged(f"{where}/{MANIFEST_FILE}", str(error)) from error


def check_part(store: CheckpointStore, name: str, part: SavedPart) -> RangeReader:
    """Opens a part, and makes sure that it has the size and the beginning that the manifest says.

    Raises:
        FailedPreconditionError: It is missing, was cut off or was changed.
        OSError: It cannot be read.
    """
    where = f"{store.path}/{name}/{part.file}"
    try:
        reader = store.open(name, part.file)
    except FileNotFoundError as error:
        raise damaged(where, "it is not there") from error
    with contextlib.ExitStack() as opened:
        opened.callback(reader.close)
        if reader.size_bytes != part.size_bytes:
            raise damaged(where, f"it has {reader.size_bytes} bytes instead of {part.size_bytes}")
        header = bytearray(part.header_bytes)
        if reader.read_into(memoryview(header), 0) != part.header_crc32:
            raise damaged(where, "the checksum of its header does not fit")
        opened.pop_all()
    return reader


def prune(store: CheckpointStore, keep: int) -> None:
    """Removes all but the newest checkpoints of a store; none if ``keep`` is 0."""
    for name in store.names()[:-keep] if keep else ():
        store.remove(name)


@contextlib.contextmanager
def store_errors(who: str) -> Iterator[None]:
    """Turns a failure of a store into an error that says what to do; ``who`` uses it, as "this task"."""
    try:
        yield
    except OSError as error:
        raise FailedPreconditionError(
            f"{who} cannot use the folder of the checkpoint: {error.strerror or error}"
            f"{f' ({error.filename})' if error.filename else ''}. Nothing was changed; make room, or correct the path "
            f"or its permissions"
        ) from error


def damaged(where: str, what: str) -> FailedPreconditionError:
    """Returns the error for a file of a checkpoint that cannot be used."""
    return FailedPreconditionError(
        f"the file {where} of a checkpoint cannot be used: {what}. Nothing was changed; restore another checkpoint, or "
        f"put back a copy of this one"
    )


def not_shared(path: str, tasks: Sequence[str]) -> FailedPreconditionError:
    """Returns the error for ps tasks that have another folder of the same name."""
    return FailedPreconditionError(
        f"what {', '.join(tasks)} {'has' if len(tasks) == 1 else 'have'} written to {path} cannot be seen by ps:0: the "
        f"ps tasks do not share that folder. Give one that all of them reach under the same path, on a network file "
        f"system say; or save through the client"
    )


def checksum(data: bytes) -> int:
    """CRC-32 of a manifest, by which the ps tasks know that they read the same one."""
    return zlib.crc32(data)


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
