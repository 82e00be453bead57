"""Learning rates that follow from the count of steps; optimizers take them as ``learning_rate``, the ps evaluates them.

They are TensorFlow 1's ``tf.train.exponential_decay`` and its like, without the global step: each variable has its own
count of steps. All raise InvalidArgumentError if a number is not allowed.
"""
# ruff: noqa: N802 - named as classes, which they are in other libraries

from __future__ import annotations

from collections.abc import Sequence

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.optimizer_schedules import ScheduleSpec, piecewise, schedule_spec


def ExponentialDecay(
    learning_rate: float, decay_steps: float, decay_rate: float, *, staircase: bool = False
) -> ScheduleSpec:
    """``learning_rate * decay_rate ** (step / decay_steps)``; a ``staircase`` takes whole periods only."""
    return _with_factor("exponential", learning_rate, decay_steps, decay_rate, staircase)


def NaturalExpDecay(
    learning_rate: float, decay_steps: float, decay_rate: float, *, staircase: bool = False
) -> ScheduleSpec:
    """``learning_rate * exp(-decay_rate * step / decay_steps)``; a ``staircase`` takes whole periods only."""
    return _with_factor("natural_exp", learning_rate, decay_steps, decay_rate, staircase)


def InverseTimeDecay(
    learning_rate: float, decay_steps: float, decay_rate: float, *, staircase: bool = False
) -> ScheduleSpec:
    """``learning_rate / (1 + decay_rate * step / decay_steps)``; a ``staircase`` takes whole periods only."""
    return _with_factor("inverse_time", learning_rate, decay_steps, decay_rate, staircase)


def PolynomialDecay(
    learning_rate: float,
    decay_steps: float,
    end_learning_rate: float = 0.0001,
    power: float = 1.0,
    *,
    cycle: bool = False,
) -> ScheduleSpec:
    """From ``learning_rate`` to ``end_learning_rate`` in ``decay_steps``; with ``cycle`` again and again, longer."""
    return schedule_spec(
        "polynomial",
        {
            "learning_rate": learning_rate,
            "decay_steps": decay_steps,
            "end_learning_rate": end_learning_rate,
            "power": power,
            "cycle": cycle,
        },
    )


def PiecewiseConstant(boundaries: Sequence[float], values: Sequence[float]) -> ScheduleSpec:
    """``values[0]`` up to step ``boundaries[0]``, then ``values[1]`` up to ``boundaries[1]``, and so on."""
    return piecewise(boundaries, values)


def CosineDecay(learning_rate: float, decay_steps: float, alpha: float = 0.0) -> ScheduleSpec:
    """Half a wave of the cosine, from ``learning_rate`` to ``alpha`` of it in ``decay_steps``."""
    return schedule_spec("cosine", {"learning_rate": learning_rate, "decay_steps": decay_steps, "alpha": alpha})


def CosineDecayRestarts(
    learning_rate: float, first_decay_steps: float, t_mul: float = 2.0, m_mul: float = 1.0, alpha: float = 0.0
) -> ScheduleSpec:
    """``CosineDecay`` again and again, each ``t_mul`` times as long and from ``m_mul`` times the height."""
    return schedule_spec(
        "cosine_restarts",
        {
            "learning_rate": learning_rate,
            "first_decay_steps": first_decay_steps,
            "t_mul": t_mul,
            "m_mul": m_mul,
            "alpha": alpha,
        },
    )


def LinearWarmup(
    learning_rate: float,
    warmup_steps: int,
    start_learning_rate: float = 0.0,
    *,
    then: ScheduleSpec | None = None,
) -> ScheduleSpec:
    """A straight line up to ``learning_rate`` in ``warmup_steps``, and then another schedule, or that rate.

    Args:
        learning_rate: The rate at the end of the warm-up.
        warmup_steps: How long it takes.
        start_learning_rate: The rate of the first step.
        then: What follows; its step 0 is the first after the warm-up.
    """
    if then is not None and not isinstance(then, ScheduleSpec):
        raise InvalidArgumentError(f"a warm-up goes over to {then!r}; give a schedule, or leave it out for the rate")
    return schedule_spec(
        "linear_warmup",
        {
            "learning_rate": learning_rate,
            "warmup_steps": warmup_steps,
            "start_learning_rate": start_learning_rate,
        },
        then,
    )


def OneCycle(
    max_learning_rate: float,
    total_steps: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> ScheduleSpec:
    """Up to ``max_learning_rate`` and down to almost nothing, by half waves of the cosine, as torch's ``OneCycleLR``.

    Args:
        max_learning_rate: The highest rate.
        total_steps: How long it takes.
        pct_start: The part of it that goes up.
        div_factor: The highest rate is so many times the first.
        final_div_factor: The first rate is so many times the last.
    """
    return schedule_spec(
        "one_cycle",
        {
            "max_learning_rate": max_learning_rate,
            "total_steps": total_steps,
            "pct_start": pct_start,
            "div_factor": div_factor,
            "final_div_factor": final_div_factor,
        },
    )


def _with_factor(
    name: str, learning_rate: float, decay_steps: float, decay_rate: float, staircase: bool
) -> ScheduleSpec:
    return schedule_spec(
        name,
        {
            "learning_rate": learning_rate,
            "decay_steps": decay_steps,
            "decay_rate": decay_rate,
            "staircase": staircase,
        },
    )
