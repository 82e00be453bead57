"""What ``shardscope workers`` prints of a group that it has asked for."""

from __future__ import annotations

import pytest

from ps_cluster.cli.workers import _print
from ps_cluster.inspection.training import how_silence_ends
from tests.unit.ps_cluster.inspection.test_training import REPORT


def test_below_the_table_it_is_said_how_silent_workers_leave(capsys: pytest.CaptureFixture[str]) -> None:
    _print({"adam": REPORT})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("adam: ssp(3), round 7")
    assert " ".join(lines[4:]).split() == how_silence_ends(REPORT).split()
