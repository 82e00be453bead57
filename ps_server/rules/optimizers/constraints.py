"""Constraints: what is done to a value after a step. As in Keras, with its epsilon of 1e-7."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from ps_protocol.operations import Array
from ps_protocol.optimizer_constraints import ConstraintSpec, check_constraint
from ps_server.rules.arithmetic import quiet
from ps_server.rules.optimizers.blocks import BLOCK, spare_memory
from ps_server.rules.optimizers.norms import Doubles, folded

_EPSILON: Final = 1e-7


def apply_constraint(constraint: ConstraintSpec, value: Array) -> None:
    """Carries out what ``prepared_constraint`` prepares."""
    prepared_constraint(constraint, value)()


def prepared_constraint(constraint: ConstraintSpec, value: Array) -> Callable[[], None]:
    """Returns what changes a value in place so that it keeps to a constraint, as the value is then.

    Norms are computed in float64, in a fixed order. All memory is taken here, so that what is returned, which is called
    once, cannot fail.

    Args:
        constraint: Which one.
        value: C-contiguous, of floats.

    Raises:
        InvalidArgumentError: There is no such constraint, or it does not suit the value's dimensions.
        MemoryError: There is no room; nothing has been changed.
    """
    check_constraint(constraint, value.ndim)
    if not value.size:
        return lambda: None
    if constraint.name == "non_negative":
        return lambda: quiet.run(_non_negative, value)
    *numbers, axis = constraint.numbers
    lines = _Lines(value, int(axis))
    return lambda: quiet.run(lines.scale, numbers[0] if numbers else None)


def _non_negative(value: Array) -> None:
    np.maximum(value, value.dtype.type(0), out=value)


class _Lines:
    """The lines of a value along a dimension, and room to compute their norms, some of them at a time.

    Args:
        value: C-contiguous.
        axis: The dimension.
    """

    def __init__(self, value: Array, axis: int):
        axis %= value.ndim
        length = value.shape[axis]
        self._value = value.reshape(math.prod(value.shape[:axis]), length, -1)
        self._wide = np.dtype(np.float64 if value.dtype.itemsize == 8 else np.float32)
        num_outer, _, num_inner = self._value.shape
        most = min(num_outer * num_inner, max(1, BLOCK // length))
        self._inner = min(num_inner, most)
        self._outer = max(1, most // num_inner)
        sizes = [each * 8 for each in (most * length, most, most)] + [
            each * self._wide.itemsize for each in (most * length, most)
        ]
        self._memory = spare_memory.take(sum(sizes))
        ends = np.cumsum(sizes).tolist()
        pieces = [self._memory[end - size : end] for size, end in zip(sizes, ends, strict=True)]
        self._squares, self._norms, self._factors = (each.view(np.float64) for each in pieces[:3])
        self._converted, self._rounded = (each.view(self._wide) for each in pieces[3:])

    def scale(self, greatest: float | None) -> None:
        """Gives all lines the norm 1, or those that are longer than ``greatest`` that norm."""
        num_outer, _, num_inner = self._value.shape
        for outer in range(0, num_outer, self._outer):
            for inner in range(0, num_inner, self._inner):
                own = self._value[outer : outer + self._outer, :, inner : inner + self._inner]
                self._scale(own.transpose(0, 2, 1), greatest)
        spare_memory.give(self._memory)

    def _scale(self, lines: Array, greatest: float | None) -> None:
        size, number = lines.size, lines.shape[0] * lines.shape[1]
        squares = self._squares[:size].reshape(lines.shape)
        np.copyto(squares, lines)
        np.multiply(squares, squares, out=squares)
        norms = self._norms[:number].reshape(lines.shape[:2])
        np.sqrt(folded(squares), out=norms)
        factors = self._factors[:number].reshape(norms.shape)
        if greatest is None:
            np.divide(1.0, np.add(norms, _EPSILON, out=factors), out=factors)
        else:
            np.minimum(norms, greatest, out=factors)
            np.divide(factors, np.add(norms, _EPSILON, out=norms), out=factors)
        self._multiply(lines, factors)

    def _multiply(self, lines: Array, factors: Doubles) -> None:
        """Multiplies in float32 at least."""
        rounded = self._rounded[: factors.size].reshape(factors.shape)
        np.copyto(rounded, factors, casting="unsafe")
        wide = lines
        if lines.dtype != self._wide:
            wide = self._converted[: lines.size].reshape(lines.shape)
            np.copyto(wide, lines, casting="unsafe")
        np.multiply(wide, rounded[..., np.newaxis], out=wide)
        if wide is not lines:
            np.copyto(lines, wide, casting="unsafe")
