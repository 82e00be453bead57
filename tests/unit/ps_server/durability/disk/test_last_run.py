from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ps_protocol.service_types import DurabilityMode
from ps_server.durability.disk.last_run import LastRun, read_last_run, write_last_run


def test_nothing_is_known_of_no_run(tmp_path: Path) -> None:
    assert read_last_run(tmp_path) is None


@pytest.mark.parametrize(
    "run", [LastRun(DurabilityMode.JOURNAL), LastRun(DurabilityMode.SNAPSHOT), LastRun(DurabilityMode.SNAPSHOT, 2**60)]
)
def test_the_last_run_is_known(run: LastRun, tmp_path: Path) -> None:
    write_last_run(tmp_path, LastRun(DurabilityMode.JOURNAL, 3))
    write_last_run(tmp_path, run)
    assert read_last_run(tmp_path) == run


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"mode": "raid", "ended_at": 1}', '{"mode": 1, "ended_at": 1}']
)
def test_what_cannot_be_read_is_not_believed(content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "last_run.json").write_text(content)
    assert read_last_run(tmp_path) is None
    assert "counts as one that was cut off" in caplog.text


def test_what_a_state_lacks() -> None:
    assert LastRun(DurabilityMode.JOURNAL).has_all_up_to(5)
    assert not LastRun(DurabilityMode.SNAPSHOT).has_all_up_to(5)
    assert LastRun(DurabilityMode.SNAPSHOT, 5).has_all_up_to(5)
    assert not LastRun(DurabilityMode.SNAPSHOT, 6).has_all_up_to(5)


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"\0" * 30), Path.unlink], ids=["changed", "gone"])
@pytest.mark.parametrize("name", ["last_run.json", "last_run.copy.json"])
def test_one_of_the_two_notes_is_enough(name: str, damage: Callable[[Path], object], tmp_path: Path) -> None:
    write_last_run(tmp_path, LastRun(DurabilityMode.SNAPSHOT))
    write_last_run(tmp_path, LastRun(DurabilityMode.SNAPSHOT, 7))
    damage(tmp_path / name)
    assert read_last_run(tmp_path) == LastRun(DurabilityMode.SNAPSHOT, 7)


def test_the_copy_is_not_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever writing stops, the copy alone never says that a run has ended well which has begun since."""
    write_last_run(tmp_path, LastRun(DurabilityMode.SNAPSHOT, 7))
    written: list[str] = []
    real = os.pwrite

    def stops_after_one(descriptor: int, data: bytes, offset: int) -> int:
        if written:
            raise OSError(5, "the machine stops here")
        written.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", stops_after_one)
    with pytest.raises(OSError, match="the machine stops here"):
        write_last_run(tmp_path, LastRun(DurabilityMode.SNAPSHOT))
    assert [Path(path).name for path in written] == ["last_run.copy.json"]
    (tmp_path / "last_run.json").unlink()
    assert read_last_run(tmp_path) == LastRun(DurabilityMode.SNAPSHOT)
