"""Arrays to compute updates in, from which they need not be copied to reach the ps."""

from __future__ import annotations

import numpy as np

from ps_protocol.operations import Array
from ps_protocol.segments import INLINE_LIMIT_BYTES
from worker_client.variable_base import VariableBase


def push_buffer(variable: VariableBase) -> Array:
    """Returns a writable array of a variable's dtype and shape, of undefined content.

    Where memory is shared with the variable's ps task, the array lies in it. The memory is given back when neither the
    array nor a view of it is left.
    """
    spec = variable.spec
    memory = None
    if spec.size_bytes >= INLINE_LIMIT_BYTES:  # smaller updates travel on the socket, wherever they lie
        memory = variable.runner.new_buffer(variable.ps_task, spec.size_bytes)
    if memory is None:
        return np.empty(spec.shape, spec.dtype)
    return memory.view(spec.dtype).reshape(spec.shape)
