"""Device strings are parsed and nested as TensorFlow does it: a replay of the recorded cases."""

from __future__ import annotations

import json
from typing import Any

import pytest

import worker_client.compat.v1 as tf
from tests.conformance import replay

CASES: list[dict[str, Any]] = json.loads((replay.TRACES / "devices.json").read_text(encoding="utf-8"))


def outcome(case: dict[str, Any]) -> dict[str, Any]:
    try:
        if "parse" in case:
            return {"result": tf.DeviceSpec.from_string(case["parse"]).to_string()}
        with tf.Graph().as_default(), tf.device(case["outer"]), tf.device(case["inner"]):
            return {"result": tf.constant(1.0).device}
    except Exception as error:  # noqa: BLE001 - whatever it raises is the outcome
        return {"error": type(error).__name__}


def test_the_cases_are_all_there() -> None:
    assert len(CASES) == 126


@pytest.mark.parametrize("case", CASES, ids=json.dumps)
def test_device_as_recorded(case: dict[str, Any]) -> None:
    assert outcome(case) == {key: case[key] for key in ("result", "error") if key in case}
