"""Exponential moving averages of values, as TensorFlow 1's ``ExponentialMovingAverage`` computes them."""

from __future__ import annotations

import numpy as np

from ps_protocol.errors import InvalidArgumentError, ShapeMismatchError
from ps_protocol.operations import Array, VariableSpec
from ps_server.rules.arithmetic import quiet
from ps_server.rules.optimizers import bodies, compiled_loops
from ps_server.rules.optimizers.application import run_by_numpy
from ps_server.rules.optimizers.blocks import BLOCK, Workspace, lie_direct, stretches, workspaces
from ps_server.rules.optimizers.checks import compute_dtype
from ps_server.rules.optimizers.compiled_loops import LoopKey


def share_of_new(decay: float, num_updates: float | None = None) -> float:
    """Returns what part of an average the new value makes up: ``1 - decay``.

    Args:
        decay: In [0, 1].
        num_updates: How many updates there were; then a new average moves faster: the decay is at most
            ``(1 + num_updates) / (10 + num_updates)``, in float32.

    Raises:
        InvalidArgumentError: A number is out of range.
    """
    if not 0.0 <= decay <= 1.0:
        raise InvalidArgumentError(f"the decay of a moving average is {decay:g}; give a number in [0, 1]")
    if num_updates is None:
        return 1.0 - decay
    if not num_updates >= 0.0:
        raise InvalidArgumentError(f"the number of updates of a moving average is {num_updates:g}; count from 0")
    updates = np.float32(num_updates)
    fastest = (np.float32(1) + updates) / (np.float32(10) + updates)
    return float(np.float32(1) - min(np.float32(decay), fastest))


def apply_moving_average(shadow: Array, value: Array, share: float) -> None:
    """Moves an average towards a value: ``shadow -= share * (shadow - value)``, in place.

    Args:
        shadow: The average, C-contiguous, of floats.
        value: Of its dtype and shape.
        share: As ``share_of_new`` returns it.

    Raises:
        ShapeMismatchError: The value has another shape or dtype.
        InvalidArgumentError: The average does not hold floats.
    """
    dtype = compute_dtype(VariableSpec("average", shadow.dtype, shadow.shape))
    if shadow.shape != value.shape or shadow.dtype != value.dtype:
        raise ShapeMismatchError(
            f"the average is {shadow.dtype.name}{list(shadow.shape)}, the value {value.dtype.name}{list(value.shape)}"
        )
    read = np.require(value, requirements=["C", "A"]).reshape(-1)
    quiet.run(_move, shadow.reshape(-1), read, share, workspaces.get(dtype, BLOCK))


def _move(shadow: Array, value: Array, share: float, workspace: Workspace) -> None:
    dtype = workspace.dtype
    constants = (dtype.type(share),)
    if lie_direct((shadow,), dtype):
        loop = compiled_loops.find(LoopKey(bodies.moving_average, 1, 1, 1, dtype))
        if loop is not None:
            loop(shadow, value, constants)
            return
    for part in stretches(shadow.size):
        block = workspace.load(0, shadow, part, 1)
        new = value[part.begin : part.end]
        if new.dtype != dtype:
            new = workspace.converted(new, workspace.gradient(new.size))
        run_by_numpy(workspace, bodies.moving_average, (block,), (new,), constants)
        workspace.store(shadow, part, 1, block, None)


def debiased(biased: Array, share: float, num_updates: int, out: Array) -> None:
    """Takes out of an average that it began at zero: ``out = biased / (1 - (1 - share)**num_updates)``.

    Args:
        biased: An average that began at zero.
        share: As of ``apply_moving_average``.
        num_updates: How many times it was moved, at least once.
        out: Of the same dtype and shape; may be the same.

    Raises:
        InvalidArgumentError: There was no update.
    """
    if num_updates < 1:
        raise InvalidArgumentError("a moving average that was never updated cannot be debiased; update it first")
    wide = np.dtype(np.float64 if biased.dtype.itemsize == 8 else np.float32)
    seen = wide.type(1.0 - (1.0 - float(wide.type(share))) ** num_updates)
    quiet.run(lambda: np.copyto(out, np.divide(biased, seen, dtype=wide), casting="unsafe"))
