"""The schedules of ``ss.train``: names and defaults; the formulas have tests of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import worker_client.compat.v1 as tf
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.optimizer_schedules import SCHEDULES, ScheduleSpec, learning_rate
from worker_client import train

STEPS = (0, 1, 4, 5, 9, 10, 25)

CASES: dict[str, tuple[ScheduleSpec, Callable[[int], Any]]] = {
    "exponential": (train.ExponentialDecay(0.5, 4, 0.7), lambda step: tf.train.exponential_decay(0.5, step, 4, 0.7)),
    "exponential, staircase": (
        train.ExponentialDecay(0.5, 4, 0.7, staircase=True),
        lambda step: tf.train.exponential_decay(0.5, step, 4, 0.7, staircase=True),
    ),
    "natural_exp": (train.NaturalExpDecay(0.5, 4, 0.7), lambda step: tf.train.natural_exp_decay(0.5, step, 4, 0.7)),
    "inverse_time": (train.InverseTimeDecay(0.5, 4, 0.7), lambda step: tf.train.inverse_time_decay(0.5, step, 4, 0.7)),
    "polynomial": (train.PolynomialDecay(0.5, 10), lambda step: tf.train.polynomial_decay(0.5, step, 10)),
    "polynomial, cycle": (
        train.PolynomialDecay(0.5, 10, 0.1, 2.0, cycle=True),
        lambda step: tf.train.polynomial_decay(0.5, step, 10, 0.1, 2.0, cycle=True),
    ),
    "piecewise": (
        train.PiecewiseConstant([4, 9], [0.5, 0.25, 0.125]),
        lambda step: tf.train.piecewise_constant(step, [4, 9], [0.5, 0.25, 0.125]),
    ),
    "cosine": (train.CosineDecay(0.5, 10, 0.1), lambda step: tf.train.cosine_decay(0.5, step, 10, 0.1)),
    "cosine_restarts": (
        train.CosineDecayRestarts(0.5, 4),
        lambda step: tf.train.cosine_decay_restarts(0.5, step, 4),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_they_are_tensorflow_1s(case: str) -> None:
    schedule, expected = CASES[case]
    with tf.Session() as session:
        for step in STEPS:
            assert learning_rate(schedule, step) == pytest.approx(float(session.run(expected(step))), rel=1e-6)


def test_a_warm_up_goes_over_to_another_schedule() -> None:
    then = train.ExponentialDecay(0.5, 1, 0.5)
    schedule = train.LinearWarmup(0.5, 4, 0.1, then=then)
    assert [learning_rate(schedule, step) for step in (0, 2, 4, 5)] == pytest.approx([0.1, 0.3, 0.5, 0.25])
    assert learning_rate(train.LinearWarmup(0.5, 4), 99) == 0.5
    with pytest.raises(InvalidArgumentError, match=r"a warm-up goes over to 0\.1; give a schedule"):
        train.LinearWarmup(0.5, 4, then=0.1)  # type: ignore[arg-type]


def test_one_cycle_goes_up_and_down() -> None:
    schedule = train.OneCycle(1.0, 100)
    rates = [learning_rate(schedule, step) for step in range(100)]
    assert (rates[0], rates[29], rates[99]) == pytest.approx((0.04, 1.0, 4e-6))


def test_there_is_one_for_each_that_the_ps_knows() -> None:
    made = [schedule for schedule, _ in CASES.values()] + [train.LinearWarmup(1, 2), train.OneCycle(1, 2)]
    assert {each.name for each in made} == set(SCHEDULES)


def test_what_is_not_allowed_is_refused_when_it_is_made() -> None:
    with pytest.raises(InvalidArgumentError, match="decay_steps of the schedule exponential is 0"):
        train.ExponentialDecay(0.5, 0, 0.7)
    with pytest.raises(InvalidArgumentError, match="2 boundaries and needs one more rate, not 2"):
        train.PiecewiseConstant([1, 2], [1, 2])
