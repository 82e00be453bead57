"""What is written down beside the figures."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.harness.record import command_of, new_record, write


def test_the_command_has_no_place_on_this_machine() -> None:
    arguments = [
        "--rounds",
        "7",
        "--peer",
        "ray=/opt/ray/bin/python",
        "--json",
        "/home/me/figures.json",
        "--scale",
        "full",
    ]
    expected = "python -m benchmarks --rounds 7 --peer ray=PYTHON --scale full"
    assert command_of("benchmarks", arguments) == expected
    assert command_of("benchmarks", ["--json=figures.json"]) == "python -m benchmarks"


def test_a_record_says_when_on_what_and_with_what(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write(new_record("cpu", "benchmarks.cpu", {"cases": []}), path)
    record = json.loads(path.read_text())
    assert record["benchmark"] == "cpu"
    assert record["results"] == {"cases": []}
    assert record["machine"]["cores"] >= 1
    assert {"python", "numpy", "shardscope"} <= set(record["versions"])
    assert record["date"].endswith("+00:00")
