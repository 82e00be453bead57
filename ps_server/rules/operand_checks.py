"""Errors about operands that do not fit a variable, in the same words for whole values and for rows."""

from __future__ import annotations

from typing import Any, Final, NoReturn

import numpy as np

from ps_protocol.dtype_traits import DTypeCategory
from ps_protocol.errors import DTypeMismatchError, ShapeMismatchError
from ps_protocol.operations import Array, VariableSpec

ORDERED: Final = frozenset({DTypeCategory.INTEGER, DTypeCategory.FLOAT})


def refuse_operand(spec: VariableSpec, operation: str, operand: Array, expected: tuple[int, ...]) -> NoReturn:
    """Says how an operand differs from what the operation needs.

    Raises:
        DTypeMismatchError: The operand has another dtype than the variable.
        ShapeMismatchError: It has the dtype, but not the expected shape.
    """
    if operand.dtype != spec.dtype:
        raise DTypeMismatchError(
            f"variable {spec} is {dtype_label(spec.dtype)}, the value to {operation} is {dtype_label(operand.dtype)}; "
            f"convert it first, e.g. with astype",
            variable=spec.name,
        )
    raise ShapeMismatchError(
        f"the value to {operation} has the shape {list(operand.shape)}; variable {spec} needs {list(expected)}",
        variable=spec.name,
    )


def dtype_label(dtype: np.dtype[Any]) -> str:
    """The dtype's name as messages give it."""
    return dtype.name if dtype.isnative else f"{dtype.name} in foreign byte order"
