"""Checkpoints in an object store, by a URL that begins with ``s3://``, ``gs://`` or ``az://``.

    PREFIX/NAME/manifest.json                             written last, if it is not there; makes it visible
    PREFIX/NAME/<save>/part-00000-of-00002.safetensors    uploaded in pieces
    PREFIX/.NAME.<save>.tmp/...                           marks, entries of parts and the outcome, until it is visible

Nothing can be renamed there. So a part lies from the beginning where it stays, under the identity of its save: what a
ps task still uploads for a save that was given up gets into no other. Of publishing and giving up, what writes the
object ``outcome`` first counts, so that a task that gives up late removes no part of a visible checkpoint.
"""

from __future__ import annotations

import contextlib
import errno
import threading
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Final, Self
from uuid import UUID

from ps_protocol.checkpoints.bucket import AT_ONCE, Bucket, ObjectHead, connect, side_by_side
from ps_protocol.checkpoints.manifest import (
    BLOCK_BYTES,
    MANIFEST_FILE,
    CheckpointManifest,
    ManifestError,
    SavedPart,
    decode_manifest,
    decode_part,
    encode_manifest,
    encode_part,
)
from ps_protocol.checkpoints.store import (
    CheckpointStore,
    PartWriter,
    RangeReader,
    damaged,
    inside_another,
    is_name,
    not_shared,
    parse_pending,
    pending_name,
    read_manifest,
)
from ps_protocol.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError
from ps_protocol.fault_points import fault_point

UPLOAD_BYTES: Final = 8 * 1024**2
"""Of a part, what is uploaded in one request; more of a part that is so large that it would have too many."""

_MAX_UPLOADS: Final = 9_000
"""Requests for one part; S3 takes 10,000."""

WINDOW_BYTES: Final = 16 * 1024**2
"""What is read at once of a part that is read on and on."""

_WINDOWS_BYTES: Final = 64 * 1024**2
"""What is kept at most of all parts that are open, read and not used yet."""

_PIN: Final = "pinned"
_OUTCOME: Final = "outcome"
_PUBLISHED: Final = b"published"
_GIVEN_UP: Final = b"given up"


def open_objects(scheme: str, bucket: str, prefix: str) -> CheckpointStore:
    """Returns the store under a prefix of a bucket; nothing is asked of it yet.

    Raises:
        FailedPreconditionError: What the environment says of the endpoint or the credentials cannot be right.
    """
    url = f"{scheme}://{bucket}" + (f"/{prefix}" if prefix else "")
    return ObjectStore(connect(scheme, bucket, url), prefix)


class ObjectStore(CheckpointStore):
    """Checkpoints under one prefix of a bucket. Thread-safe.

    Args:
        bucket: The bucket; its ``url`` has the prefix.
        prefix: Of all keys; may be empty.
    """

    def __init__(self, bucket: Bucket, prefix: str):
        self._bucket: Final = bucket
        self._prefix: Final = prefix
        self._begun: set[UUID] = set()
        self._open = _OpenReaders()

    @property
    def path(self) -> str:
        return self._bucket.url

    # -- saving -------------------------------------------------------------------------------

    def begin(self, name: str, save: UUID, mark: str) -> Sequence[str]:
        if self.exists(name):
            raise self._taken(name, "already; give the new one another name or step, or remove the old one")
        if self._bucket.head(self._key(MANIFEST_FILE)) is not None:
            raise inside_another(self.path)
        self._bucket.put(f"{self._pending(name, save)}/mark-{mark}", b"")
        self._begun.add(save)
        marks = [_last(each.key) for each in self._bucket.list_in(self._pending(name, save))]
        return sorted([each.removeprefix("mark-") for each in marks if each.startswith("mark-")])

    def part_writer(self, name: str, save: UUID, file: str, size_bytes: int) -> PartWriter:
        return _ObjectWriter(self._bucket, f"{self._parts_of(name, save)}/{file}", size_bytes)

    def note_part(self, name: str, save: UUID, part: SavedPart) -> None:
        self._bucket.put(f"{self._pending(name, save)}/{part.file}.json", encode_part(part))

    def publish(
        self,
        name: str,
        save: UUID,
        tasks: Sequence[str],
        saved_at_s: float,
        step: int | None,
        metrics: Mapping[str, float],
    ) -> int:
        if self.exists(name):
            return self._published(name, save)
        if not self._settle(name, save, _PUBLISHED):
            raise FailedPreconditionError(f"the save of {self.path}/{name} was given up meanwhile; save again")
        try:
            parts = self._parts(name, save, tasks)
        except FailedPreconditionError:
            if self.exists(name):  # the call was repeated, and the first one is done
                return self._published(name, save)
            self._drop(name, save)
            raise
        manifest = CheckpointManifest(name, save, saved_at_s, tuple(parts), step, metrics)
        # Names that no store refuses, nor a proxy on the way.
        attributes = {"save": save.hex, "savedat": f"{saved_at_s:.6f}"}
        fault_point("checkpoint.before_visible")
        if not self._bucket.create(self._manifest(name), encode_manifest(manifest), attributes):
            try:
                return self._published(name, save)
            except AlreadyExistsError:
                self._drop(name, save)
                raise
        fault_point("checkpoint.visible")
        self._delete_in(self._pending(name, save))
        return manifest.size_bytes

    def _published(self, name: str, save: UUID) -> int:
        """The size of a visible checkpoint, if this save has made it."""
        manifest = read_manifest(self, name)
        if manifest.save != save:
            raise self._taken(name, "already, made meanwhile")
        return manifest.size_bytes

    def _taken(self, name: str, why: str) -> AlreadyExistsError:
        return AlreadyExistsError(f"there is a checkpoint {name} in {self.path} {why}")

    def _parts(self, name: str, save: UUID, tasks: Sequence[str]) -> list[SavedPart]:
        entries = [each.key for each in self._bucket.list_in(self._pending(name, save)) if each.key.endswith(".json")]
        parts = {part.task: part for part in side_by_side(self._read_part, entries)}
        sizes = {each.key: each.size_bytes for each in self._bucket.list_in(self._parts_of(name, save))}
        for task in tasks:
            part = parts.get(task)
            if part is None or sizes.get(f"{self._parts_of(name, save)}/{part.file}") != part.size_bytes:
                raise not_shared(self.path, [task])
        return [replace(parts[task], file=f"{save.hex}/{parts[task].file}") for task in tasks]

    def _read_part(self, key: str) -> SavedPart:
        try:
            return decode_part(self._bucket.get(key))
        except ManifestError as error:
            raise damaged(f"{self.path}/{_last(key)}", str(error)) from error

    def discard(self, name: str, save: UUID) -> None:
        if save not in self._begun or self._bucket.is_silent:  # there is nothing, or it is left to ``clean``
            return
        with contextlib.suppress(OSError):
            if self._saved_by(name) != save and self._settle(name, save, _GIVEN_UP):
                self._drop(name, save)

    def _settle(self, name: str, save: UUID, outcome: bytes) -> bool:
        """Whether a save has this outcome; the one that was settled first counts."""
        key = f"{self._pending(name, save)}/{_OUTCOME}"
        try:
            return self._bucket.create(key, outcome) or self._bucket.get(key) == outcome
        except FileNotFoundError:  # it was removed in between: the other one is through
            return False

    def _drop(self, name: str, save: UUID) -> None:
        self._delete_in(self._parts_of(name, save))
        self._delete_in(self._pending(name, save))  # last, since ``clean`` finds by it what is left

    # -- what is there ------------------------------------------------------------------------

    def manifest_bytes(self, name: str) -> bytes:
        try:
            return self._bucket.get(self._manifest(name))
        except FileNotFoundError as error:
            raise self._no_checkpoint(name) from error

    def exists(self, name: str) -> bool:
        return self._bucket.head(self._manifest(name)) is not None

    def open(self, name: str, file: str) -> RangeReader:
        key = self._key(name, file)
        head = self._bucket.head(key)
        if head is None:
            raise FileNotFoundError(errno.ENOENT, "there is no such object", f"{self.path}/{name}/{file}")
        return _ObjectReader(self._bucket, head, self._open)

    def names(self) -> list[str]:
        found = [name for name in self._bucket.folders_in(self._prefix) if is_name(name)]
        heads = side_by_side(self._bucket.head, [self._manifest(name) for name in found])
        order = {name: _order(head) for name, head in zip(found, heads, strict=True) if head is not None}
        return sorted(order, key=lambda name: (*order[name], name))

    def is_pinned(self, name: str) -> bool:
        return self._bucket.head(self._key(name, _PIN)) is not None

    def pin(self, name: str, *, is_pinned: bool) -> None:
        if not self.exists(name):
            raise self._no_checkpoint(name)
        if is_pinned:
            self._bucket.put(self._key(name, _PIN), b"")
            if not self.exists(name):  # it was removed at this very moment
                self._bucket.delete([self._key(name, _PIN)])
                raise self._no_checkpoint(name)
        else:
            self._bucket.delete([self._key(name, _PIN)])

    def _no_checkpoint(self, name: str) -> NotFoundError:
        return NotFoundError(f"there is no checkpoint {name} in {self.path}: it has no {MANIFEST_FILE}")

    # -- removing -----------------------------------------------------------------------------

    def remove(self, name: str) -> None:
        try:
            manifest = decode_manifest(self.manifest_bytes(name))
        except ManifestError:  # it does not say what belongs to it
            self._delete_in(self._key(name))
            return
        except NotFoundError:
            return
        pending = self._pending(name, manifest.save)
        self._bucket.put(f"{pending}/removed", b"")  # by it ``clean`` finds what a crash leaves
        self._bucket.delete([self._manifest(name)])  # first, so that what is left looks like no checkpoint
        fault_point("checkpoint.removing")
        self._bucket.delete([self._key(name, file) for file in [*[each.file for each in manifest.parts], _PIN]])
        self._delete_in(pending)

    def clean(self, before_s: float) -> list[str]:
        cleaned = []
        for pending in self._bucket.folders_in(self._prefix):
            found = parse_pending(pending)
            if found is None:
                continue
            name, save = found
            objects = self._bucket.list_in(self._pending(name, save)) + self._bucket.list_in(self._parts_of(name, save))
            if max([each.changed_s for each in objects], default=before_s) >= before_s:
                continue
            if self._saved_by(name) == save:
                self._delete_in(self._pending(name, save))
            else:
                self._settle(name, save, _GIVEN_UP)
                self._drop(name, save)
            cleaned.append(pending)
        return sorted(cleaned)

    def _saved_by(self, name: str) -> UUID | None:
        """The save that has made a visible checkpoint."""
        head = self._bucket.head(self._manifest(name))
        if head is None:
            return None
        save = head.attributes.get("save")
        return read_manifest(self, name).save if save is None else UUID(save)

    def _delete_in(self, folder: str) -> None:
        self._bucket.delete([each.key for each in self._bucket.list_in(folder)])

    # -- keys ---------------------------------------------------------------------------------

    def _key(self, *names: str) -> str:
        return "/".join([*([self._prefix] if self._prefix else []), *names])

    def _manifest(self, name: str) -> str:
        return self._key(name, MANIFEST_FILE)

    def _parts_of(self, name: str, save: UUID) -> str:
        return self._key(name, save.hex)

    def _pending(self, name: str, save: UUID) -> str:
        return self._key(pending_name(name, save))


class _ObjectWriter(PartWriter):
    """Uploads an object in pieces, of which a few are in memory. One thread."""

    def __init__(self, bucket: Bucket, key: str, size_bytes: int):
        self._upload = bucket.upload(key, max(UPLOAD_BYTES, -(-size_bytes // _MAX_UPLOADS)))

    def write(self, data: memoryview | bytes, crc: int = 0) -> int:
        self._upload.write(bytes(data))  # kept until it was sent, when the caller's may have changed
        return zlib.crc32(data, crc)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        if error is None:
            self._upload.close()
        else:
            self._upload.give_up(error)


class _OpenReaders:
    """Counts readers, which share what may be kept. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards: _number
        self._number = 0

    def add(self, number: int) -> None:
        with self._lock:
            self._number += number

    @property
    def window_bytes(self) -> int:
        """What each may read ahead."""
        return min(WINDOW_BYTES, _WINDOWS_BYTES // max(1, self._number))


class _ObjectReader(RangeReader):
    """Reads ranges of an object, and ahead when one follows the other. Thread-safe."""

    def __init__(self, bucket: Bucket, head: ObjectHead, readers: _OpenReaders):
        self._bucket = bucket
        self._head = head
        self._readers = readers
        self._lock = threading.Lock()  # guards: all below, and held while it reads; each part has a lock of its own
        self._is_open = True
        self._first = 0  # where the window begins
        self._window = memoryview(b"")
        self._next = -1  # where the last read has ended
        readers.add(1)

    @property
    def size_bytes(self) -> int:
        return self._head.size_bytes

    def read_into(self, target: memoryview, offset: int) -> int:
        with self._lock:
            follows = offset == self._next
            done = 0
            while done < len(target):
                skipped = offset + done - self._first
                if not 0 <= skipped < len(self._window):
                    self._read(offset + done, len(target) - done, follows)
                    skipped = 0
                piece = self._window[skipped : skipped + len(target) - done]
                target[done : done + len(piece)] = piece
                done += len(piece)
            self._next = offset + done
        return zlib.crc32(target)

    def _read(self, offset: int, size_bytes: int, follows: bool) -> None:
        """Reads the next window, in a few requests side by side."""
        wanted = max(min(size_bytes, WINDOW_BYTES), self._readers.window_bytes if follows else 0)
        end = min(offset + wanted, self.size_bytes)
        if end <= offset:
            raise EOFError(f"the object ends at byte {self.size_bytes}")
        self._window = memoryview(b"")  # so that there are never two
        window = bytearray(end - offset)

        def read(start: int) -> None:
            length = min(BLOCK_BYTES, end - start)
            piece = self._bucket.get_range(self._head.key, start, length)
            if len(piece) != length:
                raise EOFError(f"the object ends at byte {start + len(piece)}")
            window[start - offset : start - offset + length] = piece

        starts = range(offset, end, BLOCK_BYTES)
        if len(starts) == 1:
            read(offset)
        else:
            with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="objects") as pool:
                list(pool.map(read, starts))
        self._first, self._window = offset, memoryview(window)

    def close(self) -> None:
        with self._lock:
            if self._is_open:
                self._is_open, self._window = False, memoryview(b"")
                self._readers.add(-1)


def _order(manifest: ObjectHead) -> tuple[int, float]:
    """What tells older checkpoints from newer ones. Stores say in which second an object was written, not more."""
    try:
        saved_at_s = float(manifest.attributes.get("savedat", 0))
    except ValueError:
        saved_at_s = 0.0
    return int(manifest.changed_s), saved_at_s


def _last(key: str) -> str:
    return key.rpartition("/")[2]
