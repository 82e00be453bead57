"""Where checkpoints lie: a store, which is a folder or a bucket, holds checkpoints by name.

``CheckpointStore`` is all that saving and restoring ask of it: a part is written from its beginning to its end, ranges
of it are read, and one step makes a checkpoint visible. In a folder (``folder_store``) that step is a rename, in an
object store (``object_store``) the manifest, written last. ``locations`` finds the store for a path or a URL.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Final, Protocol, Self
from uuid import UUID

from ps_protocol.checkpoints.manifest import (
    MANIFEST_FILE,
    CheckpointManifest,
    ManifestError,
    SavedPart,
    decode_manifest,
)
from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError, ResourceExhaustedError, ShardscopeError

DEAD_S: Final = 24 * 3600.0
"""Seconds after which what a save has left behind is surely no longer being written."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_TOO_MANY_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE})

_LOG: Final = logging.getLogger(__name__)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+=@,-]{0,199}", re.ASCII)
_PENDING: Final = re.compile(r"\.(?P<name>[A-Za-z0-9][A-Za-z0-9_.+=@,-]{0,199})\.(?P<save>[0-9a-f]{32})\.tmp", re.ASCII)


class StoreError(OSError):
    """A store that does not answer, or refuses. Its ``strerror`` says what to do, and names no secret."""


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

    def publish(
        self,
        name: str,
        save: UUID,
        tasks: Sequence[str],
        saved_at_s: float,
        step: int | None,
        metrics: Mapping[str, float],
    ) -> int:
        """Makes a checkpoint visible, which has the parts of these ps tasks; returns its size in bytes."""
        ...

    def discard(self, name: str, save: UUID) -> None:
        """Removes a checkpoint that is not visible."""
        ...

    def manifest_bytes(self, name: str) -> bytes:
        """The manifest of a checkpoint; NotFoundError if there is none."""
        ...

    def exists(self, name: str) -> bool:
        """Whether there is a checkpoint of the name."""
        ...

    def open(self, name: str, file: str) -> RangeReader:
        """Opens a part; FileNotFoundError if it is not there."""
        ...

    def names(self) -> list[str]:
        """The checkpoints, oldest first."""
        ...

    def remove(self, name: str) -> None:
        """Removes a checkpoint; does nothing if there is none."""
        ...

    def pin(self, name: str, *, is_pinned: bool) -> None:
        """Says whether a checkpoint stays, whatever retention there is; NotFoundError if there is none."""
        ...

    def is_pinned(self, name: str) -> bool: ...

    def clean(self, before_s: float) -> list[str]:
        """Removes what saves and removals have left behind that has not changed since; returns the names of that.

        Args:
            before_s: A time in seconds since the epoch.
        """
        ...


def is_name(name: str) -> bool:
    """Whether a checkpoint can have the name."""
    return _NAME.fullmatch(name) is not None


def inside_another(path: str) -> FailedPreconditionError:
    """What to raise where a checkpoint is to be saved in the folder of another one, and would be removed with it."""
    return FailedPreconditionError(
        f"{path} is a checkpoint, in which no other one can be saved; give the folder that has it"
    )


def pending_name(name: str, save: UUID) -> str:
    """How a store calls what belongs to a checkpoint that is not visible yet."""
    return f".{name}.{save.hex}.tmp"


def parse_pending(pending: str) -> tuple[str, UUID] | None:
    """The checkpoint and the save that ``pending_name`` was given; None if it has not made it."""
    found = _PENDING.fullmatch(pending)
    return None if found is None else (found["name"], UUID(found["save"]))


def check_name(name: str) -> str:
    """Returns the name of a checkpoint; InvalidArgumentError if it cannot be one."""
    if not is_name(name):
        raise InvalidArgumentError(
            f"{name!r} cannot be the name of a checkpoint: use at most 200 letters, digits and _ . + = @ , - and begin "
            f"with a letter or digit"
        )
    return name


def read_manifest(store: CheckpointStore, name: str) -> CheckpointManifest:
    """Reads the manifest of a checkpoint.

    Raises:
        NotFoundError: There is none of the name.
        FailedPreconditionError: It was changed, or a newer version wrote it.
    """
    return parse_manifest(store.manifest_bytes(name), f"{store.path}/{name}")


def manifest_piece(store: CheckpointStore, name: str, offset: int, most_bytes: int) -> tuple[bytes, int]:
    """Returns some bytes of a manifest from a place on, and the size of it; NotFoundError if there is none."""
    try:
        reader = store.open(name, MANIFEST_FILE)
    except (FileNotFoundError, NotADirectoryError):
        data = store.manifest_bytes(name)  # which says what is missing
        return data[offset : offset + most_bytes], len(data)
    with contextlib.closing(reader):
        piece = bytearray(max(0, min(most_bytes, reader.size_bytes - offset)))
        try:
            reader.read_into(memoryview(piece), offset)
        except EOFError as error:
            raise damaged(f"{store.path}/{name}/{MANIFEST_FILE}", f"it was cut off: {error}") from error
        return bytes(piece), reader.size_bytes


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


def clean_dead(store: CheckpointStore, now_s: float) -> None:
    """Removes what dead saves have left behind, now being so many seconds since the epoch.

    If the store fails, a later save does so: the one that is done is not to blame.
    """
    try:
        removed = store.clean(now_s - DEAD_S)
    except (OSError, ShardscopeError) as error:
        _LOG.warning("what dead saves have left behind in %s stays there: %s", store.path, error)
        return
    if removed:
        _LOG.info("removed what dead saves have left behind in %s: %s", store.path, ", ".join(removed))


@contextlib.contextmanager
def store_errors(who: str, where: Callable[[], str] = str) -> Iterator[None]:
    """Turns a failure of a store into an error that says what to do.

    Args:
        who: Uses it, as "this task".
        where: Returns the folder, if what the system says does not name it.
    """
    try:
        yield
    except StoreError as error:
        raise FailedPreconditionError(
            f"{who} cannot use the object store of the checkpoint, {error.filename}: {error.strerror}. Nothing was "
            f"changed"
        ) from None
    except OSError as error:
        if isinstance(error, ShardscopeError):  # as when a ps does not answer, which is one of a connection too
            raise
        place = f"the folder of the checkpoint {where()}".rstrip()
        named = f" ({error.filename})" if error.filename else ""
        said = f"{who} cannot use {place}: {error.strerror or error}{named}. Nothing was changed; "
        if error.errno in _FULL:
            raise ResourceExhaustedError(f"{said}make room, or give another folder", retryable=False) from error
        if error.errno in _TOO_MANY_FILES:
            raise ResourceExhaustedError(
                f"{said}start the process with a higher limit of open files (ulimit -n)", retryable=False
            ) from error
        raise FailedPreconditionError(f"{said}correct the path or its permissions") from error


def damaged(where: str, what: str) -> FailedPreconditionError:
    """Returns the error for a file of a checkpoint that cannot be used."""
    return FailedPreconditionError(
        f"the file {where} of a checkpoint cannot be used: {what}. Nothing was changed; restore another checkpoint, or "
        f"put back a copy of this one"
    )


def not_shared(path: str, tasks: Sequence[str]) -> FailedPreconditionError:
    """Returns the error for ps tasks that have another folder, or another store, of the same name."""
    if "://" in path:
        why = (
            "the ps tasks do not use the same object store. Give all of their processes the same endpoint and account "
            "in their environment"
        )
    else:
        why = (
            "the ps tasks do not share that folder. Give one that all of them reach under the same path, on a network "
            "file system say"
        )
    return FailedPreconditionError(
        f"what {', '.join(tasks)} {'has' if len(tasks) == 1 else 'have'} written to {path} cannot be seen by ps:0: "
        f"{why}; or save through the client"
    )


def checksum(data: bytes) -> int:
    """CRC-32 of a manifest, by which the ps tasks know that they read the same one."""
    return zlib.crc32(data)
