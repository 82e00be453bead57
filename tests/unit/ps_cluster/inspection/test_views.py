from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest
from rich.table import Table

from ps_cluster.inspection.queries import PsAnswer
from ps_cluster.inspection.views import (
    member_records,
    member_table,
    print_table,
    ps_records,
    ps_table,
    variable_records,
    variable_table,
)
from ps_protocol.errors import UnavailableError
from ps_protocol.operations import PartitionSlice
from ps_protocol.service_types import DurabilityMode, DurabilityStatus, MemberState, ReplicaRole, VariableInfo
from ps_protocol.task_id import TaskId
from tests.unit.ps_cluster.fakes import member, replica_status, status_of, variable

PS_0, PS_1, PS_2 = (TaskId("ps", index) for index in range(3))


def printed(table: Table, capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    print_table(table)
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def answers() -> list[PsAnswer[list[VariableInfo]]]:
    return [
        PsAnswer(PS_0, "a:1", value=[variable("dense/weights", (64, 32)), variable("z", ())]),
        PsAnswer(PS_1, "b:2", value=[variable("dense/biases", (32,), initialized=False)]),
        PsAnswer(TaskId("ps", 2), "c:3", error=UnavailableError("gone")),
    ]


def test_variables_are_listed_by_name_whatever_their_task(capsys: pytest.CaptureFixture[str]) -> None:
    records = variable_records(answers())
    assert [record["name"] for record in records] == ["dense/biases", "dense/weights", "z"]
    assert records[1] == {
        "name": "dense/weights",
        "shape": [64, 32],
        "dtype": "float32",
        "bytes": 8192,
        "task": "ps:0",
        "version": 5,
        "initialized": True,
        "slice": None,
    }
    assert printed(variable_table(records), capsys) == [
        ["name", "shape", "dtype", "bytes", "task", "version", "initialized"],
        ["dense/biases", "[32]", "float32", "128", "ps:1", "5", "no"],
        ["dense/weights", "[64,", "32]", "float32", "8,192", "ps:0", "5", "yes"],
        ["z", "[]", "float32", "4", "ps:0", "5", "yes"],
    ]


def test_a_part_says_where_it_belongs() -> None:
    whole = variable("table/part_1", (10, 4))
    spec = dataclasses.replace(whole.spec, slice=PartitionSlice("table", (20, 4), (10, 0)))
    [record] = variable_records([PsAnswer(PS_0, "a:1", value=[dataclasses.replace(whole, spec=spec)])])
    assert record["slice"] == {"full_name": "table", "full_shape": [20, 4], "offset": [10, 0]}


def test_a_long_name_is_not_cut_where_a_program_may_read_it(capsys: pytest.CaptureFixture[str]) -> None:
    name = "/".join(["a_rather_long_scope_name"] * 20)
    rows = printed(variable_table(variable_records([PsAnswer(PS_0, "a:1", value=[variable(name, (1,))])])), capsys)
    assert rows[1][0] == name


def test_what_a_program_may_read_has_no_blanks_at_the_end_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(variable_table(variable_records(answers())))
    lines = capsys.readouterr().out.splitlines()
    assert lines == [line.rstrip() for line in lines]


def test_ps_tasks_that_have_answered_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    records = ps_records(
        [
            PsAnswer(PS_0, "a:1", value=status_of("ps:0", bytes_received=1 << 20)),
            PsAnswer(PS_1, "b:2", error=UnavailableError("gone")),
        ]
    )
    assert [(record["task"], record["address"], record["state"]) for record in records] == [("ps:0", "a:1", "serving")]
    _, cells = printed(ps_table(records), capsys)
    assert cells == ["ps:0", "a:1", "serving", "12", "s", "4", "2.0", "KiB", "3", "11", "1.0", "MiB", "1.0", "KiB"]


def test_what_is_kept_is_listed_where_anything_is(capsys: pytest.CaptureFixture[str]) -> None:
    journal = DurabilityStatus(DurabilityMode.JOURNAL, 9, 7, 5, 100, 1e9, 300)
    statuses = [
        status_of("ps:0"),
        replace(status_of("ps:1"), durability=journal),
        replace(status_of("ps:2"), durability=replace(journal, obstacle="the disk is full")),
    ]
    records = ps_records([PsAnswer(TaskId("ps", i), "a:1", value=status) for i, status in enumerate(statuses)])
    assert [record["durability"] and record["durability"]["mode"] for record in records] == [None, "journal", "journal"]
    assert records[1]["durability"] == {
        "mode": "journal",
        "last_position": 9,
        "committed_position": 7,
        "snapshot_position": 5,
        "snapshot_bytes": 100,
        "snapshot_taken_at_s": 1e9,
        "journal_bytes": 300,
        "obstacle": "",
    }
    heading, *rows = [" ".join(cells) for cells in printed(ps_table(records), capsys)]
    assert heading.endswith("sent kept")
    assert [row.partition("KiB 3 11 0 B 1.0 KiB ")[2] for row in rows] == [
        "nothing",
        "journal",
        "journal: the disk is full",
    ]
    assert "kept" not in printed(ps_table(records[:1]), capsys)[0]


def test_roles_and_epochs_are_listed_where_a_task_has_a_backup(capsys: pytest.CaptureFixture[str]) -> None:
    statuses = {
        PS_0: replica_status("ps:0", ReplicaRole.PRIMARY, epoch=2, has_backup=True),
        PS_1: replica_status("ps:1", ReplicaRole.PRIMARY, epoch=12, obstacle="backup:1: away (with details). Check it"),
        TaskId("backup", 0): replica_status("ps:0", ReplicaRole.BACKUP, epoch=2),
        TaskId("backup", 1): replica_status("ps:1", ReplicaRole.CATCHING_UP, epoch=12),
        PS_2: status_of("ps:2"),
    }
    records = ps_records([PsAnswer(task, "a:1", value=status) for task, status in statuses.items()])
    assert records[1]["task"] == "ps:1"
    assert records[1]["replication"] == {
        "role": "primary",
        "epoch": 12,
        "has_backup": False,
        "obstacle": "backup:1: away (with details). Check it",
    }
    assert (records[3]["task"], records[3]["replication"]["role"]) == ("backup:1", "catching_up")
    assert records[4]["replication"] is None
    heading, *rows = [" ".join(cells) for cells in printed(ps_table(records), capsys)]
    assert heading.endswith("sent epoch role")
    assert [row.partition("KiB 3 11 0 B 1.0 KiB")[2].strip() for row in rows] == [
        "2 primary",
        "12 alone: backup:1: away",
        "2 backup",
        "12 catching up",
        "",
    ]


def test_all_tasks_are_listed_with_how_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    members = [
        member("worker:0", state=MemberState.DEAD),
        member("worker:1", step=3, state=MemberState.LATE),
        member("ps:0"),
        member("worker:2", state=MemberState.LEFT),
    ]
    rows = printed(member_table(member_records(members), now_s=1003.0), capsys)
    assert rows[0] == ["task", "state", "host", "pid", "steps", "since", "last", "seen"]
    assert [" ".join(row) for row in rows[1:]] == [
        "ps:0 active host 77 3 s ago 2 s ago",
        "worker:0 dead host 77 0 3 s ago 2 s ago",
        "worker:1 late host 77 3 3 s ago 2 s ago",
        "worker:2 left host 77 0 3 s ago 2 s ago",
    ]


def test_members_are_listed_by_number_with_how_long_ago(capsys: pytest.CaptureFixture[str]) -> None:
    records = member_records([member("worker:10", step=1500), member("worker:2")])
    assert [record["task"] for record in records] == ["worker:2", "worker:10"]
    _, first, cells = printed(member_table(records, now_s=1000.0 + 3 * 3600), capsys)
    assert first[0] == "worker:2"
    assert " ".join(cells) == "worker:10 active host 77 1,500 3 h 0 min ago 2 h 59 min ago"
