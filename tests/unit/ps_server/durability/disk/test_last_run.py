from __future__ import annotations

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
