"""What was moved away, replaced or deleted is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ps_server.durability.disk.held_places import DisplacedError, HeldPlaces


def test_what_stays_is_not_complained_of(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    places = HeldPlaces([tmp_path, tmp_path / "file"])
    places.check()
    (tmp_path / "file").write_text("longer")
    (tmp_path / "other").touch()
    places.check()
    places.close()


def test_what_was_moved_is_missed_until_it_is_back(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").touch()
    places = HeldPlaces([tmp_path / "data", tmp_path / "data" / "file"])
    (tmp_path / "data").rename(tmp_path / "away")
    with pytest.raises(DisplacedError, match=r"data cannot be found any more .* move it back"):
        places.check()
    (tmp_path / "data").mkdir()
    with pytest.raises(DisplacedError, match=r"data has been replaced by another .* move it back"):
        places.check()
    (tmp_path / "data").rmdir()
    (tmp_path / "away").rename(tmp_path / "data")
    places.check()
    places.close()


def test_what_was_deleted_does_not_come_back(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    places = HeldPlaces([tmp_path / "file"])
    (tmp_path / "file").unlink()
    with pytest.raises(DisplacedError, match=r"file cannot be found any more .* it was deleted"):
        places.check()
    (tmp_path / "file").touch()  # its number is not the old one's, which is still held
    with pytest.raises(DisplacedError, match=r"file has been replaced by another .* it was deleted"):
        places.check()
    places.close()


def test_what_is_not_there_cannot_be_held(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        HeldPlaces([tmp_path, tmp_path / "nothing"])
