"""Updates and reads in order have the values that TensorFlow gave them: a replay of recorded programs."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.conformance import __main__ as command
from tests.conformance import replay

RECORDS = replay.records(replay.TRACES / "running.jsonl")


def test_the_programs_are_all_there() -> None:
    assert len(RECORDS) == 150


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"seed{record['seed']}")
def test_program_as_recorded(record: dict[str, Any]) -> None:
    assert replay.first_difference(record) == ""


def test_a_program_with_other_values_is_a_difference(capsys: pytest.CaptureFixture[str]) -> None:
    changed = copy.deepcopy(RECORDS[0])
    changed["result"][-1][0] = 12345.0
    assert "expected [12345.0" in replay.first_difference(changed)
    assert command.main([str(replay.TRACES / "running.jsonl")]) == 0
    assert capsys.readouterr().out == "150 of 150 programs\n"
