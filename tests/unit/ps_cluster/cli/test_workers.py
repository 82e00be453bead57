"""What ``shardscope workers`` prints of a group that it has asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from ps_cluster.cli.workers import _drawn, _print, _Watch
from ps_cluster.inspection.training import how_silence_ends
from tests.unit.ps_cluster.inspection.test_training import REPORT


def test_below_the_table_it_is_said_how_silent_workers_leave(capsys: pytest.CaptureFixture[str]) -> None:
    _print({"adam": REPORT})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("adam: ssp(3), round 7")
    assert " ".join(lines[4:]).split() == how_silence_ends(REPORT).split()


def test_on_a_narrow_terminal_it_is_said_to_the_end_who_is_waited_for() -> None:
    report = replace(REPORT, policy="sync(2, total=3, on_missing=wait, missing_timeout_s=20)")
    console = Console(width=80, height=24)
    with console.capture() as capture:
        console.print(_drawn(_Watch(dict, {"adam": report}, 10.0), console))
    shown = " ".join(capture.get().split())
    assert "round 7, 1 live, waits for worker:1 (silent, last seen" in shown
    assert shown.index(" s ago) worker status") > 0
