"""Arrays to compute updates in, from which they need not be copied to reach the ps."""

from __future__ import annotations

import numpy as np

from ps_protocol.operations import Array
from worker_client.variable_base import VariableBase

_SMALLEST_BYTES = 64 * 1024
"""Smaller updates travel on the socket, wherever they lie."""


def push_buffer(variable: VariableBase) -> Array:
    """Returns a writable array of a variable's dtype and shape, of undefined content.

    Where memory is shared with the variable's ps task, the array lies in it. The memory is given back when neither the
    array nor a view of it is left.
    """
    spec = variable.spec
    memory = None
    if spec.size_bytes >= _SMALLEST_BYTES:
        memory = variable.runner.new_buffer(variable.ps_task, spec.size_bytes)
    if memory is None:
        return np.empty(spec.shape, spec.dtype)
    return memory.view(spec.dtype).reshape(spec.shape)
