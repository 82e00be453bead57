"""The journal of a ps task: every change of its state, on disk before it is acknowledged.

Records are kept in files named after the first record in each (``file``, ``reader``). A new file begins with every
start of the process and after every snapshot. So what a snapshot covers is deleted file by file, and a file that was
read after a restart is never written to.

A record that was being written when the process or the machine stopped was never acknowledged, and is dropped. To tell
it from lost acknowledged records, the position of the newest acknowledged record is written to a small file, without a
sync: after a crash of the process it is right, after a crash of the machine it may be older.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ps_protocol.fault_points import fault_point
from ps_protocol.files import synced_files
from ps_server.durability.disk.held_places import DisplacedError, HeldPlaces
from ps_server.durability.journal import reader as journal_reader
from ps_server.durability.journal.acknowledged_mark import AcknowledgedMark
from ps_server.durability.journal.file import SUFFIXES, JournalFile
from ps_server.durability.journal.reader import CorruptJournalError
from ps_server.log.commit_log import SinkUnavailableError
from ps_server.log.records import LoggedRecord

__all__ = ["CorruptJournalError", "Journal", "SinkUnavailableError"]

_NAME: Final = re.compile(r"journal-([0-9]{20})\.sqlite", re.ASCII)
_DROPPED: Final = ".dropped"


class Journal:
    """Keeps records on disk, in their order. A ``RecordSink``.

    One thread writes, another may begin new files and drop old ones; ``start_new_file`` never waits for a disk. The
    directory must be held by the process (``data_directory``).
    """

    def __init__(
        self,
        directory: Path,
        *,
        last_position: int,
        firsts: Sequence[int],
        mark: AcknowledgedMark,
        place: HeldPlaces | None,
    ):
        self._directory = directory
        self._mark = mark
        self._place = place
        self._rotate_after = -1  # set by start_new_file alone: a file with records up to it takes none after it
        # guards: all below; held while records are written; no other lock is taken under it
        self._lock = threading.Lock()
        self._last_position = last_position
        self._firsts = list(firsts)  # of the files there are, ascending
        self._current: JournalFile | None = None  # the newest of them, if this process has made it
        self._is_closed = False

    @classmethod
    def open(cls, directory: Path, *, after: int, place: HeldPlaces | None = None) -> Journal:
        """Opens the journal in a directory, or begins one; its records do not change before the first write.

        Args:
            directory: Made if it does not exist.
            after: Position of the state that the records are replayed on: of a snapshot, or 0.
            place: What has to stay where it is for as long as records are kept, beside the journal's own files.

        Raises:
            CorruptJournalError: Acknowledged records after ``after`` are missing, or a file cannot be read.
            OSError: The directory cannot be used.
        """
        synced_files.make_private_directory(directory)
        mark = AcknowledgedMark(directory / "acknowledged")
        try:
            firsts = sorted(int(match[1]) for path in directory.iterdir() if (match := _NAME.fullmatch(path.name)))
            last = _checked_end(directory, firsts, after, mark.position)
            for first in firsts:
                # What was read may be in the page cache only. Replayed records count as acknowledged, so sync them.
                journal_reader.force_out(_path(directory, first))
            _remove_leftovers(directory)
            mark.write(mark.position)
            synced_files.sync_directory(directory)
        except BaseException:
            mark.close()
            raise
        return cls(directory, last_position=last, firsts=firsts, mark=mark, place=place)

    @property
    def name(self) -> str:
        return f"the journal in {self._directory}"

    @property
    def is_quick(self) -> bool:
        return False

    @property
    def last_position(self) -> int:
        """Position of the newest record, or of the snapshot if that is newer."""
        return self._last_position

    @property
    def was_absent(self) -> bool:
        """Whether the directory had no journal before, so that clients may know of updates after the snapshot."""
        return self._mark.was_absent

    @property
    def size_bytes(self) -> int:
        """Bytes on disk, of all files that can be found now."""
        size_bytes = 0
        with (
            contextlib.suppress(OSError),
            os.scandir(self._directory) as entries,
        ):  # it was moved, no descriptor is left
            for entry in entries:
                if entry.name.startswith("journal-"):
                    with contextlib.suppress(FileNotFoundError):
                        size_bytes += entry.stat().st_size
        return size_bytes

    def replay(self, after: int) -> Iterator[LoggedRecord]:
        """Returns all records after a position, in order and without gaps, each checked, one in memory at a time.

        Must run to its end before anything is written.

        Raises:
            CorruptJournalError: A record is damaged or missing.
        """
        if self._current is not None:
            raise RuntimeError("the journal is being written to; replay it before")
        expected = after + 1
        for first, following in itertools.pairwise([*self._firsts, self._last_position + 1]):
            if following <= expected:
                continue
            path = _path(self._directory, first)
            for logged in journal_reader.read_records(path, expected - 1):
                yield logged
                expected = logged.position + 1
            if expected != following:
                journal_reader.refuse(path, expected, f"it is missing, and so are those up to {following - 1}")

    def write(self, records: Sequence[LoggedRecord]) -> None:
        with self._lock:
            if self._is_closed:
                raise RuntimeError(f"{self.name} is closed")
            # Records that come again after an error may be in a file that has been closed since.
            waiting = [logged for logged in records if logged.position > self._last_position]
            while waiting:
                self._leave_covered_file()
                boundary = self._rotate_after
                count = boundary - self._last_position if boundary > self._last_position else len(waiting)
                self._append(waiting[:count])
                del waiting[:count]
            self._check_place()
            self._mark.write(self._last_position)

    def begin_after(self, position: int) -> None:
        """Has a journal that has no record yet begin after a position: of a snapshot that came from elsewhere."""
        with self._lock:
            if self._last_position:
                raise RuntimeError(f"{self.name} has records up to {self._last_position} already")
            self._last_position = position
            self._mark.write(position)

    def start_new_file(self, position: int) -> None:
        """From here on writes records after a position, as far as they are not written yet, to a new file.

        Never waits; the file is made when there is a record for it.
        """
        self._rotate_after = position

    def drop_before(self, position: int) -> None:
        """Deletes the files that hold no record after ``position``, which a snapshot covers that is on disk.

        Raises:
            OSError: A file cannot be deleted now; the next start deletes it.
        """
        with self._lock:
            self._leave_covered_file()
            end = [] if self._current is not None else [self._last_position + 1]
            known = itertools.pairwise([*self._firsts, *end])
            for first in [first for first, following in known if following <= position + 1]:
                # Renamed under the lock, deleted without it: deleting large files takes time.
                _set_aside(_path(self._directory, first))
                self._firsts.remove(first)
        fault_point("journal.drop")
        for path in self._directory.glob(f"journal-*{_DROPPED}"):
            path.unlink(missing_ok=True)
        synced_files.sync_directory(self._directory)

    def close(self) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._leave_file()
            self._mark.close()

    # -- under the lock -----------------------------------------------------------------------

    def _append(self, records: Sequence[LoggedRecord]) -> None:
        first, last = records[0].position, records[-1].position
        if first != self._last_position + 1 or last != first + len(records) - 1:
            raise RuntimeError(
                f"records {first} to {last} ({len(records)} of them) were given to {self.name}, "
                f"which needs {self._last_position + 1} next"
            )
        if self._current is None:
            self._begin_file(first)
        assert self._current is not None
        self._current.append(records)
        fault_point("journal.after_commit")
        self._last_position = last

    def _check_place(self) -> None:
        """Makes sure that what was written is where the next start looks for it; else nothing is acknowledged."""
        try:
            if self._place is not None:
                self._place.check()
            if self._current is not None:
                self._current.check_place()
        except DisplacedError as error:
            raise SinkUnavailableError(str(error)) from error

    def _begin_file(self, first: int) -> None:
        self._check_place()  # or a file would be made in another directory
        if first in self._firsts:  # it has no record, and is replaced
            self._firsts.remove(first)
        fault_point("journal.new_file")
        try:
            self._current = JournalFile.create(_path(self._directory, first))
        except FileNotFoundError:
            self._check_place()  # the directory may have been moved away just now
            raise
        self._firsts.append(first)

    def _leave_covered_file(self) -> None:
        if self._current is not None and self._firsts[-1] <= self._rotate_after <= self._last_position:
            self._leave_file()

    def _leave_file(self) -> None:
        if self._current is not None:
            current, self._current = self._current, None
            current.close()


def _path(directory: Path, first: int) -> Path:
    return directory / f"journal-{first:020}.sqlite"


def _checked_end(directory: Path, firsts: Sequence[int], after: int, acknowledged: int) -> int:
    """Checks that no record after ``after`` is missing; returns where the journal ends."""
    last = 0
    for first in firsts:
        path = _path(directory, first)
        if first > max(last, after) + 1:
            journal_reader.refuse(path, max(last, after) + 1, f"it is missing, and so are those up to {first - 1}")
        found = journal_reader.last_position(path, first)
        if found is not None:
            last = found
    if max(last, after) < acknowledged:
        path = _path(directory, firsts[-1]) if firsts else directory / "journal-*"
        journal_reader.refuse(
            path, max(last, after) + 1, f"all up to {acknowledged} were acknowledged, and it is missing"
        )
    return max(last, after)


def _set_aside(path: Path) -> None:
    """Renames a journal file to be deleted; the database first, since the rest is useless without it."""
    for suffix in SUFFIXES:
        part = path.with_suffix(suffix)
        with contextlib.suppress(FileNotFoundError):
            part.rename(part.with_name(part.name + _DROPPED))
            fault_point("journal.set_aside")


def _remove_leftovers(directory: Path) -> None:
    """Deletes files that were set aside, that were not completed, and parts whose database is gone."""
    for path in directory.iterdir():
        if not path.name.startswith(("journal-", ".journal-")):
            continue
        is_part = path.suffix in SUFFIXES and path.suffix != ".sqlite"
        is_orphan = is_part and not path.with_suffix(".sqlite").exists()
        if path.name.startswith(".") or path.suffix == _DROPPED or is_orphan:
            path.unlink(missing_ok=True)
