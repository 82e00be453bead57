"""A journal whose files are not where the next start looks for them acknowledges nothing; nor without descriptors."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ps_server.durability.disk.held_places import HeldPlaces
from ps_server.durability.journal.journal import Journal
from ps_server.log.commit_log import SinkUnavailableError
from tests.unit.ps_server.journal_records import positions, record, records

LARGE = 20_000


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


@pytest.fixture
def journal(directory: Path) -> Iterator[Journal]:
    place = HeldPlaces([directory])
    opened = Journal.open(directory, after=0, place=place)
    yield opened
    opened.close()
    place.close()


@pytest.mark.parametrize("suffix", [".sqlite", ".sqlite-wal", ".tensors"])
def test_each_of_its_files_is_missed(suffix: str, journal: Journal, directory: Path, tmp_path: Path) -> None:
    journal.write(records(1, 3))
    (file,) = directory.glob(f"journal-*{suffix}")
    file.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(SinkUnavailableError, match=rf"{suffix} cannot be found any more"):
            journal.write(records(4, 5))
    shutil.copy(tmp_path / "away", file)  # the same bytes, but nothing written from now on is in it
    with pytest.raises(SinkUnavailableError, match=rf"{suffix} has been replaced"):
        journal.write(records(4, 5))
    (tmp_path / "away").rename(file)
    journal.write(records(4, 5))
    journal.close()
    assert positions(directory) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("elements", [1, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("begun", [True, False], ids=["in a file", "before its first file"])
def test_its_directory_is_missed(begun: bool, elements: int, journal: Journal, directory: Path, tmp_path: Path) -> None:
    if begun:
        journal.write([record(1, elements)])
    first = journal.last_position + 1
    directory.rename(tmp_path / "away")
    with pytest.raises(SinkUnavailableError, match=r"data cannot be found any more"):
        journal.write([record(first, elements)])
    directory.mkdir()
    with pytest.raises(SinkUnavailableError, match=r"data has been replaced by another"):
        journal.write([record(first, elements)])
    assert not list(directory.iterdir())
    directory.rmdir()
    (tmp_path / "away").rename(directory)
    journal.write([record(first, elements), record(first + 1, elements)])
    journal.close()
    assert positions(directory) == list(range(1, first + 2))


def test_what_was_written_to_deleted_files_is_not_acknowledged(journal: Journal, directory: Path) -> None:
    journal.write(records(1, 3))
    shutil.rmtree(directory)
    for _ in range(2):
        with pytest.raises(SinkUnavailableError, match=r"it was deleted"):
            journal.write(records(4, 5))


def test_the_mark_names_only_what_is_acknowledged(journal: Journal, directory: Path, tmp_path: Path) -> None:
    journal.write(records(1, 3))
    mark = (directory / "acknowledged").read_bytes()
    (file,) = directory.glob("journal-*.tensors")
    file.rename(tmp_path / "away")
    with pytest.raises(SinkUnavailableError):
        journal.write(records(4, 5))
    assert (directory / "acknowledged").read_bytes() == mark


def test_its_files_are_its_users_alone(journal: Journal, directory: Path) -> None:
    before = os.umask(0)
    try:
        journal.write([record(1, LARGE)])
    finally:
        os.umask(before)
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in directory.iterdir()}
    assert set(modes.values()) == {"0o600"}, modes
    assert len(modes) == 4


def test_without_a_descriptor_for_a_new_file_it_waits(tmp_path: Path) -> None:
    outcomes: list[bool] = []
    for num_left in range(12):
        directory = tmp_path / f"{num_left}"
        journal = Journal.open(directory, after=0)
        with few_descriptors(num_left):
            try:
                journal.write(records(1, 2))
                outcomes.append(True)
            except SinkUnavailableError as error:
                assert "raise the limit of open files" in str(error)  # noqa: PT017 - whether it raises is the question
                outcomes.append(False)
        journal.write(records(1, 3))
        journal.close()
        assert positions(directory) == [1, 2, 3]
    assert outcomes == sorted(outcomes)
    assert outcomes.count(False) > 3  # at each of the descriptors that it needs
    assert outcomes[-1]


class few_descriptors:  # noqa: N801 - used like a function
    """Leaves this process so many descriptors; takes the rest."""

    def __init__(self, num_left: int):
        self._num_left = num_left
        self._taken: list[int] = []

    def __enter__(self) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 32, self._limits[1]))
        self._use_up()
        for _ in range(self._num_left):
            os.close(self._taken.pop())

    def __exit__(self, *_error: object) -> None:
        for descriptor in self._taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)

    def _use_up(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._taken.append(os.open(os.devnull, os.O_RDONLY))


def test_its_size_is_asked_for_meanwhile(journal: Journal, directory: Path, tmp_path: Path) -> None:
    journal.write(records(1, 3))
    assert journal.size_bytes > 0
    with few_descriptors(0):
        assert journal.size_bytes == 0
    directory.rename(tmp_path / "away")
    assert journal.size_bytes == 0


def test_its_end_does_nothing_to_what_has_taken_its_place(journal: Journal, directory: Path, tmp_path: Path) -> None:
    journal.write(records(1, 3))
    directory.rename(tmp_path / "away")
    shutil.copytree(tmp_path / "away", directory)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert any(name.endswith("-wal") for name in before)
    with pytest.raises(SinkUnavailableError):
        journal.write(records(4, 5))
    journal.close()
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    assert positions(directory) == [1, 2, 3]


def test_a_directory_that_goes_while_a_file_is_begun_is_waited_for(
    journal: Journal, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved_away(*_arguments: object) -> None:
        directory.rename(tmp_path / "away")
        raise FileNotFoundError(2, "No such file or directory")

    with monkeypatch.context() as patch:
        patch.setattr("ps_server.durability.journal.file._connect", moved_away)
        with pytest.raises(SinkUnavailableError, match=r"data cannot be found any more"):
            journal.write(records(1, 2))
    (tmp_path / "away").rename(directory)
    journal.write(records(1, 2))
    journal.close()
    assert positions(directory) == [1, 2]
