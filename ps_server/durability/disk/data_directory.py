"""The data directory of one ps task: which task owns it, its format, and a lock against other processes.

DIR/ps-0/lock           held with flock(2) for the life of the process, so that even SIGKILL frees it
DIR/ps-0/format.json    version of the form, task, number of ps tasks, incarnation of the store
DIR/ps-0/journal-*      (``journal``)
DIR/ps-0/snapshots/     (``snapshot_files``)
DIR/ps-0.set-aside/     what an earlier ps-0 had, which is of no use to the task any more
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import platform
import shutil
import stat
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Self
from uuid import UUID, uuid4

from ps_protocol.files.synced_files import (
    NO_ROOM,
    make_private_directory,
    open_private,
    overwrite_file,
    replace_file,
    sync_directory,
)
from ps_protocol.forks import close_in_child
from ps_protocol.task_id import TaskId
from ps_server.durability.disk.held_places import HeldPlaces

_LOG = logging.getLogger(__name__)

FORMAT_VERSION: Final = 1
"""Of the directory as a whole; goes up when an older version could misread it."""

_FORMAT_FILE: Final = "format.json"
_LOCK_FILE: Final = "lock"
_SET_ASIDE: Final = ".set-aside"
_LEAVING: Final = ".leaving"
_NETWORK_FILE_SYSTEMS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre"})


class DataDirectoryError(Exception):
    """What is in a data directory cannot be used; the message says which file, why and what to do."""


class DirectoryInUseError(DataDirectoryError):
    """Another process holds the directory."""


@dataclass(frozen=True, slots=True)
class _Format:
    format: int
    task: str
    ps_tasks: int
    store_incarnation: str


class DataDirectory:
    """One task's directory, held until ``close`` or the end of the process. One thread at a time.

    Made by ``open``.

    Attributes:
        path: Where the task's files are.
        place: The directory and its lock, to notice when they are moved away or replaced.
        is_new: Whether the directory was empty.
    """

    def __init__(self, path: Path, lock: int, form: _Format, *, is_new: bool):
        self.path: Final = path
        self.place: Final = HeldPlaces([path, path / _LOCK_FILE])
        self._lock = lock
        close_in_child(self)  # or the lock would outlive this process
        self._form = form
        self.is_new: Final = is_new

    @classmethod
    def open(cls, root: Path, *, task: TaskId, num_ps: int) -> DataDirectory:
        """Takes a task's directory below ``root``, or makes it.

        Args:
            root: What the operator has given; tasks of one cluster may share it.
            task: Whose it is.
            num_ps: Ps tasks of the cluster; variables are placed by it, so that it must not change.

        Raises:
            DirectoryInUseError: Another process holds it.
            DataDirectoryError: It is another task's or another cluster's, was written by a newer version, is damaged,
                or cannot be written to.
        """
        path = root / f"{task.job}-{task.index}"
        try:
            if not root.exists():
                make_private_directory(root)
            make_private_directory(path)
            _take_from_others(path)
            lock = _locked(path)
        except OSError as error:
            raise DataDirectoryError(
                f"the data directory {path} cannot be used: {error.strerror or error}; {task} needs a directory of a "
                "local disk that it may write to"
            ) from error
        try:
            return cls._opened(path, lock, task, num_ps)
        except OSError as error:
            os.close(lock)
            raise DataDirectoryError(f"the data directory {path} cannot be used: {error.strerror or error}") from error
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def _opened(cls, path: Path, lock: int, task: TaskId, num_ps: int) -> DataDirectory:
        _warn_of_network(path)
        content = _content(path)
        is_new = content is None
        if content is None:
            form = _Format(FORMAT_VERSION, str(task), num_ps, str(uuid4()))
            _write(path, form)
            sync_directory(path.parent)
        else:
            form = _parsed(path, content)
            _check_owner(path, form, task, num_ps)
        return cls(path, lock, form, is_new=is_new)

    @property
    def store_incarnation(self) -> UUID:
        """Identity of the state that is in the directory."""
        return UUID(self._form.store_incarnation)

    def renew_store_incarnation(self) -> UUID:
        """Draws a new incarnation and writes it to disk: the state that will be served lacks acknowledged updates.

        Raises:
            OSError: It could not be written; the old one stays.
        """
        self.adopt_store_incarnation(uuid4())
        return self.store_incarnation

    def adopt_store_incarnation(self, incarnation: UUID) -> None:
        """Writes an incarnation to disk: of a state that comes from another process.

        Raises:
            OSError: It could not be written; the old one stays.
        """
        form = replace(self._form, store_incarnation=str(incarnation))
        try:
            _write(self.path, form)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            # The file is small, and only the incarnation in it changes, which has one length.
            overwrite_file(self.path / _FORMAT_FILE, _encoded(form))
        self._form = form

    @property
    def holds_state(self) -> bool:
        """Whether there are records or snapshots in it."""
        names = [*_names_in(self.path), *_names_in(self.path / "snapshots")]
        return any(name.startswith("journal-") or name.isdecimal() for name in names)

    def set_aside(self, *, keeps: bool) -> Path | None:
        """Moves the directory out of the way and closes it, so that the task gets an empty one.

        Only one is kept: an earlier one is removed.

        Args:
            keeps: Whether somebody may want to read what is in it; else it is removed.

        Returns:
            Where it is now; None if it was removed.

        Raises:
            OSError: It cannot be moved.
        """
        try:
            if keeps:
                self._forget_store()
            aside = self.path.with_name(self.path.name + (_SET_ASIDE if keeps else _LEAVING))
            if aside.exists():
                shutil.rmtree(aside)
            self.path.rename(aside)
            sync_directory(aside.parent)
        finally:
            self.close()
        if keeps:
            return aside
        shutil.rmtree(aside, ignore_errors=True)
        return None

    def _forget_store(self) -> None:
        """Whoever goes on with it all the same goes on with another store: it lacks what came after."""
        try:
            self.renew_store_incarnation()
        except OSError as error:
            _LOG.warning("%s is set aside with the identity of a newer state: %s", self.path, error)

    def remove_what_was_set_aside(self) -> bool:
        """Frees the room of an earlier directory; returns whether there was one."""
        aside = self.path.with_name(self.path.name + _SET_ASIDE)
        if not aside.exists():
            return False
        shutil.rmtree(aside, ignore_errors=True)
        return True

    def close(self) -> None:
        """Releases the lock."""
        if self._lock >= 0:
            lock, self._lock = self._lock, -1
            self.place.close()
            os.close(lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _names_in(path: Path) -> list[str]:
    return [each.name for each in path.iterdir()] if path.is_dir() else []


def _locked(path: Path) -> int:
    """Returns a descriptor that holds the lock."""
    lock = _opened_lock(path / _LOCK_FILE)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(lock, 256, 0).decode("utf-8", "replace").strip() or "another process"
            raise DirectoryInUseError(
                f"the data directory {path} is held by {holder}; end that process first, or give this task another "
                "directory"
            ) from error
        except OSError as error:
            if error.errno in {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}:
                raise DataDirectoryError(
                    f"the file system of {path} has no locks ({error.strerror}), so that two tasks could destroy each "
                    "other's state; use a local disk"
                ) from error
            raise
        with contextlib.suppress(OSError):  # on a full disk; only a message about the lock needs it
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"the process {os.getpid()} on {platform.node()}\n".encode(), 0)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _opened_lock(path: Path) -> int:
    """Opens the file that is locked, which is written to, so it must be no other than it seems."""
    try:
        lock = open_private(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK)
    except OSError as error:
        if error.errno not in {errno.ELOOP, errno.ENXIO, errno.EISDIR}:
            raise
        raise _strange_lock(path) from error
    if not stat.S_ISREG(os.fstat(lock).st_mode):
        os.close(lock)
        raise _strange_lock(path)
    return lock


def _strange_lock(path: Path) -> DataDirectoryError:
    return DataDirectoryError(
        f"{path} is no regular file (a link, perhaps); remove it, and find out who has put it there"
    )


def _take_from_others(path: Path) -> None:
    """Has a directory that an earlier version has made readable for others belong to its user alone."""
    status = path.stat()
    if status.st_mode & 0o077 and status.st_uid == os.geteuid():
        path.chmod(stat.S_IMODE(status.st_mode) & ~0o077)


def _content(path: Path) -> bytes | None:
    """Returns the content of the format file; None if the directory is empty."""
    with contextlib.suppress(FileNotFoundError):
        return (path / _FORMAT_FILE).read_bytes()
    others = sorted(each.name for each in path.iterdir() if each.name != _LOCK_FILE and not each.name.startswith("."))
    if others:
        raise DataDirectoryError(
            f"{path} holds {', '.join(others[:5])}, but no {_FORMAT_FILE}: it is no data directory, or it is damaged; "
            "put the file back, or give the task an empty directory"
        )
    return None


def _parsed(path: Path, content: bytes) -> _Format:
    try:
        fields = json.loads(content)
        version = fields["format"]
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise DataDirectoryError(
                f"{path} was written by a newer version of Shardscope (format {version}; this one knows "
                f"{FORMAT_VERSION}); use that version"
            )
        form = _Format(int(version), fields["task"], int(fields["ps_tasks"]), fields["store_incarnation"])
        TaskId.parse(form.task)
        UUID(form.store_incarnation)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataDirectoryError(
            f"{path / _FORMAT_FILE} is damaged ({error}); put back a copy of it, or give the task an empty directory"
        ) from error
    return form


def _check_owner(path: Path, form: _Format, task: TaskId, num_ps: int) -> None:
    if form.task != str(task):
        raise DataDirectoryError(
            f"{path} holds the state of {form.task}, but this is {task}; start it with the directory that was its own"
        )
    if form.ps_tasks != num_ps:
        raise DataDirectoryError(
            f"{path} belongs to a cluster of {form.ps_tasks} ps tasks, but this one has {num_ps}; its variables are "
            f"spread over those. Start {form.ps_tasks} ps tasks, or use an empty directory"
        )


def _write(path: Path, form: _Format) -> None:
    replace_file(path / _FORMAT_FILE, _encoded(form))


def _encoded(form: _Format) -> bytes:
    return (json.dumps(asdict(form), indent=2) + "\n").encode()


def _warn_of_network(path: Path) -> None:
    kind = _file_system(path)
    if kind in _NETWORK_FILE_SYSTEMS:
        _LOG.warning(
            "the data directory %s is on a network file system (%s), whose locks and syncs may not keep what they "
            "promise when a host or the network fails; use a local disk",
            path,
            kind,
        )


def _file_system(path: Path) -> str:
    """Returns the kind of the file system that a path is on, as /proc/self/mountinfo calls it; empty if not known."""
    resolved, best, kind = path.resolve(), -1, ""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) > 4 and right:
            point = Path(fields[4].replace("\\040", " "))
            # Of several mounts on one point, the last hides the others.
            if len(point.parts) >= best and resolved.is_relative_to(point):
                best, kind = len(point.parts), right.split()[0]
    return kind
