"""What training programs consist of makes what TensorFlow makes: operations, variables, values, errors."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

import worker_client.compat.v1 as tf
from tests.conformance import replay
from tests.conformance.reference.network_programs import PROGRAMS
from tests.conformance.reference.network_results import gradients, recorded

RECORDS = json.loads((replay.TRACES / "networks.json").read_text(encoding="utf-8"))

OTHERWISE_MADE = {program for program in PROGRAMS if "training=t" in program and "t = tf.p" in program}
"""Programs whose result has the name that it has in TensorFlow, but not the type: there are no branches here."""


def without_types(made: Any) -> Any:
    if isinstance(made, list):
        return [without_types(each) for each in made]
    if not isinstance(made, dict):
        return made
    return {key: without_types(each) for key, each in made.items() if key not in ("type", "update_ops")}


def is_close(expected: Any, found: Any) -> bool:
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(is_close, expected, found))
    if isinstance(expected, dict) and isinstance(found, dict):
        return expected.keys() == found.keys() and all(is_close(expected[key], found[key]) for key in expected)
    if isinstance(expected, float) and isinstance(found, float):
        return math.isclose(expected, found, rel_tol=1e-5, abs_tol=1e-5)
    return type(expected) is type(found) and bool(expected == found)


def test_the_programs_are_all_there() -> None:
    assert [record["program"] for record in RECORDS] == PROGRAMS
    assert sum("gradients" in record for record in RECORDS) > 60


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["program"])
def test_a_program_makes_what_tensorflows_makes(record: dict[str, Any]) -> None:
    found = recorded(tf, record["program"])
    expected = {key: each for key, each in record.items() if key != "gradients"}
    if record["program"] in OTHERWISE_MADE:
        expected, found = without_types(expected), without_types(found)
    assert is_close(expected, found), f"{expected} is not {found}"


@pytest.mark.parametrize(
    "record", [record for record in RECORDS if record.get("gradients")], ids=lambda record: record["program"]
)
def test_gradients_are_tensorflows(record: dict[str, Any]) -> None:
    found = gradients(tf, record["program"])
    assert is_close(record["gradients"], found), f"{record['gradients']} is not {found}"
