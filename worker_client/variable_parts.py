"""Whole and partitioned variables alike, where many variables move at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ps_protocol.operations import Array
from worker_client.partitioned_variable import PartitionedVariable
from worker_client.variable import Variable

AnyVariable: TypeAlias = Variable | PartitionedVariable
Pair: TypeAlias = tuple[AnyVariable, npt.ArrayLike]


def parts_of(variable: AnyVariable) -> list[Variable]:
    """Returns the variables on the ps tasks that make it up: itself, or its parts in order."""
    return list(variable) if isinstance(variable, PartitionedVariable) else [variable]


def pieces_of(variable: AnyVariable, value: npt.ArrayLike) -> Sequence[npt.ArrayLike]:
    """Returns what of a value belongs to each part; ValueError if it has another shape."""
    return variable.pieces(value) if isinstance(variable, PartitionedVariable) else [value]


def assembled(variable: AnyVariable, values: Sequence[Array]) -> Array:
    """Returns the value of the whole, given those of its parts."""
    if len(values) == 1:
        return values[0]
    return np.concatenate(values, axis=variable.axis if isinstance(variable, PartitionedVariable) else 0)
