"""A coordination store in a directory, for processes of one machine. There is no process to run, and no lock to hold.

DIRECTORY/NAMESPACE/store.json                  identity of the store; made once, as a whole
DIRECTORY/NAMESPACE/KEY/00001764427000000001    the value that has this revision, with its checksum
DIRECTORY/NAMESPACE/KEY/.00001764427000000002.* drafts of the next one

A value is written to a draft, synced, and linked to the name of its revision, which succeeds for one process alone:
this is the compare-and-set. The next revision is always one more, and the greatest name counts. A process that is
killed or stopped at any instruction holds up nobody and leaves nothing half done, which a lock (of a file or of a
database) could not promise: the one who holds it may be stopped.

Old revisions are deleted by whoever writes a new one, which frees their names. A writer that was stopped for long must
not take such a name. So the writer looks for the newest revision once more *after* it has made its draft, and who
deletes a revision first deletes all drafts for it: a draft that was made before the name was used is gone when the name
is free, and one that was made later sees the newer revision.

All revisions of a store are greater than the time in microseconds at which it was made, so that they do not come again
in a store that was made in its place. A process that has used one store refuses another one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import stat
import threading
import time
import urllib.parse
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from ps_protocol.errors import UnavailableError
from ps_server.coordination.store import BEGIN_AGAIN, MAX_VALUE_BYTES, Entry, check_key, check_value, unavailable

_LOG = logging.getLogger(__name__)

_FORMAT: Final = 1
_STORE_FILE: Final = "store.json"
_POLL_S: Final = 0.05
_MAX_FILE_BYTES: Final = 2 * MAX_VALUE_BYTES
_REVISION: Final = re.compile(r"[0-9]{20}", re.ASCII)
_DRAFT: Final = re.compile(r"\.([0-9]{20})\.[0-9a-f]{32}", re.ASCII)
_REMOVE_AND_BEGIN_AGAIN: Final = (
    "If that cannot be, end all processes that use it, remove its directory, and start them again: they begin without "
    "their variables"
)
_HEAD: Final = re.compile(rb"shardscope coordination 1, checksum ([0-9a-f]{8})\n")
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH

_REMEDIES: Final = {
    errno.ENOSPC: "free some of the disk",
    errno.EDQUOT: "free some of the disk, or raise the quota",
    errno.ELOOP: "it follows no links; put a directory and plain files in their place",
    errno.ENOTDIR: "put a directory in its place",
    errno.EROFS: "mount the disk so that it may be written to",
    errno.EACCES: "give the user of the ps tasks the right to read and write there",
    errno.EPERM: "use a local file system that has hard links, such as ext4, xfs or tmpfs",
    errno.EOPNOTSUPP: "use a local file system that has hard links, such as ext4, xfs or tmpfs",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files of the machine (fs.file-max)",
    errno.EIO: "the disk fails; see the log of the kernel",
}


class _UnusableError(Exception):
    """What is in the directory cannot be used: why, and what to do."""

    def __init__(self, why: str, remedy: str):
        super().__init__(why)
        self.why = why
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class _Identity:
    """Content of ``store.json``.

    Attributes:
        format: Version of the form of the directory.
        store: Drawn when the store was made.
        base: Below every revision of the store.
    """

    format: int
    store: str
    base: int


class FileStore:
    """A ``CoordinationStore`` in a directory. The directory is made at the first call if it is not there.

    Nothing stays open between two calls, so that it goes on after a disk was away, and in a forked child.

    Args:
        directory: Of a local disk. Processes of one user share it.
        namespace: Name of the directory in it that has the keys.
    """

    def __init__(self, directory: Path, namespace: str):
        self.name = f"the coordination store at {directory.absolute().as_uri()}"
        self._directory = directory
        self._place = directory / namespace
        self._closed = threading.Event()
        self._lock = threading.Lock()  # guards: _identity, _seen
        self._identity: _Identity | None = None
        self._seen: dict[str, int] = {}

    def read(self, key: str, *, timeout_s: float) -> Entry | None:
        deadline_s = time.monotonic() + timeout_s
        folder_name = _folder_name(check_key(key))
        with self._errors(f"read {key!r}"), self._opened() as (place, _), _folder(place, folder_name) as folder:
            return self._newest(key, folder, deadline_s)

    def compare_and_set(self, key: str, value: bytes, *, revision: int, timeout_s: float) -> tuple[bool, Entry | None]:
        deadline_s = time.monotonic() + timeout_s
        folder_name = _folder_name(check_key(key))
        check_value(key, value)
        with self._errors(f"write {key!r}"), self._opened() as (place, identity):
            with self._lock:
                is_new = key not in self._seen
            if revision == 0 and is_new:
                _make_folder(place, folder_name)
            with _folder(place, folder_name) as folder:
                before = self._newest(key, folder, deadline_s)
                if (before.revision if before else 0) != revision:
                    return False, before
                if folder < 0:
                    raise _removed()
                entry = Entry(value, (revision or identity.base) + 1)
                if _put(folder, revision, entry, _content(identity, key, entry)):
                    with self._errors(f"say whether it wrote {key!r}"):
                        self._saw(key, folder, entry.revision)
                    _delete_before(folder, entry.revision)
                    return True, entry
                now = self._newest(key, folder, deadline_s)
                if now is None or now.revision == revision:
                    raise _UnusableError("its files are being removed", "stop what removes them")
                return False, now

    def watch(self, key: str, *, revision: int, timeout_s: float) -> Entry | None:
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                entry = self.read(key, timeout_s=deadline_s - time.monotonic())
            except UnavailableError:
                if time.monotonic() >= deadline_s or self._closed.is_set():
                    raise
            else:
                if (entry.revision if entry else 0) != revision or time.monotonic() >= deadline_s:
                    return entry
            self._closed.wait(min(_POLL_S, max(deadline_s - time.monotonic(), 0)))

    def close(self) -> None:
        self._closed.set()

    @contextlib.contextmanager
    def _errors(self, task: str) -> Iterator[None]:
        """Says of errors what the store did not do, and what to do."""
        try:
            yield
        except _UnusableError as error:
            raise unavailable(self.name, task, error.why, error.remedy) from error
        except FileNotFoundError as error:
            raise unavailable(self.name, task, _removed().why, _removed().remedy) from error
        except OSError as error:
            remedy = _REMEDIES.get(error.errno or 0, "look whether its disk is there and works")
            raise unavailable(self.name, task, error.strerror or str(error), remedy) from error

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[int, _Identity]]:
        """Gives a descriptor of the directory, which is the one that was used before, and still is at the end."""
        if self._closed.is_set():
            raise _UnusableError("it was closed", "open it again")
        with self._lock:
            known = self._identity
        if known is None:
            self._make()
        try:
            place = os.open(self._place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise _removed() from error
        try:
            identity = _read_identity(place)
            with self._lock:
                known = self._identity = self._identity or identity
            if identity != known:
                raise _UnusableError(
                    "its directory was removed, and another store is in its place",
                    f"put the directory back. {BEGIN_AGAIN}",
                )
            yield place, identity
            if not _is_at(place, self._place):
                raise _removed()
        finally:
            os.close(place)

    def _make(self) -> None:
        """Makes the directories and the store's identity, unless they are there.

        They are synced in any case: the process that made them may have been killed before it could.
        """
        for directory in (self._directory, self._place):
            with contextlib.suppress(FileExistsError):
                directory.mkdir(mode=0o700, parents=True)
            _sync(directory.parent)
            mode = directory.stat().st_mode
            if mode & _OTHERS_MAY_WRITE:
                raise _UnusableError(
                    f"other users may write to {directory} (mode {stat.S_IMODE(mode):o})",
                    "give a directory of the ps tasks' user alone, or chmod it to 700",
                )
        place = os.open(self._place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            names = _names(place)
            if _STORE_FILE not in names:
                self._make_identity(place, names)
            os.fsync(place)
        finally:
            os.close(place)

    def _make_identity(self, place: int, names: list[str]) -> None:
        folders = sorted(name for name in names if not name.startswith("."))
        if folders:
            raise _UnusableError(
                f"{self._place} holds {', '.join(folders[:5])}, but no {_STORE_FILE}",
                "give an empty directory; or, if it was removed by mistake, put the file back",
            )
        identity = _Identity(_FORMAT, str(uuid4()), time.time_ns() // 1000)
        draft = f".{uuid4().hex}"
        try:
            _write(place, draft, (json.dumps(asdict(identity)) + "\n").encode())
            with contextlib.suppress(FileExistsError):  # another process was faster; it is its store then
                os.link(draft, _STORE_FILE, src_dir_fd=place, dst_dir_fd=place, follow_symlinks=False)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=place)

    def _newest(self, key: str, folder: int, deadline_s: float) -> Entry | None:
        """Returns what a key holds, once it is on disk."""
        with self._lock:
            seen = self._seen.get(key, 0)
            identity = self._identity
        assert identity is not None
        while True:
            revision = _newest_revision(folder)
            if revision < seen:
                raise _UnusableError(
                    f"revision {seen} of {key!r} was there, and now the newest is {revision or 'gone'}",
                    f"put its files back. {_REMOVE_AND_BEGIN_AGAIN}",
                )
            if not revision:
                return None
            try:
                content = _read(folder, f"{revision:020}")
            except FileNotFoundError:  # there have been newer ones since
                if time.monotonic() >= deadline_s:
                    raise _UnusableError("it changes too fast", "use it for less") from None
                continue
            self._saw(key, folder, revision)
            return _parsed(content, identity, key, revision)

    def _saw(self, key: str, folder: int, revision: int) -> None:
        """Notes a revision once its name is on disk: until then, a loss of power may take it back."""
        with self._lock:
            is_new = revision > self._seen.get(key, 0)
        if is_new:
            os.fsync(folder)
            with self._lock:
                self._seen[key] = max(revision, self._seen.get(key, 0))


def _removed() -> _UnusableError:
    return _UnusableError(
        "its directory was removed or moved, or its disk is not mounted",
        f"put the directory back. {BEGIN_AGAIN}",
    )


def _folder_name(key: str) -> str:
    return urllib.parse.quote(key, safe="")


def _make_folder(place: int, name: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=place)
    os.fsync(place)  # in any case: who made it may have been killed before it could


@contextlib.contextmanager
def _folder(place: int, name: str) -> Iterator[int]:
    """Gives a descriptor of the directory of a key; -1 if the key was never written."""
    try:
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
    except FileNotFoundError:
        yield -1
        return
    try:
        yield folder
    finally:
        os.close(folder)


def _newest_revision(folder: int) -> int:
    """Returns the greatest revision; 0 if there is none. Linux lists so few names in one step."""
    names = _names(folder) if folder >= 0 else []
    return max((int(name) for name in names if _REVISION.fullmatch(name)), default=0)


def _names(directory: int) -> list[str]:
    return os.listdir(directory)


def _put(folder: int, revision: int, entry: Entry, content: bytes) -> bool:
    """Writes an entry if it is the next one after ``revision``; returns whether it is there now."""
    draft = f".{entry.revision:020}.{uuid4().hex}"
    try:
        _write(folder, draft, content)
        if _newest_revision(folder) != revision:
            return False
        try:
            os.link(draft, f"{entry.revision:020}", src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except (FileExistsError, FileNotFoundError):  # another one was faster, and may have deleted the draft
            return False
        return True
    finally:
        with contextlib.suppress(OSError):  # else whoever writes the next revision deletes it
            os.unlink(draft, dir_fd=folder)


def _delete_before(folder: int, newest: int) -> None:
    """Deletes drafts up to a revision, and then revisions before it but for one, which may be just being read."""
    try:
        names = _names(folder)
        drafts = [name for name in names if (match := _DRAFT.fullmatch(name)) and int(match[1]) <= newest]
        revisions = [name for name in names if _REVISION.fullmatch(name) and int(name) < newest - 1]
        for name in (*drafts, *sorted(revisions)):
            with contextlib.suppress(FileNotFoundError):  # others delete too
                os.unlink(name, dir_fd=folder)
    except OSError as error:
        _LOG.warning("old revisions of a coordination store could not be deleted: %s", error)


def _content(identity: _Identity, key: str, entry: Entry) -> bytes:
    checksum = _checksum(identity, key, entry.revision, entry.value)
    return b"shardscope coordination 1, checksum %08x\n" % checksum + entry.value


def _parsed(content: bytes, identity: _Identity, key: str, revision: int) -> Entry:
    head = _HEAD.match(content)
    value = content[head.end() :] if head else b""
    if head is None or int(head[1], 16) != _checksum(identity, key, revision, value):
        raise _UnusableError(
            f"revision {revision} of {key!r} is damaged, or was written to another store",
            f"put a copy of its directory back. {_REMOVE_AND_BEGIN_AGAIN}",
        )
    return Entry(value, revision)


def _checksum(identity: _Identity, key: str, revision: int, value: bytes) -> int:
    return zlib.crc32(value, zlib.crc32(f"{identity.store} {key} {revision} ".encode()))


def _read_identity(place: int) -> _Identity:
    try:
        fields = json.loads(_read(place, _STORE_FILE))
        identity = _Identity(int(fields["format"]), str(UUID(fields["store"])), int(fields["base"]))
    except FileNotFoundError as error:
        raise _removed() from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _UnusableError(
            f"its file {_STORE_FILE} is damaged ({error})",
            f"put a copy of it back. {_REMOVE_AND_BEGIN_AGAIN}",
        ) from error
    if identity.format != _FORMAT:
        raise _UnusableError(
            f"it was made by another version of Shardscope (format {identity.format}; this one knows {_FORMAT})",
            "use that version",
        )
    return identity


def _write(directory: int, name: str, content: bytes) -> None:
    """Writes a new file, and syncs it."""
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(file, view) :]
        os.fsync(file)
    finally:
        os.close(file)


def _read(directory: int, name: str) -> bytes:
    # A pipe in the place of a file must not hold up anyone.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.open(name, flags, dir_fd=directory)
    try:
        content = b""
        while len(content) <= _MAX_FILE_BYTES and (piece := os.read(file, _MAX_FILE_BYTES)):
            content += piece
        return content
    finally:
        os.close(file)


def _is_at(directory: int, path: Path) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(directory))


def _sync(path: Path) -> None:
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # then it was not this user who made something in it
        return
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
