"""Which operands the store may keep as values without a copy, when their sender does not use them any more.

An assignment of 100 MiB takes 0.43 of the time (``python -m benchmarks.one_of_each taken_operands``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from ps_protocol.operation_kinds import tensors_of
from ps_protocol.operations import Array, Declare, Initialize, PsOperation, Replace, Update

_TAKERS: Final = frozenset({Declare, Initialize, Replace, Update})
_SLACK_BYTES: Final = 64 * 1024
"""How much memory beside its own an operand may keep alive: a header, or the rest of a page."""


def can_become_value(operand: Array) -> bool:
    """Whether an array is laid out as a value is, and keeps no more memory alive than one.

    Its memory must belong to Python: an array's own, or a bytearray's. Another process may write to mapped memory.
    """
    flags = operand.flags
    if type(operand) is not np.ndarray or not (flags.c_contiguous and flags.writeable and flags.aligned):
        return False
    owner = _owner(operand)
    if isinstance(owner, np.ndarray):
        return owner.flags.owndata and owner.nbytes <= operand.nbytes + _SLACK_BYTES
    return isinstance(owner, bytearray) and len(owner) <= operand.nbytes + _SLACK_BYTES


def may_be_taken(operations: Sequence[PsOperation]) -> bool:
    """Whether operands of the operations may become values: of a kind that does that, and without shared memory."""
    return not _TAKERS.isdisjoint(map(type, operations)) and not (len(operations) > 1 and share_memory(operations))


def share_memory(operations: Sequence[PsOperation]) -> bool:
    """Whether two tensors of the operations share memory; two variables must not."""
    owners = [id(_owner(tensor)) for operation in operations for tensor in tensors_of(operation)]
    return len(set(owners)) < len(owners)


def _owner(array: Array) -> object:
    """Returns the object at the end of the chain of views."""
    owner: object = array
    while True:
        if isinstance(owner, np.ndarray) and owner.base is not None:
            owner = owner.base
        elif isinstance(owner, memoryview):
            owner = owner.obj
        else:
            return owner
