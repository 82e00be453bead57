"""Learning rate schedules: the formulas of TensorFlow 1's functions, and of torch's one-cycle."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.optimizer_schedules import (
    SCHEDULES,
    ScheduleSpec,
    check_schedule,
    learning_rate,
    piecewise,
    schedule_spec,
)

STEPS = [0, 1, 3, 5, 9, 10, 11, 20, 29, 100]

Case = tuple[ScheduleSpec, Callable[[int], Any]]

AS_IN_TENSORFLOW: dict[str, Case] = {
    "exponential": (
        schedule_spec("exponential", {"learning_rate": 0.5, "decay_steps": 4, "decay_rate": 0.7}),
        lambda step: tf.train.exponential_decay(0.5, step, 4, 0.7),
    ),
    "exponential-staircase": (
        schedule_spec("exponential", {"learning_rate": 0.5, "decay_steps": 4, "decay_rate": 0.7, "staircase": 1}),
        lambda step: tf.train.exponential_decay(0.5, step, 4, 0.7, staircase=True),
    ),
    "natural_exp": (
        schedule_spec("natural_exp", {"learning_rate": 0.5, "decay_steps": 4, "decay_rate": 0.7}),
        lambda step: tf.train.natural_exp_decay(0.5, step, 4, 0.7),
    ),
    "inverse_time": (
        schedule_spec("inverse_time", {"learning_rate": 0.5, "decay_steps": 4, "decay_rate": 0.7, "staircase": 1}),
        lambda step: tf.train.inverse_time_decay(0.5, step, 4, 0.7, staircase=True),
    ),
    "polynomial": (
        schedule_spec("polynomial", {"learning_rate": 0.5, "decay_steps": 10, "power": 2}),
        lambda step: tf.train.polynomial_decay(0.5, step, 10, power=2.0),
    ),
    "polynomial-cycle": (
        schedule_spec("polynomial", {"learning_rate": 0.5, "decay_steps": 10, "end_learning_rate": 0.1, "cycle": 1}),
        lambda step: tf.train.polynomial_decay(0.5, step, 10, 0.1, cycle=True),
    ),
    "cosine": (
        schedule_spec("cosine", {"learning_rate": 0.5, "decay_steps": 10, "alpha": 0.2}),
        lambda step: tf.train.cosine_decay(0.5, step, 10, 0.2),
    ),
    "cosine_restarts": (
        schedule_spec("cosine_restarts", {"learning_rate": 0.5, "first_decay_steps": 7, "m_mul": 0.8, "alpha": 0.1}),
        lambda step: tf.train.cosine_decay_restarts(0.5, step, 7, m_mul=0.8, alpha=0.1),
    ),
    "cosine_restarts-even": (
        schedule_spec("cosine_restarts", {"learning_rate": 0.5, "first_decay_steps": 7, "t_mul": 1}),
        lambda step: tf.train.cosine_decay_restarts(0.5, step, 7, t_mul=1.0),
    ),
    "piecewise": (
        piecewise([3, 10], [0.5, 0.2, 0.1]),
        lambda step: tf.train.piecewise_constant(tf.constant(step), [3, 10], [0.5, 0.2, 0.1]),
    ),
}


@pytest.mark.parametrize("name", AS_IN_TENSORFLOW)
def test_schedules_have_tensorflow_s_formulas(name: str) -> None:
    schedule, in_tensorflow = AS_IN_TENSORFLOW[name]
    with tf.Graph().as_default(), tf.Session() as session:
        expected = session.run([in_tensorflow(step) for step in STEPS])
    np.testing.assert_allclose([learning_rate(schedule, step) for step in STEPS], expected, rtol=1e-5)


def test_one_cycle_is_torch_s() -> None:
    schedule = schedule_spec("one_cycle", {"max_learning_rate": 0.5, "total_steps": 10})
    expected = [
        0.02,
        0.26,
        0.5,
        0.47524231600673683,
        0.40587282697488153,
        0.30563101096814466,
        0.19437098903185537,
        0.09412917302511849,
        0.024759683993263143,
        2e-06,
    ]
    np.testing.assert_allclose([learning_rate(schedule, step) for step in range(10)], expected, rtol=1e-12)
    assert learning_rate(schedule, 1000) == pytest.approx(2e-6)


def test_a_warm_up_goes_over_to_another_schedule() -> None:
    decay = schedule_spec("exponential", {"learning_rate": 0.8, "decay_steps": 1, "decay_rate": 0.5})
    alone = schedule_spec("linear_warmup", {"learning_rate": 0.8, "warmup_steps": 4})
    both = schedule_spec("linear_warmup", {"learning_rate": 0.8, "warmup_steps": 4}, then=decay)
    assert [learning_rate(alone, step) for step in (0, 1, 4, 9)] == pytest.approx([0.0, 0.2, 0.8, 0.8])
    assert [learning_rate(both, step) for step in (3, 4, 5, 6)] == pytest.approx([0.6, 0.8, 0.4, 0.2])


@pytest.mark.parametrize("longer", [1.0, 1.5, 2.0, 3.0, 5.0, 10.0])
@pytest.mark.parametrize("first", [1, 7, 10, 1000])
def test_each_restart_is_at_its_step(first: int, longer: float) -> None:
    settings = {"learning_rate": 1.0, "first_decay_steps": first, "t_mul": longer, "m_mul": 0.5}
    schedule = schedule_spec("cosine_restarts", settings)
    start, period = 0.0, float(first)
    for restarts in range(12):
        if start.is_integer():
            assert learning_rate(schedule, int(start)) == pytest.approx(0.5**restarts, rel=1e-6)
        start, period = start + period, period * longer


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: schedule_spec("step", {}), "no learning rate schedule 'step'; choose one of exponential"),
        (lambda: schedule_spec("cosine", {"rate": 1}), "cosine has no setting 'rate'; it has learning_rate"),
        (lambda: schedule_spec("cosine", {"learning_rate": 1}), "cosine needs its setting decay_steps: give a number"),
        (
            lambda: schedule_spec("cosine", {"learning_rate": 1, "decay_steps": 0}),
            r"setting decay_steps of the schedule cosine is 0; give a number in \(0, inf\)",
        ),
        (lambda: piecewise([1, 2], [0.1, 0.2]), "2 boundaries and needs one more rate, not 2"),
        (lambda: piecewise([2, 1], [0.1, 0.2, 0.3]), "needs ascending boundaries"),
        (lambda: check_schedule(ScheduleSpec("cosine", (1.0,))), "cosine has 3 settings, not 1"),
        (
            lambda: check_schedule(ScheduleSpec("cosine", (1.0, 1.0, 0.0), ScheduleSpec("piecewise", (1.0,)))),
            "cosine goes over to no other; only linear_warmup does",
        ),
    ],
    ids=["name", "setting", "missing", "range", "rates", "boundaries", "numbers", "then"],
)
def test_bad_schedules_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        call()


def test_every_schedule_is_tried() -> None:
    tried = {name.partition("-")[0] for name in AS_IN_TENSORFLOW} | {"one_cycle", "linear_warmup"}
    assert tried == set(SCHEDULES)


@pytest.mark.parametrize(
    ("schedule", "step"),
    [
        (ScheduleSpec("exponential", (0.1, 1e-300, 1e300, 0.0)), 1),
        (ScheduleSpec("natural_exp", (0.1, 1e-300, 1e300, 1.0)), 10**9),
        (ScheduleSpec("cosine_restarts", (0.1, 1e-300, 1e300, 1.0, 0.0)), 10**9),
        (ScheduleSpec("linear_warmup", (1e308, 1.0, -1e308)), 0),
        (ScheduleSpec("linear_warmup", (0.1, 0.0, 0.0), ScheduleSpec("exponential", (0.1, 1e-300, 9.0, 0.0))), 10),
    ],
    ids=["exponential", "natural_exp", "cosine_restarts", "warm-up", "behind a warm-up"],
)
def test_numbers_that_make_no_learning_rate_are_refused_and_nothing_else(schedule: ScheduleSpec, step: int) -> None:
    check_schedule(schedule)
    try:
        assert math.isfinite(learning_rate(schedule, step))
    except InvalidArgumentError as error:
        assert f"schedule {schedule.name} " in error.message  # noqa: PT017 - either is right
        assert "no finite learning rate at step" in error.message  # noqa: PT017


def test_a_rate_that_is_not_finite_names_the_schedule() -> None:
    with pytest.raises(InvalidArgumentError, match=r"schedule exponential .* no finite learning rate at step 1"):
        learning_rate(ScheduleSpec("exponential", (0.1, 1e-300, 1e300, 0.0)), 1)
