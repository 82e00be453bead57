"""What is recorded of TensorFlow's synchronous training is whole, and the same on every machine."""

from __future__ import annotations

import re

from tests.conformance import replay
from tests.conformance.reference.sync_training import PROGRAMS

PATH = replay.TRACES / "sync_training.jsonl"
RECORDS = replay.records(PATH)
PAGE = (replay.REFERENCE / "sync_training.md").read_text(encoding="utf-8")


def test_each_program_is_recorded_once_and_in_order() -> None:
    assert [record["program"] for record in RECORDS] == list(PROGRAMS)
    assert len(RECORDS) > 200


def test_each_record_has_named_notes() -> None:
    for record in RECORDS:
        assert record.keys() == {"program", "notes"}
        assert record["notes"], record["program"]
        for name, _ in record["notes"]:
            assert name, record["program"]


def test_errors_are_recorded_with_their_message_and_without_places() -> None:
    errors = [note for record in RECORDS for _, note in record["notes"] if isinstance(note, dict) and "error" in note]
    assert len(errors) > 200
    assert all({"error", "message"} <= error.keys() <= {"error", "message", "op"} for error in errors)
    text = PATH.read_text(encoding="utf-8")
    assert re.findall(r"localhost:\d+|site-packages|\w+\.py\b|0x[0-9a-f]{6,}", text) == []


def test_the_page_names_records_that_are_there() -> None:
    rows = [line.strip("| ").rpartition("| ")[2] for line in PAGE.splitlines() if line.startswith("|")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert len(named) > 80
    assert sorted(named - set(PROGRAMS)) == []
