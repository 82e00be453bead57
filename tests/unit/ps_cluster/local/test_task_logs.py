from __future__ import annotations

from pathlib import Path

import pytest

from ps_cluster.local.task_logs import TaskLogs
from ps_protocol.task_id import TaskId

PS_0, WORKER_1 = TaskId("ps", 0), TaskId("worker", 1)


def test_each_task_has_a_file_that_is_written_as_the_lines_come(tmp_path: Path) -> None:
    failures: list[str] = []
    with TaskLogs(tmp_path / "new" / "logs", [PS_0, WORKER_1], failures.append) as logs:
        logs.write(PS_0, "first")
        logs.write(WORKER_1, "zweite €")
        assert (tmp_path / "new" / "logs" / "ps-0.log").read_text() == "first\n"
        assert (tmp_path / "new" / "logs" / "worker-1.log").read_text(encoding="utf-8") == "zweite €\n"
    logs.write(PS_0, "after the end")
    assert (tmp_path / "new" / "logs" / "ps-0.log").read_text() == "first\n"
    assert failures == []


def test_without_a_directory_nothing_is_kept() -> None:
    with TaskLogs(None, [PS_0], pytest.fail) as logs:
        logs.write(PS_0, "line")


def test_a_file_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ps-0.log").mkdir()
    with pytest.raises(OSError, match=r"ps-0\.log"), TaskLogs(tmp_path, [WORKER_1, PS_0], pytest.fail):
        pass


def test_a_full_disk_is_reported_once_and_the_others_go_on(tmp_path: Path) -> None:
    failures: list[str] = []
    (tmp_path / "ps-0.log").symlink_to("/dev/full")
    with TaskLogs(tmp_path, [PS_0, WORKER_1], failures.append) as logs:
        for _ in range(3):
            logs.write(PS_0, "line")
        logs.write(WORKER_1, "line")
    assert len(failures) == 1
    assert "ps:0" in failures[0]
    assert "No space left" in failures[0]
    assert (tmp_path / "worker-1.log").read_text() == "line\n"
