"""Whatever happens to the journal's files, it gives back what was written, or says that it cannot."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ps_server.durability.journal.journal import CorruptJournalError, Journal
from tests.unit.ps_server.journal_records import check, positions, record, records

LAST = 24
MARK = "acknowledged"


@contextmanager
def fresh_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="journal-") as name:
        yield Path(name)


@cache
def written(ending: str) -> dict[str, bytes]:
    """The files of a journal with all kinds of records and two database files, as an ending leaves them."""
    with fresh_directory() as root:
        directory = root / "data"
        journal = Journal.open(directory, after=0)
        journal.write(records(1, 4))
        journal.write([record(5), record(6, 9000), record(7)])
        journal.start_new_file(8)
        journal.write(records(8, 12, 500))
        if ending == "carried over":
            assert journal._current is not None
            # Part of the log is in the database, and the log begins anew.
            journal._current._database.execute("PRAGMA wal_checkpoint(RESTART)")
        for position in range(13, LAST - 1):
            journal.write([record(position)])
        journal.write([record(LAST - 1, 9000), record(LAST)])
        if ending == "closed":
            journal.close()
        shutil.copytree(directory, root / "copy")
        journal.close()
        return {path.name: path.read_bytes() for path in (root / "copy").iterdir()}


ENDINGS = st.sampled_from(["closed", "killed", "carried over"])


def read_back(files: dict[str, bytes]) -> list[int] | None:
    """Returns the positions found, whose records are all as they were written; None if the journal is refused."""
    with fresh_directory() as directory:
        for name, content in files.items():
            (directory / name).write_bytes(content)
        try:
            return positions(directory)
        except CorruptJournalError:
            return None


ALL = list(range(1, LAST + 1))


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, bytes]:
    """Files with a few bytes changed, or the end cut off one of them."""
    files = dict(written(draw(ENDINGS)))
    name = draw(st.sampled_from(sorted(name for name, content in files.items() if content)))
    content = bytearray(files[name])
    if draw(st.booleans()):
        del content[draw(st.integers(0, len(content) - 1)) :]
    else:
        for _ in range(draw(st.integers(1, 3))):
            content[draw(st.integers(0, len(content) - 1))] ^= draw(st.integers(1, 255))
    files[name] = bytes(content)
    return files


@given(ENDINGS)
def test_an_undamaged_journal_is_read(ending: str) -> None:
    assert read_back(written(ending)) == ALL


@settings(max_examples=300)
@given(damaged())
def test_damage_is_harmless_or_refused(files: dict[str, bytes]) -> None:
    # A damaged mark proves nothing any more, but then nothing else is damaged.
    assert read_back(files) in (ALL, None)


@settings(max_examples=150)
@given(damaged())
def test_without_the_mark_only_the_end_can_be_lost(files: dict[str, bytes]) -> None:
    # As after a power failure, which may take the mark with it.
    found = read_back({name: content for name, content in files.items() if name != MARK})
    assert found is None or found == ALL[: len(found)]


@settings(max_examples=60)
@given(st.data())
def test_a_log_that_was_cut_anywhere_is_read_up_to_there(data: st.DataObject) -> None:
    files = dict(written("killed"))
    log = max(name for name in files if name.endswith("-wal"))
    files[log] = files[log][: data.draw(st.integers(0, len(files[log])))]
    del files[MARK]
    found = read_back(files)
    assert found is not None
    assert found == ALL[: len(found)]
    assert len(found) >= 7


GROUPS = st.lists(st.lists(st.sampled_from([1, 3, 9000]), min_size=1, max_size=4), max_size=6)


@settings(max_examples=40)
@given(st.lists(st.tuples(GROUPS, st.integers(0, 30), st.booleans()), max_size=4))
@example([([[1], [9000]], 1, True), ([[1]], 2, False)])
def test_any_history_of_writes_snapshots_and_restarts(lives: list[tuple[list[list[int]], int, bool]]) -> None:
    """Each life writes groups, takes a snapshot after so many of its records, and drops what that covers or dies."""
    last = snapshot = 0
    with fresh_directory() as directory:
        for groups, offset, drops in lives:
            journal = Journal.open(directory, after=snapshot)
            check(journal.replay(snapshot), snapshot + 1, last)
            for group in groups:
                journal.write([record(last + number, size) for number, size in enumerate(group, 1)])
                last += len(group)
                taken = min(snapshot + offset, last)
                if taken > snapshot:
                    journal.start_new_file(taken)
                    snapshot = taken
                    if drops:
                        journal.drop_before(taken)
            journal.close()
        assert positions(directory, after=snapshot) == list(range(snapshot + 1, last + 1))
