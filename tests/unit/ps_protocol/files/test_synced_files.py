"""Files are written whole, in order or not, and nothing stays open."""

from __future__ import annotations

import ctypes
import errno
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps_protocol.files.synced_files import MANY_UNSYNCED_BYTES, SyncedWriter, exchange, make_directory
from tests.descriptors import open_descriptors, opened_since

MIB = 1024**2


def content(size_bytes: int) -> bytes:
    return np.random.default_rng(size_bytes).bytes(size_bytes)


@pytest.mark.parametrize("pieces", [[0], [1], [4096], [7, 4096, 9], [3 * MIB], [8, 3 * MIB + 1, 5, 2 * MIB, 4095]])
@pytest.mark.parametrize("says_size", [False, True])
def test_what_is_written_is_there_with_its_checksum(tmp_path: Path, pieces: list[int], says_size: bool) -> None:
    data = [content(each) for each in pieces]
    with SyncedWriter(tmp_path / "x", sum(pieces) if says_size else 0) as writer:
        sums = [writer.write(each) for each in data]
    assert sums == [zlib.crc32(each) for each in data]
    assert (tmp_path / "x").read_bytes() == b"".join(data)


@pytest.mark.parametrize("sizes", [[10, 2 * MIB + 24, 4096, 1, 5 * MIB - 8, 0, 3 * MIB], [MIB, MIB, 2 * MIB]])
def test_pieces_may_be_written_in_any_order(tmp_path: Path, sizes: list[int]) -> None:
    data = [content(each + 1)[:each] for each in sizes]
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    for seed in range(5):
        path = tmp_path / str(seed)
        with SyncedWriter(path, sum(sizes)) as writer:
            for index in np.random.default_rng(seed).permutation(len(sizes)):
                writer.move_to(starts[index])
                middle = len(data[index]) // 3
                crc = writer.write(data[index][:middle])
                assert writer.write(data[index][middle:], crc) == zlib.crc32(data[index])
        assert path.read_bytes() == b"".join(data)


@pytest.mark.parametrize("written", [0, 5, MIB + 1, 4 * MIB])
def test_a_file_may_end_elsewhere_than_was_said(tmp_path: Path, written: int) -> None:
    data = content(written)
    with SyncedWriter(tmp_path / "x", 2 * MIB) as writer:
        writer.move_to(4)
        writer.write(data)
        writer.end_here()
        writer.move_to(0)
        writer.write(b"head")
    assert (tmp_path / "x").read_bytes() == b"head" + data


@pytest.mark.parametrize(("most_bytes", "times"), [(None, 4), (MANY_UNSYNCED_BYTES, 0), (16 * MIB, 2), (MIB, 32)])
def test_no_more_than_is_said_is_unsynced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_bytes: int | None, times: int
) -> None:
    syncs: list[str] = []
    monkeypatch.setattr("os.fdatasync", lambda _: syncs.append("data"))
    monkeypatch.setattr("os.fsync", lambda _: syncs.append("all"))
    with SyncedWriter(tmp_path / "x", 32 * MIB) as writer:
        writer.most_unsynced_bytes = most_bytes or writer.most_unsynced_bytes
        for _ in range(32):
            writer.write(bytes(MIB))
    assert syncs == ["data"] * times + ["all"]


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"before")
    with pytest.raises(FileExistsError):
        SyncedWriter(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"before"


@pytest.mark.parametrize("number", [0, errno.EINVAL, errno.ENOSYS, errno.EPERM])
def test_folders_exchange_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (one, other):
        path.mkdir()
        (path / "file").write_text(path.name)
    if number:
        _refuse_to_exchange(monkeypatch, number)
    exchange(one, other)
    assert [(path / "file").read_text() for path in (one, other)] == ["other", "one"]
    assert sorted(tmp_path.iterdir()) == [one, other]


def test_folders_that_cannot_exchange_their_names_keep_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    other.mkdir()
    with pytest.raises(FileNotFoundError):
        exchange(one, other)
    _refuse_to_exchange(monkeypatch, errno.EINVAL)
    with pytest.raises(FileNotFoundError):
        exchange(one, other)
    assert list(tmp_path.iterdir()) == [other]


def _refuse_to_exchange(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """As file systems do that know no exchange."""

    class Library:
        def renameat2(self, *_: Any) -> int:
            ctypes.set_errno(number)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Library())


def test_a_directory_is_made_with_those_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr("ps_protocol.files.synced_files.sync_directory", lambda path: synced.append(str(path)))
    make_directory(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    assert sorted(synced) == [f"{tmp_path}", f"{tmp_path}/a", f"{tmp_path}/a/b"]
    make_directory(tmp_path / "a" / "b" / "d")
    make_directory(tmp_path / "a" / "b")
    assert synced[3:] == [f"{tmp_path}/a/b"]
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "a"):
        with pytest.raises((FileExistsError, NotADirectoryError)):
            make_directory(path)
    assert len(synced) == 4


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    before = open_descriptors()
    with pytest.raises(TypeError), SyncedWriter(tmp_path / "x", 2 * MIB) as writer:
        writer.write("no bytes")  # type: ignore[arg-type]
    with SyncedWriter(tmp_path / "y", 2 * MIB) as writer:
        writer.write(content(2 * MIB))
    with pytest.raises(OSError, match=r"space|large"):
        SyncedWriter(tmp_path / "z", 2**60)
    assert not opened_since(before)
