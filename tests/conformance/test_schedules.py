"""Learning rates by steps as TensorFlow's decays and torch's schedulers gave them: ``record_schedules.py``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from ps_protocol.optimizer_schedules import ScheduleSpec, learning_rate, piecewise, schedule_spec

TRACES = Path(__file__).parent / "reference" / "traces"
OF_TENSORFLOW = json.loads((TRACES / "tensorflow_schedules.json").read_text())
STEPS = OF_TENSORFLOW["steps"]
OF_TORCH = json.loads((TRACES / "torch_schedules.json").read_text())
SCHEDULE_NAMES = {
    "exponential_decay": "exponential",
    "natural_exp_decay": "natural_exp",
    "inverse_time_decay": "inverse_time",
    "polynomial_decay": "polynomial",
    "cosine_decay": "cosine",
    "cosine_decay_restarts": "cosine_restarts",
}


def case_name(name: str, settings: Any) -> str:
    numbers = settings.values() if isinstance(settings, dict) else settings
    return "-".join([name, *map(str, numbers)])


in_tensorflow = pytest.mark.parametrize(
    "case",
    [pytest.param(each, id=case_name(each["function"], each["options"])) for each in OF_TENSORFLOW["cases"]],
)


def schedule_of(function: str, options: dict[str, Any]) -> ScheduleSpec:
    if function == "piecewise_constant":
        return piecewise(options["boundaries"], options["values"])
    numbers = {name: float(each) for name, each in options.items()}
    return schedule_spec(SCHEDULE_NAMES[function], {"learning_rate": 0.5, **numbers})


def test_every_decay_is_there() -> None:
    assert {each["function"] for each in OF_TENSORFLOW["cases"]} == {*SCHEDULE_NAMES, "piecewise_constant"}


@in_tensorflow
def test_schedules_of_the_ps_are_tensorflow_s(case: dict[str, Any]) -> None:
    schedule = schedule_of(case["function"], case["options"])
    actual = np.array([learning_rate(schedule, step) for step in STEPS])
    in_float32 = np.array(case["rates"]["float32"])
    # By step 1000 a float32 has overflown, or has few bits left for where in its period a cosine is.
    finite = np.isfinite(in_float32)
    np.testing.assert_allclose(actual[finite], in_float32[finite], rtol=1e-4, atol=1e-6)
    if "float64" in case["rates"]:
        np.testing.assert_allclose(actual, case["rates"]["float64"], rtol=1e-12, atol=1e-15)


@in_tensorflow
def test_decays_of_the_graph_are_tensorflow_s(case: dict[str, Any]) -> None:
    options = dict(case["options"])
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.placeholder(tf.int64, [])
        if case["function"] == "piecewise_constant":
            boundaries = [tf.constant(each, tf.int64) for each in options["boundaries"]]
            rate = tf.train.piecewise_constant(step, boundaries, options["values"])
        else:
            rate = getattr(tf.train, case["function"])(*case["arguments"], step, **options)
        actual = [session.run(rate, {step: each}) for each in STEPS]
    np.testing.assert_allclose(actual, case["rates"]["float32"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "case", [pytest.param(each, id=case_name(each["schedule"], each["settings"])) for each in OF_TORCH]
)
def test_schedules_of_the_ps_are_torch_s(case: dict[str, Any]) -> None:
    name, settings = case["schedule"], case["settings"]
    if name == "piecewise":
        schedule = piecewise(settings[:2], settings[2:])
    else:
        schedule = schedule_spec(name, settings if name == "one_cycle" else {"learning_rate": 0.5, **settings})
    steps, expected = zip(*case["rates"], strict=True)
    np.testing.assert_allclose([learning_rate(schedule, step) for step in steps], expected, rtol=1e-11, atol=1e-15)
