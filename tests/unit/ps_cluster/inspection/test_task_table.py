from __future__ import annotations

import io

import pytest
from rich.console import Console

from ps_cluster.inspection.task_table import TaskRow, format_size, render_table, summary_line, task_row
from ps_cluster.inspection.watcher import ClusterSnapshot
from ps_protocol.service_types import ReplicaRole, ServingState
from ps_protocol.task_id import TaskId
from tests.unit.ps_cluster.fakes import member, replica_status, status_of

PS_0, WORKER_0 = TaskId("ps", 0), TaskId("worker", 0)
SNAPSHOT = ClusterSnapshot(
    statuses={PS_0: status_of("ps:0", bytes_received=5 << 20), TaskId("ps", 1): None},
    members={"worker:0": member("worker:0", step=1200)},
    steps_per_s={"worker:0": 35.04},
)


def rendered(rows: list[TaskRow], width: int = 120) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(render_table(rows, width))
    return [line.split() for line in capture.get().splitlines()]


def test_a_ps_shows_what_it_holds_and_moves() -> None:
    row = task_row(PS_0, "running", 11, "", SNAPSHOT)
    assert (row.state, row.num_variables, row.variable_bytes, row.bytes_received) == ("running", 4, 2048, 5 << 20)
    heading, cells = rendered([row])
    assert heading == ["task", "state", "pid", "steps", "steps/s", "variables", "held", "received", "sent"]
    assert cells == ["ps:0", "running", "11", "4", "2.0", "KiB", "5.0", "MiB", "1.0", "KiB"]


def test_a_worker_shows_how_far_and_how_fast_it_is() -> None:
    _, cells = rendered([task_row(WORKER_0, "running", 12, "epoch 3", SNAPSHOT)])
    assert cells == ["worker:0", "running", "12", "1,200", "35.0", "epoch", "3"]


def test_a_worker_that_is_done_keeps_its_steps_but_has_no_speed() -> None:
    row = task_row(WORKER_0, "done", 12, "epoch 3", SNAPSHOT)
    assert (row.step, row.steps_per_s, row.progress) == (1200, None, "")


def test_a_ps_that_does_not_answer_is_said_so_only_while_it_runs() -> None:
    assert task_row(TaskId("ps", 1), "running", 11, "", SNAPSHOT).state == "no answer"
    assert task_row(TaskId("ps", 1), "signal SIGKILL", 11, "", SNAPSHOT).state == "signal SIGKILL"
    assert task_row(TaskId("ps", 2), "running", 11, "", SNAPSHOT).state == "running"


def test_a_draining_ps_is_said_so() -> None:
    snapshot = ClusterSnapshot(statuses={PS_0: status_of("ps:0", state=ServingState.DRAINING)})
    assert task_row(PS_0, "running", 11, "", snapshot).state == "draining"
    assert task_row(PS_0, "done", 11, "", snapshot).state == "done"


@pytest.mark.parametrize(
    ("role", "has_backup", "state"),
    [
        (ReplicaRole.PRIMARY, True, "primary"),
        (ReplicaRole.PRIMARY, False, "alone"),
        (ReplicaRole.BACKUP, False, "backup"),
        (ReplicaRole.CATCHING_UP, False, "catching up"),
        (ReplicaRole.EMPTY, False, "empty"),
    ],
)
def test_a_process_of_a_pair_says_what_it_is_while_it_runs(role: ReplicaRole, has_backup: bool, state: str) -> None:
    backup = TaskId("backup", 0)
    snapshot = ClusterSnapshot(statuses={backup: replica_status("ps:0", role, has_backup=has_backup)})
    row = task_row(backup, "running", 11, "", snapshot)
    assert (row.state, row.num_variables) == (state, 4)
    assert task_row(backup, "exit code 5", 11, "", snapshot).state == "exit code 5"
    assert summary_line([row]) == f"backup:0 {state}, received 0 B, sent 1.0 KiB"


def test_a_table_is_one_line_a_task_on_a_narrow_terminal() -> None:
    rows = [task_row(WORKER_0, "running", 12, "a bar " * 40, SNAPSHOT), task_row(PS_0, "running", 1, "", SNAPSHOT)]
    for width in (60, 80, 100, 120):
        assert [line[0] for line in rendered(rows, width)] == ["task", "worker:0", "ps:0"]


def test_a_long_progress_takes_no_room_from_the_rest() -> None:
    rows = [task_row(WORKER_0, "running", 12, "#" * 300, SNAPSHOT), task_row(PS_0, "signal SIGKILL", 1, "", SNAPSHOT)]
    heading, worker, ps = rendered(rows, width=120)
    assert heading[-1] == "progress"
    assert worker[:-1] == ["worker:0", "running", "12", "1,200", "35.0"]
    assert worker[-1].startswith("####")
    assert ps[:3] == ["ps:0", "signal", "SIGKILL"]


def test_a_narrow_terminal_is_spared_what_matters_less() -> None:
    heading, cells = rendered([task_row(PS_0, "running", 11, "", SNAPSHOT)], width=80)
    assert heading == ["task", "state", "steps", "steps/s", "received", "sent"]
    assert cells == ["ps:0", "running", "5.0", "MiB", "1.0", "KiB"]


def test_the_summary_says_the_same_in_a_line() -> None:
    rows = [task_row(PS_0, "running", 11, "", SNAPSHOT), task_row(WORKER_0, "running", 12, "epoch 3", SNAPSHOT)]
    assert summary_line(rows) == (
        "ps:0 running, received 5.0 MiB, sent 1.0 KiB; worker:0 running, 1,200 steps, epoch 3"
    )


def test_a_worker_that_reports_no_steps_has_none() -> None:
    row = task_row(WORKER_0, "running", 12, "", ClusterSnapshot(members={"worker:0": member("worker:0", step=0)}))
    assert summary_line([row]) == "worker:0 running"


def test_what_is_not_known_is_left_out() -> None:
    assert (
        summary_line([TaskRow(PS_0, "starting"), TaskRow(WORKER_0, "starting")]) == "ps:0 starting; worker:0 starting"
    )


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 30, "5.0 GiB"), (3 << 50, "3,072.0 TiB")],
)
def test_sizes(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text
