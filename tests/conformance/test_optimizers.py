"""Replays the optimizer traces that plain updates of a variable can express: gradient descent, dense and sparse.

The other optimizers keep slots beside the variable and come with the optimizers of the ps.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf

TRACES = Path(__file__).parent / "reference" / "traces" / "optimizers.json"
CASES = [case for case in json.loads(TRACES.read_text()) if case["optimizer"] == "GradientDescentOptimizer"]


def test_both_kinds_are_there() -> None:
    assert sorted(case["kind"] for case in CASES) == ["dense", "sparse"]
    assert all(case["initial_slots"] == {} for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["kind"]))
def test_gradient_descent_is_a_subtraction(case: dict[str, Any]) -> None:
    rate = np.float32(case["options"]["learning_rate"])
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.get_variable("v", initializer=np.array(case["initial"], np.float32))
        session.run(variable.initializer)
        for step in case["steps"]:
            scaled = rate * np.array(step["gradient"], np.float32)
            if case["kind"] == "dense":
                update = tf.assign_sub(variable, scaled)
            else:
                update = tf.scatter_sub(variable, step["indices"], scaled)
            np.testing.assert_allclose(session.run(update), np.array(step["value"], np.float32), rtol=2e-6, atol=1e-7)
