"""Arrays that a caller gives for values to be read into, so that a training step allocates nothing.

They stay the caller's. Nothing else may use one until the call that was given it has returned; after a call that
failed its content is undefined.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.lib.array_utils import byte_bounds

from ps_protocol.errors import InternalError, InvalidArgumentError
from ps_protocol.operations import Array, Result, VariableSpec
from ps_protocol.out_arrays import misfit


def check_disjoint(outs: Iterable[Array], names: Iterable[str]) -> None:
    """Makes sure that no two arrays overlap in memory.

    Only the first and the last byte of each are looked at, so that two interleaved ones (columns of one array) count as
    overlapping even if they share no element.

    Args:
        outs: The arrays.
        names: Full name of the variable that each is for.

    Raises:
        InvalidArgumentError: Two overlap.
    """
    taken = sorted(
        (*_bounds(out), name)
        for out, name in zip(outs, names, strict=True)
        if isinstance(out, np.ndarray) and out.size  # what is no array is for check_out to refuse
    )
    for (_, end, name), (start, _, other) in itertools.pairwise(taken):
        if start < end:
            raise InvalidArgumentError(
                f"the arrays given as `out` for the variables {name} and {other} overlap in memory; give each an array "
                f"of its own",
                variable=other,
            )


def check_not_read(outs: Sequence[tuple[Array, str]], operands: Iterable[Array]) -> None:
    """Makes sure that no reply is written over what is still to be read, perhaps to be sent again.

    Args:
        outs: Arrays that ``check_disjoint`` has passed, each with the full name of the variable that it is for.
        operands: What the request reads. As there, only the first and the last byte of each are looked at.

    Raises:
        InvalidArgumentError: One of each overlap.
    """
    taken = sorted((*_bounds(out), name) for out, name in outs if out.size)
    for operand in operands:
        if not operand.size or not taken:
            continue
        begin, end = _bounds(operand)
        last = bisect.bisect_left(taken, end, key=lambda each: each[0]) - 1  # begins before the operand ends
        if last >= 0 and taken[last][1] > begin:
            name = taken[last][2]
            raise overlaps_indices(name)


def overlaps_indices(name: str) -> InvalidArgumentError:
    """Returns the error for rows of a variable that would be read over the indices that say which."""
    return InvalidArgumentError(
        f"variable {name}: `out` overlaps the indices in memory; give it memory of its own", variable=name
    )


def check_no_view(out: Array | None, spec: VariableSpec, *, view: bool) -> None:
    """Makes sure that a value that is not to be copied has no array to go to; InvalidArgumentError if it has."""
    if view and out is not None:
        raise InvalidArgumentError(
            f"variable {spec.name}: copy=False says that the value is not to be copied, and `out` where to; give one",
            variable=spec.name,
        )


def read_only(value: Array) -> Array:
    """Makes a new value read-only and returns it."""
    value.flags.writeable = False
    return value


def direct_target(out: Array | None) -> Array | None:
    """Returns the array that a transport may fill: ``out`` itself, or None where that is not contiguous."""
    return out if out is not None and out.flags.c_contiguous else None


def tensor_of(result: Result) -> Array:
    """Returns the tensor that a read or gather was answered with."""
    if result.tensor is None:
        raise InternalError("the reply to a read holds no tensor")
    return result.tensor


def received(result: Result, out: Array | None) -> Array:
    """Returns what a read or gather was answered with, in ``out`` if that is given.

    It is there already where the transport has put it there, and is copied otherwise.
    """
    tensor = tensor_of(result)
    if out is None or tensor is out:
        return tensor
    wrong = misfit(out, tensor.dtype, tensor.shape, in_order=False)
    if wrong is not None:
        raise InternalError(f"the reply does not fit: `out` {wrong[1]}")
    np.copyto(out, tensor)
    return out


def _bounds(array: Array) -> tuple[int, int]:
    """Returns the addresses of an array's first byte and of what is behind its last one, as ``byte_bounds``."""
    if array.flags.c_contiguous:  # as nearly always, and then it takes a fifth of the time
        start: int = array.__array_interface__["data"][0]
        return start, start + array.nbytes
    return byte_bounds(array)
