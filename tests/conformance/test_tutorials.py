"""Whole training programs note, with one line changed, what they note with TensorFlow: losses, names, errors."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

import worker_client.compat.v1 as tf
from tests.conformance import replay
from tests.conformance.reference import tutorials
from tests.conformance.reference.tutorials.values import PROGRAMS

RECORDS = json.loads((replay.TRACES / "tutorials.json").read_text(encoding="utf-8"))


def differences(expected: Any, found: Any, place: str = "") -> list[str]:
    """Returns where two notes differ: numbers by more than rounding in some steps of training."""
    if isinstance(expected, dict) and isinstance(found, dict) and expected.keys() == found.keys():
        return [each for key in expected for each in differences(expected[key], found[key], f"{place}.{key}")]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return [each for number, pair in pairs for each in differences(*pair, f"{place}[{number}]")]
    if isinstance(expected, float) and isinstance(found, float):
        if math.isclose(expected, found, rel_tol=3e-5, abs_tol=3e-5) or (math.isnan(expected) and math.isnan(found)):
            return []
    elif type(expected) is type(found) and expected == found:
        return []
    return [f"{place}: {expected!r} is not {found!r}"]


def test_the_programs_are_all_there() -> None:
    assert [record["program"] for record in RECORDS] == list(PROGRAMS)
    assert len(RECORDS) > 60


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["program"])
def test_a_program_notes_what_it_notes_with_tensorflow(record: dict[str, Any]) -> None:
    assert differences(record, tutorials.recorded(tf, record["program"])) == []
