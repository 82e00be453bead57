"""Replays recorded programs against this implementation and compares the traces."""

from __future__ import annotations

import importlib.util
import json
from itertools import zip_longest
from pathlib import Path
from types import ModuleType
from typing import Any

import worker_client.compat.v1 as tf

REFERENCE = Path(__file__).parent / "reference"
TRACES = REFERENCE / "traces"


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


scope_programs = _module(REFERENCE / "scope_programs.py")
running_programs = _module(REFERENCE / "running_programs.py")


def records(path: Path) -> list[dict[str, Any]]:
    """Returns the programs of a file with their recorded traces."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def first_difference(record: dict[str, Any]) -> str:
    """Runs one program; returns where what it does first differs from what is recorded, "" if nowhere."""
    return _first_other_event(record) if "trace" in record else _first_other_values(record)


def _first_other_values(record: dict[str, Any]) -> str:
    steps, kinds = running_programs.execute(tf, record["program"])
    for index, (reference, values) in enumerate(zip_longest(record["result"], steps)):
        if values != reference:
            return f"seed {record['seed']}, values {index} (reads: {kinds}): expected {reference}, got {values}"
    return ""


def _first_other_event(record: dict[str, Any]) -> str:
    trace = scope_programs.Interpreter(tf).run(record["program"])
    missing = ["missing"]
    for index, (reference, event) in enumerate(zip_longest(record["trace"], trace, fillvalue=missing)):
        if not scope_programs.same_event(reference, event):
            return f"seed {record['seed']}, event {index}: expected {reference}, got {event}"
    return ""
