"""What the journal acknowledged is there afterwards, in order; what it cannot vouch for it refuses."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps_protocol.fault_points import Fault, FaultAction, FaultPlan, InjectedFaultError, installed
from ps_server.durability.journal import file as journal_file
from ps_server.durability.journal import frames as journal_frames
from ps_server.durability.journal.journal import CorruptJournalError, Journal
from ps_server.log.commit_log import CommitLog, SinkUnavailableError
from tests.unit.ps_server.journal_records import check, positions, record, records

LARGE = 20_000  # elements: more than a row of the database takes


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal.open(tmp_path, after=0)
    yield opened
    opened.close()


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("journal-*.sqlite"))


def crashed(journal: Journal, target: Path) -> Path:
    """Returns a copy of a journal's directory as it is now, which is what a kill would leave."""
    shutil.copytree(journal._directory, target)
    return target


@pytest.mark.parametrize("ends", [Journal.close, lambda _journal: None], ids=["closed", "killed"])
def test_records_are_there_after_a_restart(tmp_path: Path, ends: Callable[[Journal], None]) -> None:
    journal = Journal.open(tmp_path / "before", after=0)
    assert list(journal.replay(0)) == []
    journal.write(records(1, 3))
    journal.write([record(4, LARGE)])
    journal.write([record(5), record(6, LARGE), record(7), record(8, LARGE)])
    ends(journal)
    after = crashed(journal, tmp_path / "after")
    again = Journal.open(after, after=0)
    assert again.last_position == 8
    check(again.replay(0), 1, 8)
    check(again.replay(5), 6, 8)
    assert list(again.replay(8)) == []
    again.write(records(9, 10, LARGE))
    again.close()
    journal.close()
    assert positions(after) == list(range(1, 11))


def test_a_large_group_takes_several_rows(journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_frames, "ROW_BYTES", 1000)
    journal.write(records(1, 100))
    journal.close()
    with sqlite3.connect(tmp_path / files(tmp_path)[0]) as database:
        assert database.execute("SELECT count(*) FROM commits").fetchone()[0] == 10
    database.close()
    assert positions(tmp_path) == list(range(1, 101))
    assert positions(tmp_path, after=57) == list(range(58, 101))


def test_a_record_has_memory_of_its_own(journal: Journal, tmp_path: Path) -> None:
    journal.write([record(1), record(2, LARGE)])
    journal.close()
    again = Journal.open(tmp_path, after=0)
    arrays: list[np.ndarray[Any, Any]] = [logged.record.operations[0].value for logged in again.replay(0)]  # type: ignore[union-attr]
    again.close()
    assert all(array.flags.writeable and array.flags.aligned for array in arrays)


def test_records_that_do_not_follow_are_refused(journal: Journal, tmp_path: Path) -> None:
    journal.write([record(1)])
    with pytest.raises(RuntimeError, match=r"records 3 to 3 .* needs 2 next"):
        journal.write([record(3)])
    with pytest.raises(RuntimeError, match="needs 2 next"):
        journal.write([record(2), record(4)])
    journal.close()
    assert positions(tmp_path) == [1]


def test_a_closed_journal_takes_nothing(journal: Journal) -> None:
    journal.close()
    with pytest.raises(RuntimeError, match="is closed"):
        journal.write([record(1)])


def test_nothing_is_replayed_while_it_is_written_to(journal: Journal) -> None:
    journal.write([record(1)])
    with pytest.raises(RuntimeError, match="replay it before"):
        list(journal.replay(0))


def test_opening_changes_nothing_that_is_there(journal: Journal, tmp_path: Path) -> None:
    journal.write([record(1), record(2, LARGE)])
    copy = crashed(journal, tmp_path.parent / (tmp_path.name + "-copy"))
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    assert positions(copy) == [1, 2]
    assert {name: (copy / name).read_bytes() for name in before} == before


def test_it_is_a_sink_of_the_commit_log(journal: Journal, tmp_path: Path) -> None:
    errors: list[BaseException] = []
    log = CommitLog([journal], last_position=journal.last_position, on_fatal=errors.append)
    for number in range(1, 51):
        log.append(record(number).record, 100)
    log.wait_committed(50, 30)
    assert log.close(30)
    assert not errors
    assert positions(tmp_path) == list(range(1, 51))


def test_a_commit_is_synced_tensors_first(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.write([record(1)])
    assert journal._current is not None
    database = journal._current._database
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert database.execute("PRAGMA locking_mode").fetchone() == ("exclusive",)
    rows_at_sync: list[int] = []
    original = os.fdatasync

    def fdatasync(descriptor: int) -> None:
        original(descriptor)
        rows_at_sync.append(database.execute("SELECT count(*) FROM commits").fetchone()[0])

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    journal.write([record(2, LARGE), record(3, LARGE)])
    assert rows_at_sync == [1]  # the second row was not there yet
    journal.write([record(4)])
    assert rows_at_sync == [1]  # nothing lies outside the database


@pytest.fixture
def checksum_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Names of the threads that make checksums, of groups of any size beside the writing."""
    monkeypatch.setattr(journal_file, "_SHARED_WORK_BYTES", 1)
    original, names = journal_frames.Layout.rows, set[str]()

    def rows(layout: journal_frames.Layout) -> list[journal_frames.Row]:
        names.add(threading.current_thread().name.split("_")[0])
        return original(layout)

    monkeypatch.setattr(journal_frames.Layout, "rows", rows)
    yield names
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("journal-checksums")]


def test_checksums_of_much_are_made_while_it_is_written(
    journal: Journal, tmp_path: Path, checksum_threads: set[str]
) -> None:
    journal.write([record(1)])
    assert checksum_threads == {threading.current_thread().name}
    checksum_threads.clear()
    journal.write([record(2, LARGE), record(3), record(4, LARGE)])
    assert checksum_threads == {"journal-checksums"}
    journal.close()
    assert positions(tmp_path) == [1, 2, 3, 4]


def test_a_disk_that_fills_up_while_checksums_are_made_takes_the_records_later(
    journal: Journal, tmp_path: Path, checksum_threads: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, fails = os.pwritev, iter([True])

    def pwritev(descriptor: int, buffers: Any, offset: int) -> int:
        if next(fails, False):
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(descriptor, buffers, offset)

    monkeypatch.setattr(os, "pwritev", pwritev)
    with pytest.raises(SinkUnavailableError):
        journal.write([record(1, LARGE)])
    assert next(tmp_path.glob("*.tensors")).stat().st_size == 0
    journal.write([record(1, LARGE)])
    assert checksum_threads == {"journal-checksums"}
    journal.close()
    assert positions(tmp_path) == [1]


def test_an_error_of_the_checksums_commits_nothing(
    journal: Journal, tmp_path: Path, checksum_threads: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(_layout: journal_frames.Layout) -> list[journal_frames.Row]:
        raise MemoryError("no memory for a row")

    with monkeypatch.context() as patched:
        patched.setattr(journal_frames.Layout, "rows", rows)
        with pytest.raises(MemoryError):
            journal.write([record(1, LARGE)])
    assert next(tmp_path.glob("*.tensors")).stat().st_size == 0
    journal.write([record(1, LARGE)])
    assert checksum_threads == {"journal-checksums"}
    journal.close()
    assert positions(tmp_path) == [1]


def test_short_writes_are_gone_on_with(journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.pwritev

    def short(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        return original(descriptor, [buffers[0][: max(1, len(buffers[0]) // 2)]], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", short)
        journal.write([record(1, LARGE), record(2, 200_000)])
    journal.close()
    assert positions(tmp_path) == [1, 2]


# -- files ------------------------------------------------------------------------------------


def test_records_after_a_snapshot_go_to_a_new_file(journal: Journal, tmp_path: Path) -> None:
    journal.write(records(1, 4))
    journal.start_new_file(6)
    journal.write(records(5, 9))
    assert files(tmp_path) == ["journal-00000000000000000001.sqlite", "journal-00000000000000000007.sqlite"]
    journal.drop_before(5)
    assert len(files(tmp_path)) == 2
    journal.drop_before(6)
    assert files(tmp_path) == ["journal-00000000000000000007.sqlite"]
    journal.close()
    assert positions(tmp_path, after=6) == [7, 8, 9]


def test_a_snapshot_that_the_records_have_overtaken(journal: Journal, tmp_path: Path) -> None:
    journal.write(records(1, 4))
    journal.start_new_file(2)
    journal.write(records(5, 6))
    assert files(tmp_path) == ["journal-00000000000000000001.sqlite", "journal-00000000000000000005.sqlite"]
    journal.drop_before(2)
    assert len(files(tmp_path)) == 2
    journal.write(records(7, 8))
    assert len(files(tmp_path)) == 2
    journal.close()
    assert positions(tmp_path, after=2) == [3, 4, 5, 6, 7, 8]


def test_an_idle_task_gives_up_all_that_a_snapshot_covers(journal: Journal, tmp_path: Path) -> None:
    journal.write(records(1, 4, LARGE))
    journal.start_new_file(4)
    journal.drop_before(4)
    assert journal.size_bytes == 0
    journal.write(records(5, 6))
    journal.close()
    assert positions(tmp_path, after=4) == [5, 6]


def test_what_a_snapshot_covers_at_the_start_can_be_dropped(journal: Journal, tmp_path: Path) -> None:
    journal.write(records(1, 4))
    journal.close()
    again = Journal.open(tmp_path, after=4)
    again.drop_before(4)
    again.close()
    assert files(tmp_path) == []


def test_a_snapshot_may_be_ahead_of_the_journal(journal: Journal, tmp_path: Path) -> None:
    journal.write(records(1, 4))
    journal.close()
    again = Journal.open(tmp_path, after=7)
    assert again.last_position == 7
    assert list(again.replay(7)) == []
    again.write(records(8, 9))
    again.close()
    assert positions(tmp_path, after=7) == [8, 9]
    with pytest.raises(
        CorruptJournalError, match="at the record 5 or after it: it is missing, and so are those up to 7"
    ):
        positions(tmp_path, after=3)


def test_the_disk_stays_bounded(journal: Journal, tmp_path: Path) -> None:
    largest = 0
    for round_ in range(60):
        first = round_ * 10 + 1
        journal.write(records(first, first + 9, 2000))
        journal.start_new_file(first + 4)
        journal.drop_before(first + 4)
        largest = max(largest, sum(path.stat().st_size for path in tmp_path.iterdir()))
    assert largest < 2_000_000
    assert len(files(tmp_path)) <= 2


def test_a_restart_does_not_pile_up_files(tmp_path: Path) -> None:
    for _ in range(5):
        journal = Journal.open(tmp_path, after=0)
        journal.close()
    assert [path.name for path in tmp_path.iterdir()] == ["acknowledged"]


def test_size_bytes_counts_all_files(journal: Journal, tmp_path: Path) -> None:
    assert journal.size_bytes == 0
    journal.write([record(1, LARGE)])
    assert journal.size_bytes == sum(path.stat().st_size for path in tmp_path.glob("journal-*"))
    assert journal.size_bytes > LARGE * 8


def test_whether_there_was_a_journal_is_known(journal: Journal, tmp_path: Path) -> None:
    assert journal.was_absent
    journal.close()
    again = Journal.open(tmp_path, after=0)
    assert not again.was_absent
    again.close()


# -- damage -----------------------------------------------------------------------------------


def test_a_lost_file_is_found(journal: Journal, tmp_path: Path) -> None:
    journal.write(records(1, 4))
    journal.start_new_file(4)
    journal.write(records(5, 6))
    journal.start_new_file(6)
    journal.write(records(7, 8))
    journal.close()
    middle, last = (tmp_path / name for name in files(tmp_path)[1:])
    aside = tmp_path / "aside"
    middle.rename(aside)
    with pytest.raises(CorruptJournalError, match=r"00007\.sqlite is damaged at the record 5 .*missing.* 6"):
        positions(tmp_path)
    aside.rename(middle)
    last.unlink()
    with pytest.raises(
        CorruptJournalError, match=r"at the record 7 .*all up to 8 were acknowledged.*Put back an undamaged"
    ):
        positions(tmp_path)
    assert positions(tmp_path, after=8) == []


def test_a_lost_journal_is_found(journal: Journal, tmp_path: Path) -> None:
    journal.write(records(1, 4))
    journal.close()
    for path in tmp_path.glob("journal-*"):
        path.unlink()
    with pytest.raises(CorruptJournalError, match="all up to 4 were acknowledged"):
        positions(tmp_path, after=3)


def test_the_remedy_that_is_named_works(journal: Journal, tmp_path: Path) -> None:
    journal.write(records(1, 4))
    journal.close()
    (tmp_path / files(tmp_path)[0]).write_bytes(b"no database")
    with pytest.raises(CorruptJournalError, match="move everything named journal-\\* and the file 'acknowledged'"):
        positions(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    again = Journal.open(tmp_path, after=2)
    assert again.was_absent
    again.write(records(3, 5))
    again.close()


def test_a_damaged_tensor_file_is_refused_by_name(journal: Journal, tmp_path: Path) -> None:
    journal.write([record(1), record(2, LARGE)])
    journal.close()
    (path,) = tmp_path.glob("*.tensors")
    content = bytearray(path.read_bytes())
    content[LARGE * 4] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptJournalError, match=r"\.tensors is damaged at the record 2 .*checksum is wrong"):
        positions(tmp_path)
    path.write_bytes(content[:-1])
    with pytest.raises(
        CorruptJournalError, match=r"\.tensors is damaged at the record 2 .*the file has \d+ bytes only"
    ):
        positions(tmp_path)
    path.unlink()
    with pytest.raises(CorruptJournalError, match=r"No such file"):
        positions(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DELETE FROM commits WHERE first = 2", "at the record 2 .*: the records found next are 3 to 3"),
        ("DELETE FROM commits WHERE first = 4", "at the record 4 .*: all up to 4 were acknowledged"),
        ("UPDATE commits SET last = 9 WHERE first = 4", "at the record 5 .*: its row in the database is too short"),
        ("UPDATE commits SET last = 'x' WHERE first = 2", "at the record 1 .*: 'x' is no position"),
        ("UPDATE commits SET first = 7 WHERE first = 2", "at the record 2 .*: the records found next are 3 to 3"),
        ("UPDATE commits SET frames = NULL WHERE first = 2", "at the record 2 .*: its row in the database is damaged"),
        ("UPDATE commits SET frames = CAST(frames || frames AS BLOB) WHERE first = 3", "record 3 .* bytes too many"),
        (
            "UPDATE commits SET frames = (SELECT frames FROM commits WHERE first = 3) WHERE first = 2",
            "at the record 2 .*: its place is taken by 3",
        ),
        (
            "UPDATE commits SET frames = CAST(zeroblob(8) || substr(frames, 9) AS BLOB) WHERE first = 2",
            "at the record 2 .*: the checksum of its frame is wrong",
        ),
        ("DROP TABLE commits", "at the record 1 .*: no such table"),
    ],
)
def test_damaged_rows_are_refused(journal: Journal, tmp_path: Path, change: str, message: str) -> None:
    for position in range(1, 5):
        journal.write([record(position)])
    journal.close()
    database = sqlite3.connect(tmp_path / files(tmp_path)[0], isolation_level=None)
    database.execute(change)
    database.close()
    with pytest.raises(CorruptJournalError, match=message):
        positions(tmp_path)


def test_a_file_that_ends_early_is_refused(journal: Journal, tmp_path: Path) -> None:
    # A row whose last position is damaged hides that there is one missing.
    for position in range(1, 4):
        journal.write([record(position)])
    journal.close()
    again = Journal.open(tmp_path, after=0)
    database = sqlite3.connect(tmp_path / files(tmp_path)[0], isolation_level=None)
    database.execute("DELETE FROM commits WHERE first = 3")
    database.close()
    with pytest.raises(CorruptJournalError, match=r"at the record 3 .*it is missing, and so are those up to 3"):
        list(again.replay(0))
    again.close()


def test_a_write_that_was_not_finished_is_cut(journal: Journal, tmp_path: Path) -> None:
    journal.write(records(1, 4))
    size_bytes = (tmp_path / (files(tmp_path)[0] + "-wal")).stat().st_size
    copy = crashed(journal, tmp_path / "copy")
    journal.write(records(5, 6))
    journal_bytes = (tmp_path / (files(tmp_path)[0] + "-wal")).read_bytes()
    assert len(journal_bytes) > size_bytes
    for kept in {size_bytes, size_bytes + 1, size_bytes + 24, len(journal_bytes) - 1}:
        shutil.rmtree(tmp_path / "torn", ignore_errors=True)
        shutil.copytree(copy, tmp_path / "torn")
        (tmp_path / "torn" / (files(tmp_path)[0] + "-wal")).write_bytes(journal_bytes[:kept])
        assert positions(tmp_path / "torn") == [1, 2, 3, 4]


# -- faults -----------------------------------------------------------------------------------


def test_a_database_without_room_keeps_nothing_and_goes_on_later(journal: Journal, tmp_path: Path) -> None:
    journal.write(records(1, 2))
    assert journal._current is not None
    database = journal._current._database
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages + 2}")
    group = [*records(3, 8, 5000), record(9, LARGE)]
    tensors = next(tmp_path.glob("*.tensors"))
    with pytest.raises(SinkUnavailableError, match="disk is full"):
        journal.write(group)
    assert tensors.stat().st_size == 0
    assert journal.last_position == 2
    assert positions(crashed(journal, tmp_path / "copy")) == [1, 2]
    database.execute("PRAGMA max_page_count = 1000000")
    journal.write(group)
    journal.close()
    assert positions(tmp_path) == list(range(1, 10))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["pwritev", "fdatasync"])
def test_a_tensor_file_without_room_keeps_nothing(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    journal.write([record(1, LARGE)])
    tensors = next(tmp_path.glob("*.tensors"))
    size_bytes = tensors.stat().st_size
    original = getattr(os, call)

    def full(*arguments: Any) -> None:
        original(*arguments)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(SinkUnavailableError, match="free some of the disk"):
            journal.write([record(2, LARGE), record(3)])
    assert tensors.stat().st_size == size_bytes
    journal.write([record(2, LARGE), record(3)])
    journal.close()
    assert positions(tmp_path) == [1, 2, 3]


def test_a_new_file_without_room_is_made_later(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.write(records(1, 2))
    journal.start_new_file(3)

    def full(*_arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        with pytest.raises(SinkUnavailableError):
            journal.write(records(3, 6))
    # The part that belongs to the old file is there already; offered again, it is not written twice.
    assert journal.last_position == 3
    journal.write(records(3, 6))
    journal.close()
    assert positions(tmp_path) == [1, 2, 3, 4, 5, 6]


class BrokenDatabase:
    """Stands in for a database whose file cannot be written to."""

    in_transaction = False

    def execute(self, *_arguments: object) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
        raise error


@pytest.mark.parametrize(
    ("code", "expected"), [(errno.EDQUOT, SinkUnavailableError), (errno.EIO, OSError), (0, sqlite3.OperationalError)]
)
def test_a_quota_is_told_from_a_broken_disk(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, expected: type[Exception]
) -> None:
    journal.write([record(1)])
    original = os.pwrite

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        if code:
            raise OSError(code, os.strerror(code))
        return original(descriptor, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(journal._current, "_database", BrokenDatabase())
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(expected):
            journal.write([record(2)])
    assert next(tmp_path.glob("*.tensors")).stat().st_size == 0
    journal.write([record(2)])
    journal.close()
    assert positions(tmp_path) == [1, 2]


def test_what_is_replayed_is_on_disk_first(journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a killed process wrote may be in memory only: replayed it is acknowledged, and a power failure would take it.
    journal.write([record(1), record(2, LARGE)])
    copy = crashed(journal, tmp_path / "copy")
    synced: list[str] = []
    original = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    Journal.open(copy, after=0).close()
    name = files(copy)[0].removesuffix(".sqlite")
    assert {f"{name}.sqlite", f"{name}.sqlite-wal", f"{name}.tensors", "copy"} <= set(synced)


def test_another_error_is_not_taken_for_a_full_disk(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        journal.write([record(1, LARGE)])


@pytest.mark.parametrize(("place", "kept"), [("journal.before_commit", [1]), ("journal.after_commit", [1, 2])])
def test_the_fault_points_are_around_the_commit(journal: Journal, tmp_path: Path, place: str, kept: list[int]) -> None:
    journal.write([record(1)])
    with installed(FaultPlan((Fault(place, FaultAction.FAIL),))) as plan, pytest.raises(InjectedFaultError):
        journal.write([record(2)])
    assert plan.fired(place) == 1
    assert positions(crashed(journal, tmp_path / "copy")) == kept


def test_a_mark_that_cannot_be_written_costs_no_update(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_arguments: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        journal.write([record(1)])
    assert "acknowledged cannot be written: " in caplog.text
    journal.write([record(2)])
    journal.close()
    assert positions(tmp_path) == [1, 2]
