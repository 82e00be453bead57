from __future__ import annotations

import json
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from ps_cluster.inspection.training import (
    WORKERS_DROPPABLE,
    group_records,
    heading,
    how_silence_ends,
    missing,
    seen_by_heartbeats,
    workers_table,
)
from ps_cluster.inspection.views import print_table
from ps_protocol.service_types import Member, MemberState
from ps_protocol.training.round_messages import Awaited
from tests.unit.ps_cluster.fakes import member, variable
from worker_client.objects.training_report import TrainingReport, WorkerTally, group_names

NOW_S = 1000.0
TALLY = WorkerTally("worker:0", 0, "live", "waits for worker:1", 8, 990.0, 7, 1, 2, 0, 1, 3, 0, 2, waits=True)
SILENT = replace(
    TALLY, worker="worker:1", seat=1, status="silent", does="is waited for", waits=False, last_seen_s=940.0
)
REPORT = TrainingReport("ssp(3)", 7, 1, 0, (Awaited("worker:1", True, 940.0),), (TALLY, SILENT))


def test_groups_are_the_objects_of_their_kind_that_somebody_has_joined() -> None:
    rounds = [variable(name, ()) for name in ("rounds/b", "rounds/a", "rounds/not joined since a restore")]
    dtypes = [np.dtype(name) for name in ("S9", "S7", "S1")]
    infos = [
        replace(each, spec=replace(each.spec, object_kind="rounds", dtype=dtype))
        for each, dtype in zip(rounds, dtypes, strict=True)
    ]
    stamp = variable("rounds/a/stamp/0", (2,))
    assert group_names([*infos, variable("w", ()), stamp]) == ["a", "b"]


def test_a_group_is_a_line_and_a_row_for_each_worker(capsys: pytest.CaptureFixture[str]) -> None:
    assert heading("adam", REPORT, NOW_S) == (
        "adam: ssp(3), round 7, 1 live, waits for worker:1 (silent, last seen 60.0 s ago)"
    )
    print_table(workers_table(REPORT, NOW_S), WORKERS_DROPPABLE)
    table = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in table]
    assert cells[1] == ["worker:0", "live", "7", "2", "1", "0", "1 of 3", "0 of 2", "10 s ago", "waits for worker:1"]
    assert cells[2][:2] == ["worker:1", "silent"]


def test_of_silent_workers_it_is_said_how_they_come_back_or_leave() -> None:
    assert how_silence_ends(replace(REPORT, workers=(TALLY,))) == ""
    assert how_silence_ends(REPORT) == (
        "worker:1: stopped, hanging or dead. A silent worker counts again with its next step, and leaves when a "
        "process joins as it, or with the run."
    )
    many = tuple([replace(SILENT, worker=f"worker:{index}") for index in range(1, 6)])
    assert how_silence_ends(replace(REPORT, workers=many)).startswith("worker:1, worker:2 and 3 more: stopped")
    assert how_silence_ends(replace(REPORT, ended="training stopped after round 7")) == ""


def test_a_run_that_is_over_says_why_and_waits_for_nobody() -> None:
    over = replace(REPORT, ended="training stopped after round 7")
    assert heading("adam", over, NOW_S).endswith(", training stopped after round 7")
    assert missing({"adam": over}, NOW_S) == []


def test_who_is_missing_is_said_in_a_line() -> None:
    assert missing({"adam": REPORT}, NOW_S) == ["adam: round 8 waits for worker:1 (silent, last seen 60.0 s ago)"]
    shrunk = replace(REPORT, awaited=(Awaited("worker:0", False, 999.0),))
    assert missing({"adam": shrunk}, NOW_S) == [
        "adam: round 8 waits for worker:0 (last seen 1.0 s ago), and goes on without worker:1"
    ]
    assert missing({"adam": replace(REPORT, awaited=(), workers=(TALLY,))}, NOW_S) == []


def test_heartbeats_count_as_signs_of_life() -> None:
    beating = seen_by_heartbeats(REPORT, {"worker:1": replace(member("worker:1"), last_seen_s=999.0)})
    assert [each.last_seen_s for each in beating.workers] == [990.0, 999.0]
    assert beating.awaited[0].last_seen_s == 999.0


def test_a_worker_whose_process_has_ended_is_not_only_silent() -> None:
    process = member("worker:1")
    report = replace(REPORT, workers=(TALLY, replace(SILENT, incarnation=f"{process.incarnation}")))

    def shown(ended: Member) -> str:
        return seen_by_heartbeats(report, {"worker:1": ended}).workers[1].status

    failed = replace(process, state=MemberState.DEAD, end="exit code 1")
    assert shown(failed) == "failed"
    assert shown(replace(process, state=MemberState.LEFT)) == "left"
    assert shown(replace(process, state=MemberState.DEAD)) == "silent", "its lease has run out: it may be stopped"
    assert shown(replace(failed, incarnation=UUID(int=99))) == "silent", "another process"
    finished = seen_by_heartbeats(replace(report, workers=(replace(SILENT, status="finished"),)), {"worker:1": failed})
    assert finished.workers[0].status == "finished"
    awaiting = seen_by_heartbeats(replace(report, awaited=()), {"worker:1": failed})
    assert missing({"adam": awaiting}, NOW_S) == ["adam: round 8 goes on without worker:1"]


def test_nobody_is_waited_for_while_all_compute() -> None:
    computing = replace(TALLY, does="computes for round 8 on the model 7", waits=False)
    awaited = tuple([Awaited(f"worker:{index}", False, 999.0) for index in range(3)])
    seats = [replace(computing, worker=f"worker:{index}", seat=index) for index in range(3)]
    report = replace(REPORT, quorum=3, awaited=awaited, workers=tuple(seats))
    assert heading("adam", report, NOW_S) == "adam: ssp(3), round 7, 3 live, all computing"
    assert missing({"adam": report}, NOW_S) == []
    one = replace(report, quorum=1, awaited=awaited[:1], workers=(computing,))
    assert heading("adam", one, NOW_S) == "adam: ssp(3), round 7, 1 live, computing"
    waiting = replace(report, awaited=awaited[1:], workers=(replace(computing, waits=True), *seats[1:]))
    assert heading("adam", waiting, NOW_S).endswith(
        "3 live, waits for worker:1 (last seen 1.0 s ago), worker:2 (last seen 1.0 s ago)"
    )


def test_programs_are_given_json() -> None:
    (record,) = json.loads(json.dumps(group_records({"adam": REPORT})))
    assert (record["group"], record["policy"], record["round"]) == ("adam", "ssp(3)", 7)
    assert record["awaited"][0]["worker"] == "worker:1"
    assert record["workers"][1]["late"] == 2


def test_of_many_that_a_round_waits_for_the_silent_are_named_and_the_others_counted() -> None:
    awaited = tuple([Awaited(f"worker:{index}", False, 999.0) for index in range(4)])
    assert heading("adam", replace(REPORT, awaited=awaited), NOW_S).endswith("1 live, waits for 4 workers")
    awaited = (*awaited, Awaited("worker:9", True, 960.0))
    said = "waits for worker:9 (silent, last seen 40.0 s ago) and 4 others"
    assert heading("adam", replace(REPORT, awaited=awaited), NOW_S).endswith(said)


def test_workers_are_in_the_order_of_their_tasks() -> None:
    seats = [replace(TALLY, worker=f"worker:{index}", seat=seat) for seat, index in enumerate((10, 2, 0))]
    cells = [str(each) for each in workers_table(replace(REPORT, workers=tuple(seats)), NOW_S).columns[0].cells]
    assert cells == ["worker:0", "worker:2", "worker:10"]
