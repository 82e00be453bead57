"""What a process does at its start with what is in its data directory, and the note that says whose it is."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from ps_server.durability.disk.data_directory import DataDirectoryError
from ps_server.replication.member import MEMBER_FILE, Found, Member, MemberFile, Part, found_at_start
from ps_server.replication.register import Register

ME, OTHER, THIRD = (UUID(int=number) for number in (1, 2, 3))
NEW = Member(ME)
PRIMARY = Member(ME, 4, Part.PRIMARY)
BACKUP = Member(ME, 4, Part.BACKUP)
HALF = Member(ME, 0, Part.CATCHING_UP)


@pytest.mark.parametrize(
    ("member", "holds_state", "register", "found"),
    [
        (None, False, None, Found.NOTHING),
        (None, False, Register(4, OTHER), Found.NOTHING),
        (NEW, False, Register(4, OTHER), Found.NOTHING),
        # It has become the primary, and ended before it had noted that.
        (NEW, False, Register(1, ME), Found.RETURNS),
        (NEW, True, Register(2, ME), Found.RETURNS),
        (PRIMARY, True, Register(4, ME, OTHER), Found.RETURNS),
        (PRIMARY, False, Register(4, ME), Found.RETURNS),  # no client has come yet
        (BACKUP, True, Register(4, OTHER, ME), Found.RETURNS),
        (BACKUP, True, Register(6, ME), Found.RETURNS),
        (HALF, True, Register(4, OTHER, ME), Found.RETURNS),  # it had all, and ended before it had noted that
        (PRIMARY, True, Register(5, OTHER), Found.IS_STALE),
        (BACKUP, True, Register(6, OTHER, THIRD), Found.IS_STALE),
        (HALF, True, Register(2, OTHER), Found.IS_STALE),
        (Member(ME, 1, Part.PRIMARY), False, Register(1, OTHER), Found.IS_STALE),  # another one has begun in its place
        # The store is older than the note, or another one: nothing is set aside.
        (PRIMARY, True, Register(3, OTHER), Found.RETURNS),
        (PRIMARY, True, Register(1, OTHER), Found.RETURNS),
        (PRIMARY, True, None, Found.RETURNS),
        # A task that had no backup.
        (None, True, None, Found.CLAIMS),
        (NEW, True, None, Found.CLAIMS),  # it has ended in the middle of that
        (None, True, Register(2, OTHER), Found.IS_FOREIGN),
        (NEW, True, Register(2, OTHER), Found.IS_FOREIGN),
    ],
)
def test_what_a_process_does_with_its_directory(
    member: Member | None, holds_state: bool, register: Register | None, found: Found
) -> None:
    assert found_at_start(member, holds_state, register, was_read=True) is found


@pytest.mark.parametrize(
    ("member", "holds_state", "found"),
    [
        (None, False, Found.NOTHING),
        (PRIMARY, True, Found.RETURNS),
        (HALF, True, Found.RETURNS),
        (None, True, Found.IS_FOREIGN),
        (NEW, True, Found.IS_FOREIGN),
    ],
)
def test_without_an_answer_of_the_store_nothing_is_given_up(
    member: Member | None, holds_state: bool, found: Found
) -> None:
    assert found_at_start(member, holds_state, None, was_read=False) is found


def test_a_note_is_read_again(tmp_path: Path) -> None:
    notes = MemberFile(tmp_path)
    assert notes.member is None
    drawn = notes.draw()
    assert drawn.part is Part.EMPTY
    notes.note(7, Part.BACKUP)
    assert MemberFile(tmp_path).member == Member(drawn.process, 7, Part.BACKUP)


def test_a_note_that_cannot_be_written_is_written_with_the_next_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notes = MemberFile(tmp_path)
    notes.draw()
    blocked = tmp_path / f".{MEMBER_FILE}.tmp"
    blocked.mkdir()
    notes.note(7, Part.BACKUP)
    assert "cannot be written" in caplog.text
    before = MemberFile(tmp_path).member
    assert before is not None
    assert before.epoch == 0
    blocked.rmdir()
    notes.note(7, Part.BACKUP)
    after = MemberFile(tmp_path).member
    assert after is not None
    assert after.epoch == 7


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"process": 3, "epoch": 1, "part": "primary"}'])
def test_a_damaged_note_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MEMBER_FILE).write_bytes(content)
    with pytest.raises(DataDirectoryError, match=r"pair\.json is damaged .* move the directory away"):
        MemberFile(tmp_path)
