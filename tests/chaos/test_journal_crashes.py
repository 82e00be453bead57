"""A process that writes a journal is killed at any moment: what it acknowledged is there, whole and in order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.ps_server.journal_records import positions

pytestmark = pytest.mark.chaos


def run_until_killed(directory: Path, faults: str = "", *, after: int = 0, lines: int = 0) -> tuple[int, int]:
    """Runs a writing process until it is killed or ends; returns what it acknowledged last, and its last snapshot."""
    environ = {**os.environ, "SHARDSCOPE_FAULTS": faults, "SHARDSCOPE_FAULT_LOG": str(directory.parent / "fired")}
    command = [sys.executable, "-m", "tests.unit.ps_server.journal_records", str(directory), "60", str(after)]
    acknowledged = snapshot = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as writer:
        assert writer.stdout is not None
        for number, line in enumerate(writer.stdout):
            if line.startswith("snapshot "):
                snapshot = int(line.removeprefix("snapshot "))
            else:
                acknowledged = int(line)
            if number == lines - 1:
                writer.kill()
    return acknowledged, snapshot


def test_whenever_it_is_killed_everything_acknowledged_is_there(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    snapshot = acknowledged = 0
    for lines in (1, 3, 4, 9, 17):
        last, taken = run_until_killed(directory, after=snapshot, lines=lines)
        acknowledged, snapshot = max(acknowledged, last), max(snapshot, taken)
        found = positions(directory, after=snapshot)
        assert found == list(range(snapshot + 1, found[-1] + 1))
        assert found[-1] >= acknowledged
    assert acknowledged > 20


@pytest.mark.parametrize(
    "place",
    [
        "journal.before_commit@3",
        "journal.after_commit@4",
        "journal.new_file@1",
        "journal.new_file@4",
        "journal.file_made@3",
        "journal.file_named@3",
        "journal.set_aside@2",
        "journal.set_aside@3",
        "journal.drop@2",
    ],
)
def test_wherever_it_crashes_everything_acknowledged_is_there(tmp_path: Path, place: str) -> None:
    directory = tmp_path / "data"
    name, _, number = place.partition("@")
    acknowledged, snapshot = run_until_killed(directory, f"{name}=crash@{number}")
    assert name in (tmp_path / "fired").read_text()
    found = positions(directory, after=snapshot)
    last = found[-1] if found else snapshot
    assert found == list(range(snapshot + 1, last + 1))
    assert last >= acknowledged
    # And it goes on from there, leaving nothing behind.
    again, snapshot_again = run_until_killed(directory, after=snapshot)
    assert again >= last + 60
    assert positions(directory, after=max(snapshot, snapshot_again))[-1] == again
    assert not [path for path in directory.iterdir() if path.name.startswith(".") or path.suffix == ".dropped"]
