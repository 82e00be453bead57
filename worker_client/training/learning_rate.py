"""Learning rates that follow from the number of the step, as TensorFlow 1's: tensors, computed anew in each run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred.call import call
from worker_client.graph.blocks import name_scope
from worker_client.graph.operation import OutputSpec
from worker_client.ops.array_ops import cast
from worker_client.ops.constant_ops import convert_to_tensor, ones_like
from worker_client.ops.elementwise_ops import ceil, cos, floor
from worker_client.ops.math_ops import add, divide, equal, exp, log, minimum, multiply, sqrt
from worker_client.ops.math_ops import pow as power
from worker_client.ops.random_ops import random_normal
from worker_client.ops.selection_ops import where_v2
from worker_client.values.dtypes import DType, as_dtype, int32, int64
from worker_client.values.shapes import TensorShape

__all__ = [
    "cosine_decay",
    "cosine_decay_restarts",
    "exponential_decay",
    "inverse_time_decay",
    "linear_cosine_decay",
    "natural_exp_decay",
    "noisy_linear_cosine_decay",
    "piecewise_constant",
    "piecewise_constant_decay",
    "polynomial_decay",
]


def exponential_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Any:
    """Returns ``learning_rate * decay_rate ** (global_step / decay_steps)``.

    Args:
        learning_rate: The rate at first; a float or a tensor, whose dtype the result has.
        global_step: The number of the step; an integer, a tensor or a variable.
        decay_steps: After how many steps it is multiplied by ``decay_rate``.
        decay_rate: See there.
        staircase: Whether the power is rounded down, so that the rate falls at once.
        name: "ExponentialDecay" if not given.

    Raises:
        ValueError: There is no ``global_step``.
    """
    _require_step(global_step, "exponential_decay")
    with name_scope(name, "ExponentialDecay", [learning_rate, global_step, decay_steps, decay_rate]) as scope:
        rate, steps, factor = _alike(learning_rate, decay_steps, decay_rate)
        done = divide(cast(global_step, rate.dtype), steps)
        return multiply(rate, power(factor, floor(done) if staircase else done), name=scope)


def natural_exp_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Any:
    """Returns ``learning_rate * exp(-decay_rate * global_step / decay_steps)``; otherwise as ``exponential_decay``."""
    _require_step(global_step, "natural_exp_decay")
    factor = exp(-convert_to_tensor(decay_rate)) if hasattr(decay_rate, "dtype") else math.exp(-decay_rate)
    return exponential_decay(learning_rate, global_step, decay_steps, factor, staircase, name)


def inverse_time_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Any:
    """Returns ``learning_rate / (1 + decay_rate * global_step / decay_steps)``; otherwise as ``exponential_decay``."""
    _require_step(global_step, "inverse_time_decay")
    with name_scope(name, "InverseTimeDecay", [learning_rate, global_step, decay_rate]) as scope:
        rate, steps, factor = _alike(learning_rate, decay_steps, decay_rate)
        done = divide(cast(global_step, rate.dtype), steps)
        return divide(rate, add(1, multiply(factor, floor(done) if staircase else done)), name=scope)


def polynomial_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    end_learning_rate: Any = 0.0001,
    power: Any = 1.0,
    cycle: bool = False,
    name: str | None = None,
) -> Any:
    """Returns a rate that falls to ``end_learning_rate`` within ``decay_steps`` steps along a polynomial.

    Args:
        learning_rate: The rate at first.
        global_step: The number of the step.
        decay_steps: Within how many steps it falls.
        end_learning_rate: To which rate.
        power: Of the polynomial; 1 for a straight line.
        cycle: Whether it rises again afterwards, and falls within more and more steps; otherwise it stays.
        name: "PolynomialDecay" if not given.

    Raises:
        ValueError: There is no ``global_step``.
    """
    _require_step(global_step, "polynomial_decay")
    scope_values = [learning_rate, global_step, decay_steps, end_learning_rate, power]
    with name_scope(name, "PolynomialDecay", scope_values) as scope:
        rate, steps, end, exponent = _alike(learning_rate, decay_steps, end_learning_rate, power)
        step = cast(global_step, rate.dtype)
        if cycle:
            rounds = ceil(divide(step, steps))
            steps = multiply(steps, where_v2(equal(step, 0), ones_like(rounds), rounds))
        else:
            step = minimum(step, steps)
        left = 1 - divide(step, steps)
        return add(multiply(rate - end, left**exponent), end, name=scope)


def piecewise_constant(x: Any, boundaries: Sequence[Any], values: Sequence[Any], name: str | None = None) -> Any:
    """Returns ``values[0]`` while ``x <= boundaries[0]``, then ``values[1]`` while ``x <= boundaries[1]``, and so on.

    Args:
        x: The number of the step, or another scalar.
        boundaries: Ascending, of the type of ``x``.
        values: One more than there are boundaries; all of one type.
        name: Of the scope; "PiecewiseConstant" if not given.

    Raises:
        ValueError: There is another number of values, or the types do not fit.
    """
    if len(boundaries) != len(values) - 1:
        raise ValueError(f"piecewise_constant: {len(boundaries)} boundaries need one more value, not {len(values)}")
    with name_scope(name, "PiecewiseConstant", [x, *boundaries, *values]):
        at = convert_to_tensor(x)
        limits = [_limit(each, at) for each in boundaries]
        choices = [convert_to_tensor(each) for each in values]
        if any(as_dtype(each.dtype) != as_dtype(choices[0].dtype) for each in choices):
            raise ValueError(f"piecewise_constant: the values {list(values)} should be of one type")
        output = OutputSpec(as_dtype(choices[0].dtype), TensorShape(choices[0].shape))
        return call(_chosen, [at, limits, choices], op_type="Merge", name="case/cond/Merge", output=output)


piecewise_constant_decay = piecewise_constant


def _limit(boundary: Any, at: Any) -> Any:
    limit, wanted = convert_to_tensor(boundary), as_dtype(at.dtype)
    if as_dtype(limit.dtype) == wanted:
        return limit
    if (as_dtype(limit.dtype), wanted) in ((int32.dtype, int64.dtype), (int64.dtype, int32.dtype)):
        return cast(limit, int64) if wanted == int64.dtype else limit
    raise ValueError(
        f"piecewise_constant: the boundary {boundary!r} is {DType(as_dtype(limit.dtype)).name}, but x is "
        f"{DType(wanted).name}; give boundaries of that type"
    )


def _chosen(at: Array, limits: Sequence[Array], choices: Sequence[Array]) -> Array:
    return choices[int(np.sum(np.asarray(limits) < at))]


def cosine_decay(
    learning_rate: Any, global_step: Any, decay_steps: Any, alpha: Any = 0.0, name: str | None = None
) -> Any:
    """Returns a rate that falls to ``alpha * learning_rate`` within ``decay_steps`` steps, along a half wave."""
    _require_step(global_step, "cosine_decay")
    with name_scope(name, "CosineDecay", [learning_rate, global_step]):
        rate, steps = _alike(learning_rate, decay_steps)
        done = divide(minimum(cast(global_step, rate.dtype), steps), steps)
        return multiply(rate, (1 - alpha) * _half_wave(done) + alpha)


def cosine_decay_restarts(
    learning_rate: Any,
    global_step: Any,
    first_decay_steps: Any,
    t_mul: Any = 2.0,
    m_mul: Any = 1.0,
    alpha: Any = 0.0,
    name: str | None = None,
) -> Any:
    """Returns a rate that falls as ``cosine_decay``'s and begins again, each time within more steps and from lower.

    Args:
        learning_rate: The rate at first.
        global_step: The number of the step.
        first_decay_steps: Within how many steps it falls the first time.
        t_mul: By what the number of steps is multiplied each time.
        m_mul: By what the rate at the beginning is multiplied each time.
        alpha: What part of the rate is left at the end.
        name: "SGDRDecay" if not given.

    Raises:
        ValueError: There is no ``global_step``.
    """
    _require_step(global_step, "cosine_decay_restarts")
    with name_scope(name, "SGDRDecay", [learning_rate, global_step]) as scope:
        rate, steps, longer, lower = _alike(learning_rate, first_decay_steps, t_mul, m_mul)
        done = divide(cast(global_step, rate.dtype), steps)
        evenly = floor(done)
        growing = floor(divide(log(1 - done * (1 - longer)), log(longer)))
        is_even = equal(longer, 1)
        restarts = where_v2(is_even, evenly, growing)
        scale = longer**restarts
        before = divide(1 - scale, 1 - longer)
        rest = where_v2(is_even, done - evenly, divide(done - before, scale))
        return multiply(rate, (1 - alpha) * (lower**restarts) * _half_wave(rest) + alpha, name=scope)


def linear_cosine_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    num_periods: Any = 0.5,
    alpha: Any = 0.0,
    beta: Any = 0.001,
    name: str | None = None,
) -> Any:
    """Returns ``learning_rate * ((alpha + straight) * wave + beta)``.

    Here ``straight`` falls from 1 to 0 within ``decay_steps`` steps, and ``wave`` has ``num_periods`` periods in them.
    """
    _require_step(global_step, "linear_cosine_decay")
    with name_scope(name, "LinearCosineDecay", [learning_rate, global_step]) as scope:
        rate, straight, wave = _line_and_wave(learning_rate, global_step, decay_steps, num_periods)
        return multiply(rate, (alpha + straight) * wave + beta, name=scope)


def noisy_linear_cosine_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    initial_variance: Any = 1.0,
    variance_decay: Any = 0.55,
    num_periods: Any = 0.5,
    alpha: Any = 0.0,
    beta: Any = 0.001,
    name: str | None = None,
) -> Any:
    """Returns what ``linear_cosine_decay`` does, with normal noise of ``initial_variance`` on the straight line.

    The variance is divided by ``(1 + global_step) ** variance_decay``.
    """
    _require_step(global_step, "noisy_linear_cosine_decay")
    with name_scope(name, "NoisyLinearCosineDecay", [learning_rate, global_step]) as scope:
        rate, straight, wave = _line_and_wave(learning_rate, global_step, decay_steps, num_periods)
        step = minimum(cast(global_step, rate.dtype), cast(decay_steps, rate.dtype))
        variance, falling = cast(initial_variance, rate.dtype), cast(variance_decay, rate.dtype)
        noise = random_normal([], stddev=sqrt(divide(variance, (1 + step) ** falling)), dtype=rate.dtype)
        return multiply(rate, (alpha + straight + noise) * wave + beta, name=scope)


def _line_and_wave(learning_rate: Any, global_step: Any, decay_steps: Any, num_periods: Any) -> tuple[Any, Any, Any]:
    rate, steps, periods = _alike(learning_rate, decay_steps, num_periods)
    step = minimum(cast(global_step, rate.dtype), steps)
    return rate, divide(steps - step, steps), _half_wave(2 * periods * divide(step, steps))


def _half_wave(done: Any) -> Any:
    """Returns 1 at 0, 0 at 1, and between them what half a wave of the cosine has."""
    return 0.5 * (1 + cos(math.pi * done))


def _alike(learning_rate: Any, *others: Any) -> list[Any]:
    """Returns the rate as a tensor, and other numbers in its dtype."""
    rate = convert_to_tensor(learning_rate, name="initial_learning_rate")
    return [rate, *(cast(each, rate.dtype) for each in others)]


def _require_step(global_step: Any, function: str) -> None:
    if global_step is None:
        raise ValueError(f"{function} needs global_step, the number of the step")
