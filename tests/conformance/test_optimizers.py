"""Optimizers make the steps of TensorFlow's: values and slots after each, by dense gradients and by those of rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from tests.conformance.reference import optimizer_graphs, training_program

TRACES = Path(__file__).parent / "reference" / "traces" / "optimizers.json"
ODD = TRACES.parent / "odd_optimizers.json"
CASES = [case for path in (TRACES, ODD) for case in json.loads(path.read_text(encoding="utf-8"))]


def test_all_cases_are_there() -> None:
    assert len(CASES) == 24 + 58
    assert {case["kind"] for case in CASES} == {"dense", "sparse"}


def named(case: dict[str, Any]) -> str:
    options = "-".join(f"{key}={value}" for key, value in case["options"].items())
    return f"{case['optimizer']}-{case['kind']}-{options}"


@pytest.mark.parametrize("case", CASES, ids=named)
def test_steps_are_those_of_tensorflow(case: dict[str, Any]) -> None:
    initial = np.array(case["initial"], np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.get_variable("v", initializer=initial)
        optimizer = getattr(tf.train, case["optimizer"])(**case["options"])
        gradient = tf.placeholder(tf.float32, [None, 3])
        rows = tf.placeholder(tf.int64, [None])
        is_dense = case["kind"] == "dense"
        given = gradient if is_dense else tf.IndexedSlices(gradient, rows, [5, 3])
        step = optimizer.apply_gradients([(given, variable)])
        slots = {name: optimizer.get_slot(variable, name) for name in optimizer.get_slot_names()}
        session.run(tf.global_variables_initializer())
        assert sorted(slots) == sorted(case["initial_slots"])
        for name, expected in case["initial_slots"].items():
            np.testing.assert_allclose(session.run(slots[name]), np.array(expected, np.float32))
        for each in case["steps"]:
            feeds = {gradient: each["gradient"]}
            session.run(step, feeds if is_dense else {**feeds, rows: each["indices"]})
            np.testing.assert_allclose(session.run(variable), each["value"], rtol=1e-6, atol=1e-6)
            for name, expected in each["slots"].items():
                np.testing.assert_allclose(session.run(slots[name]), expected, rtol=1e-6, atol=1e-6, err_msg=name)


GRAPHS = json.loads((TRACES.parent / "optimizer_graphs.json").read_text(encoding="utf-8"))
BUILT = [each for each in GRAPHS if "use" in each]
REFUSED = [each for each in GRAPHS if "misuse" in each]


def test_all_graphs_are_there() -> None:
    assert [(each["optimizer"], each["use"]) for each in BUILT] == [
        (optimizer, use) for optimizer in optimizer_graphs.OPTIMIZERS for use in optimizer_graphs.USES
    ]
    assert [each["misuse"] for each in REFUSED] == optimizer_graphs.MISUSES


@pytest.mark.parametrize("case", BUILT, ids=lambda case: f"{case['optimizer']}-{case['use']}")
def test_graphs_are_those_of_tensorflow(case: dict[str, Any]) -> None:
    found = optimizer_graphs.recorded(tf, case["optimizer"], case["use"])
    if case["use"] == "rows" and "Adam" in case["optimizer"]:  # of which TensorFlow makes a step of many operations
        del case["updates"], found["updates"]
    assert found == case


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: str(case["misuse"]))
def test_wrong_uses_are_refused_as_by_tensorflow(case: dict[str, Any]) -> None:
    found = optimizer_graphs.refused(tf, case["misuse"])
    assert found["error"] == case["error"], found


def test_a_program_trains_as_with_tensorflow() -> None:
    expected = json.loads((TRACES.parent / "training_steps.json").read_text(encoding="utf-8"))
    np.testing.assert_allclose(training_program.losses(tf), expected, rtol=2e-5)
