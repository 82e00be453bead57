from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from ps_cluster.inspection.queries import PsAnswer
from ps_cluster.inspection.views import (
    MEMBER_DROPPABLE,
    PS_DROPPABLE,
    member_records,
    member_table,
    print_table,
    ps_records,
    ps_table,
    variable_droppable,
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
        "object_kind": "",
        "bytes": 8192,
        "task": "ps:0",
        "version": 5,
        "initialized": True,
        "slice": None,
        "slot_of": "",
    }
    assert printed(variable_table(records), capsys) == [
        ["name", "shape", "dtype", "bytes", "task", "version", "initialized"],
        ["dense/biases", "[32]", "float32", "128", "ps:1", "5", "no"],
        ["dense/weights", "[64,", "32]", "float32", "8,192", "ps:0", "5", "yes"],
        ["z", "[]", "float32", "4", "ps:0", "5", "yes"],
    ]


def test_a_shared_object_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    info = variable("barrier/epoch", ())
    spec = dataclasses.replace(info.spec, dtype=np.dtype("S128"), object_kind="barrier")
    answer = PsAnswer(PS_0, "a:1", value=[dataclasses.replace(info, spec=spec, size_bytes=128)])
    (record,) = variable_records([answer])
    assert (record["object_kind"], record["dtype"]) == ("barrier", "S128")
    assert printed(variable_table([record]), capsys)[1] == ["barrier/epoch", "[]", "barrier", "128", "ps:0", "5", "yes"]


def test_a_part_says_where_it_belongs() -> None:
    whole = variable("table/part_1", (10, 4))
    spec = dataclasses.replace(whole.spec, slice=PartitionSlice("table", (20, 4), (10, 0)))
    [record] = variable_records([PsAnswer(PS_0, "a:1", value=[dataclasses.replace(whole, spec=spec)])])
    assert record["slice"] == {"full_name": "table", "full_shape": [20, 4], "offset": [10, 0]}


def test_a_long_name_is_not_cut_where_a_program_may_read_it(capsys: pytest.CaptureFixture[str]) -> None:
    name = "/".join(["a_rather_long_scope_name"] * 20)
    rows = printed(variable_table(variable_records([PsAnswer(PS_0, "a:1", value=[variable(name, (1,))])])), capsys)
    assert rows[1][0] == name


def test_slots_are_listed_after_their_variable_and_marked(capsys: pytest.CaptureFixture[str]) -> None:
    held = [
        variable(name, (2, 3), slot_of=slot_of)
        for name, slot_of in [
            ("w", ""),
            ("w-2", ""),
            ("w/Adam/m", "w"),
            ("w/Adam/m/average", "w/Adam/m"),
            ("w/Adam/v", "w"),
            ("a/of_w", "w"),
            ("lost", "gone"),
        ]
    ]
    records = variable_records([PsAnswer(PS_0, "a:1", value=held)])
    assert [(record["name"], record["slot_of"]) for record in records] == [
        ("lost", "gone"),
        ("w", ""),
        ("a/of_w", "w"),
        ("w/Adam/m", "w"),
        ("w/Adam/m/average", "w/Adam/m"),
        ("w/Adam/v", "w"),
        ("w-2", ""),
    ]
    print_table(variable_table(records))
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("w ")
    assert lines[4].startswith("  w/Adam/m ")
    assert lines[4].split()[-1] == "w"
    assert lines[2].split()[-1] == "yes"


def test_a_narrow_terminal_shows_slots_without_whose_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("layer_1/dense/weights", "layer_1/dense/weights/Adam/m", "layer_1/dense/weights/Adam/v")
    held = [variable(name, (256, 128), slot_of="" if name == names[0] else names[0]) for name in names]
    records = variable_records([PsAnswer(PS_0, "a:1", value=held)])
    lines = shown(variable_table(records), variable_droppable(records), capsys, monkeypatch)
    assert [line.split()[0] for line in lines[1:4]] == list(names)
    assert "slot of" in lines[-1]


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


def test_work_in_the_background_that_fails_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    statuses = [status_of("ps:0"), replace(status_of("ps:1"), troubles=("snapshots: no descriptor", "heartbeats: x"))]
    records = ps_records([PsAnswer(TaskId("ps", i), "a:1", value=status) for i, status in enumerate(statuses)])
    assert [record["troubles"] for record in records] == [[], ["snapshots: no descriptor", "heartbeats: x"]]
    heading, well, troubled = [" ".join(cells) for cells in printed(ps_table(records), capsys)]
    assert heading.endswith("sent trouble")
    assert well.endswith("KiB")
    assert troubled.endswith("snapshots: no descriptor; heartbeats: x")
    assert "trouble" not in printed(ps_table(records[:1]), capsys)[0]


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
        "worker:0 dead host 77 3 s ago 2 s ago",
        "worker:1 late host 77 3 3 s ago 2 s ago",
        "worker:2 left host 77 3 s ago 2 s ago",
    ]


def test_members_are_listed_by_number_with_how_long_ago(capsys: pytest.CaptureFixture[str]) -> None:
    records = member_records([member("worker:10", step=1500), member("worker:2")])
    assert [record["task"] for record in records] == ["worker:2", "worker:10"]
    _, first, cells = printed(member_table(records, now_s=1000.0 + 3 * 3600), capsys)
    assert first[0] == "worker:2"
    assert " ".join(cells) == "worker:10 active host 77 1,500 3 h 0 min ago 2 h 59 min ago"


# -- on a terminal --------------------------------------------------------------------------------


def shown(
    table: Table,
    droppable: Sequence[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    width: int = 80,
) -> list[str]:
    """The lines on a terminal without colours."""
    terminal = partial(Console, force_terminal=True, color_system=None, width=width)
    monkeypatch.setattr("ps_cluster.inspection.views.Console", terminal)
    print_table(table, droppable)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    return [line.rstrip() for line in lines]


def cell(lines: Sequence[str], heading: str, next_heading: str = "", between: str = "") -> str:
    """What stands under a heading in a table of one row, with what goes on in the next lines."""
    start, end = lines[0].index(heading), lines[0].index(next_heading) if next_heading else None
    rows = takewhile(lambda line: not line.startswith("Not shown"), lines[1:])
    return between.join(part for line in rows if (part := line[start:end].strip()))


def test_eighty_columns_show_every_task_and_address_and_say_what_they_leave_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    durable = DurabilityStatus(DurabilityMode.JOURNAL, 1, 1, 0, 0, 0.0, 0, "")
    statuses = [
        PsAnswer(
            TaskId("ps", index), f"127.0.0.1:4000{index}", value=replace(status_of(f"ps:{index}"), durability=durable)
        )
        for index in range(3)
    ]
    lines = shown(ps_table(ps_records(statuses)), PS_DROPPABLE, capsys, monkeypatch)
    assert [line.split()[:3] for line in lines[1:4]] == [
        [f"ps:{index}", f"127.0.0.1:4000{index}", "serving"] for index in range(3)
    ]
    assert lines[0].split() == ["task", "address", "state", "up", "variables", "held", "clients", "kept"]
    assert lines[4] == "Not shown, for a wider terminal or --json: operations, received, sent"


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_long_address_goes_on_in_the_next_line_and_is_not_cut(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "ps-0.parameter-servers.some-rather-long-namespace.svc.cluster.local:22222"
    table = ps_table(ps_records([PsAnswer(PS_0, address, value=status_of("ps:0"))]))
    lines = shown(table, PS_DROPPABLE, capsys, monkeypatch, width)
    assert cell(lines, "address", "state") == address
    assert lines[1].startswith("ps:0")
    assert any(line.startswith("Not shown, for a wider terminal") for line in lines)


def test_a_role_that_has_much_to_say_leaves_the_tasks_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status = replica_status("ps:1", ReplicaRole.PRIMARY, has_backup=False)
    assert status.replication is not None
    obstacle = "ps:1 at 127.0.0.1:40001: it is catching up with what was acknowledged meanwhile"
    status = replace(status, replication=replace(status.replication, obstacle=obstacle))
    table = ps_table(ps_records([PsAnswer(TaskId("backup", 1), "127.0.0.1:40003", value=status)]))
    lines = shown(table, PS_DROPPABLE, capsys, monkeypatch)
    assert lines[1].split()[:3] == ["backup:1", "127.0.0.1:40003", "serving"]
    assert cell(lines, "role", between=" ") == f"alone: {obstacle}"


def test_a_long_name_of_a_variable_goes_on_in_the_next_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "a_rather_long_scope/and_another_one/tower_17/the_weights_of_the_embedding_layer/part_12"
    records = variable_records([PsAnswer(PS_1, "a:1", value=[variable(name, (64, 32))])])
    lines = shown(variable_table(records), variable_droppable(records), capsys, monkeypatch)
    assert cell(lines, "name", "shape") == name
    assert lines[1].endswith("[64, 32]  float32  ps:1")
    assert lines[-1] == "Not shown, for a wider terminal or --json: bytes, version, initialized"


def test_how_a_worker_has_ended_is_shown_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = replace(
        member("worker:12", step=1_234_567, state=MemberState.DEAD), host="a-host-of-ours", end="signal SIGKILL"
    )
    lines = shown(member_table(member_records([dead]), 5000.0), MEMBER_DROPPABLE, capsys, monkeypatch)
    assert re.match(r"worker:12 +dead: signal SIGKILL ", lines[1])
    assert lines[1].endswith("66 min ago")


EVIL = "a\x1b]0;title\x07\x1b[2J\nps:9  [red]b\u202ec"
SHOWN = r"a\x1b]0;title\x07\x1b[2J\nps:9  [red]b\u202ec"


def test_what_others_have_named_does_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    named = variable_records([PsAnswer(PS_0, "a:1", value=[variable(EVIL, (1,))])])
    slots = [{**named[0], "slot_of": EVIL, "dtype": EVIL, "task": EVIL}]
    durability = DurabilityStatus(DurabilityMode.JOURNAL, 1, 1, 0, 0, 0.0, 0, EVIL)
    status = dataclasses.replace(status_of("ps:0"), durability=durability)
    of_ps = ps_records([PsAnswer(PS_0, EVIL, value=status)])
    of_members = member_records([dataclasses.replace(member("worker:0", state=MemberState.DEAD), host=EVIL, end=EVIL)])
    tables = (variable_table(named), variable_table(slots), ps_table(of_ps), member_table(of_members, 100.0))
    times = (1, 4, 2, 2)
    for table, count in zip(tables, times, strict=True):
        print_table(table)
        printed_text = capsys.readouterr().out
        assert printed_text.count("\n") == 2
        assert printed_text.replace("\n", "").isprintable()
        assert printed_text.count(SHOWN) == count
    # for programs it stays as it is, in JSON
    assert (named[0]["name"], of_members[0]["host"]) == (EVIL, EVIL)
    assert json.dumps(of_members).isprintable()
