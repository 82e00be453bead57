"""Scope programs give the traces that TensorFlow gave: a replay of the recorded ones."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance import __main__ as command
from tests.conformance import replay

RECORDS = replay.records(replay.TRACES / "scopes.jsonl")


def test_the_programs_are_all_there() -> None:
    assert len(RECORDS) == 400


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"seed{record['seed']}")
def test_program_as_recorded(record: dict[str, Any]) -> None:
    assert replay.first_difference(record) == ""


def test_the_command_counts_the_programs_that_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(replay.TRACES / "scopes.jsonl")]) == 0
    assert capsys.readouterr().out == "400 of 400 programs\n"
