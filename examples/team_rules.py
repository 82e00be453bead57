"""Functions of a team's own for a ps: ``shardscope ps --functions examples.team_rules``, from this repository.

A function computes a variable and its slots anew, a reduction something small. Both are pure: a journal and a backup
call them again, and must get the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def sign_step(value: Array, slots: list[Array], arguments: list[Any]) -> tuple[Array, list[Array]]:
    """A step of one size in the direction of a gradient that is averaged in the slot.

    Args:
        value: Of the variable.
        slots: The average.
        arguments: The gradient, and the size of the step.
    """
    gradient, size = arguments
    average = 0.9 * slots[0] + 0.1 * gradient
    return value - size * np.sign(average), [average]


def quantile(value: Array, arguments: list[Any]) -> Array:
    """The quantile of a value that the argument names."""
    return np.asarray(np.quantile(value, arguments[0]))


FUNCTIONS = {"sign_step": sign_step}
REDUCTIONS = {"quantile": quantile}
