"""The disk of the journal is full, really: nothing is lost, and it goes on when there is room again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ps_protocol.errors import ResourceExhaustedError
from ps_server.durability.journal.journal import Journal
from ps_server.log.commit_log import CommitLimits, CommitLog, SinkUnavailableError
from tests.conftest import Eventually
from tests.unit.ps_server.journal_records import positions, record, records

pytestmark = pytest.mark.chaos
BALLAST_BYTES = 1024**2


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be made here: {mounted.stderr.decode()}")
    (tmp_path / "ballast").write_bytes(bytes(BALLAST_BYTES))
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


@pytest.mark.parametrize("elements", [1, 1000, 20_000], ids=["small", "medium", "large"])
def test_what_was_acknowledged_before_and_after_is_there(disk: Path, elements: int) -> None:
    directory = disk / "data"
    journal = Journal.open(directory, after=0)
    last = 0
    with pytest.raises(SinkUnavailableError):  # noqa: PT012 - which of the writes fails is not known
        while True:
            group = records(last + 1, last + 50, elements) if elements < 20_000 else [record(last + 1, elements)]
            journal.write(group)
            last = group[-1].position
    assert last
    assert journal.last_position == last
    for _ in range(3):  # it is tried again and again
        with pytest.raises(SinkUnavailableError):
            journal.write(group)
    (disk / "ballast").unlink()
    journal.write(group)
    last = group[-1].position
    journal.close()
    assert positions(directory) == list(range(1, last + 1))


def test_a_snapshot_makes_room(disk: Path) -> None:
    directory = disk / "data"
    journal = Journal.open(directory, after=0)
    last = 0
    with pytest.raises(SinkUnavailableError):  # noqa: PT012 - as above
        while True:
            journal.write([record(last + 1, 20_000)])
            last += 1
    journal.start_new_file(last)
    journal.drop_before(last)
    journal.write(records(last + 1, last + 3, 20_000))
    journal.close()
    assert positions(directory, after=last) == [last + 1, last + 2, last + 3]


def test_updates_wait_are_refused_and_then_go_on(disk: Path, eventually: Eventually) -> None:
    errors: list[BaseException] = []
    journal = Journal.open(disk / "data", after=0)
    log = CommitLog([journal], limits=CommitLimits(queued_bytes=1024**2), on_fatal=errors.append)
    last = 0
    with pytest.raises(ResourceExhaustedError, match=r"the disk is full|No space left"):  # noqa: PT012 - as above
        while True:
            reservation = log.reserve(160_000, 1.0 if last else 20.0)
            last = reservation.append(record(last + 1, 20_000).record)
    assert log.committed_position < last
    assert log.obstacle
    (disk / "ballast").unlink()
    eventually(lambda: log.committed_position == last, message="everything is committed")
    assert not log.obstacle
    assert log.close(30)
    assert not errors
    assert positions(disk / "data") == list(range(1, last + 1))
