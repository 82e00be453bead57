"""Whether all elements of a gradient are finite: one pass, block by block, and none after the first that is not."""

from __future__ import annotations

import math
import threading
from typing import Final

import numpy as np

from ps_protocol.operations import Array
from ps_server.rules.arithmetic import quiet
from ps_server.rules.optimizers.stochastic_rounding import BFLOAT16

_BLOCK: Final = 32 * 1024
_SMALL: Final = 8 * 1024
_BFLOAT16_EXPONENT: Final = np.uint16(0x7F80)


class _Room(threading.local):
    def __init__(self) -> None:
        self.flags = np.empty(_BLOCK, np.bool_)
        self.exponents = np.empty(_BLOCK, np.uint16)


_room = _Room()


def first_nonfinite(array: Array) -> int | None:
    """Returns the number, in C order, of the first element that is infinite or no number; None if there is none.

    Args:
        array: float16, bfloat16, float32 or float64; a copy is made if it is not contiguous.
    """
    # A sum of squares that is finite has none; larger arrays are not given to BLAS, which would use threads for them.
    if array.size <= _SMALL and array.dtype.itemsize >= 4 and math.isfinite(quiet.run(np.vdot, array, array)):
        return None
    flat = array.reshape(-1)
    for begin in range(0, flat.size, _BLOCK):
        part = flat[begin : begin + _BLOCK]
        flags = _room.flags[: part.size]
        if part.dtype == BFLOAT16:
            exponents = _room.exponents[: part.size]
            np.bitwise_and(part.view(np.uint16), _BFLOAT16_EXPONENT, out=exponents)
            np.not_equal(exponents, _BFLOAT16_EXPONENT, out=flags)
        else:
            np.isfinite(part, out=flags)
        if np.count_nonzero(flags) < flags.size:
            return begin + int(np.argmin(flags))
    return None
