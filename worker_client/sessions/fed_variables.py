"""Variables that a session is fed: every read of one gives the value that is fed, and asks no ps for it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array, Gather, Read, Result
from worker_client.graph.computation import AccessedVariable, VariableAccess
from worker_client.graph.operation import Tensor


def fed_variables(feeds: Mapping[Tensor, Array]) -> dict[AccessedVariable, Array]:
    """Returns the values of those variables for which a tensor is fed that stands for the variable."""
    found: dict[AccessedVariable, Array] = {}
    for tensor, value in feeds.items():
        access = tensor.op.computation
        if isinstance(access, VariableAccess):
            variable = access.variable
            if tensor.op is variable.op or access is variable.snapshot.op.computation:
                found[variable] = value
    return found


def answered_from(value: Array, operation: Read | Gather) -> Result:
    """Returns what a ps would answer to a read if its variable had this value.

    Raises:
        InvalidArgumentError: An index is out of range.
    """
    if isinstance(operation, Read):
        return Result(0, True, value)
    depth, rows = operation.index_depth, operation.indices
    number = math.prod(value.shape[:depth])
    wrong = rows[(rows < 0) | (rows >= number)]
    if wrong.size:
        raise InvalidArgumentError(
            f"variable {operation.name}: index {wrong[0]} is not in [0, {number}) of the value that is fed",
            variable=operation.name,
        )
    return Result(0, True, value.reshape(number, *value.shape[depth:])[rows])
