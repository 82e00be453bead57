"""Finds out what a function of arrays will return, by calling it on stand-ins that take no memory.

A stand-in has the dtype of a tensor and its shape, where an unknown size is replaced by some number, and a large size
by a small one if need be. Each trial is made twice, with different numbers and different elements: what comes out
different cannot be known before a session runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array
from worker_client.operation import OutputSpec
from worker_client.tensor_shape import TensorShape

MAX_KEPT_SIZE: Final = 16
"""Sizes up to this one are never replaced, so that small constants mean the same in a trial."""

_UNKNOWN_SIZES: Final = (1021, 1031)
_PRIMES: Final = ((17, 19, 23, 29, 31, 37, 41, 43), (47, 53, 59, 61, 67, 71, 73, 79))
_FEW_ELEMENTS: Final = 1 << 14
"""Up to here nothing is gained by smaller stand-ins."""
_MANY_ELEMENTS: Final = 1 << 20
"""Above this it would take too long to compute anything on stand-ins as large as the tensors."""

_Sizes: TypeAlias = Mapping[int | None, int]
_MISFITS: Final = (ValueError, IndexError, InvalidArgumentError)


@dataclass(frozen=True, slots=True)
class _Trial:
    """How the sizes of the inputs are replaced.

    Attributes:
        sizes: The replacement of each size, in the first and in the second call.
        is_faithful: Whether what is learned about sizes holds for the tensors themselves, not only about the rank.
    """

    sizes: tuple[_Sizes, _Sizes]
    is_faithful: bool = True

    def size(self, first: int, second: int) -> int | None:
        """Returns the size in the result that came out as ``first`` in one call and as ``second`` in the other."""
        if not self.is_faithful:
            return None
        for size, number in self.sizes[0].items():
            if (number, self.sizes[1][size]) == (first, second):
                return size
        return first if first == second else None


def inferred(
    function: Callable[..., Array],
    inputs: Sequence[OutputSpec],
    *,
    description: str,
    may_shrink: bool,
    is_view: bool = False,
) -> OutputSpec:
    """Returns what is known about a result.

    Args:
        function: Called on stand-ins for the inputs.
        inputs: What is known about its arguments.
        description: The operation and its arguments, for errors.
        may_shrink: Whether the function treats large sizes like small ones: it holds no constants beyond
            ``MAX_KEPT_SIZE`` that would mean something else for smaller arrays.
        is_view: Whether the function only looks at its arguments in another way, so that their size is no matter.

    Raises:
        ValueError: The function does not take such shapes.
        TypeError: It does not take such dtypes.
    """
    failure: Exception | None = None
    for trial in _trials(inputs, may_shrink=may_shrink, is_view=is_view):
        try:
            first, second = _results(function, inputs, trial)
        except np.linalg.LinAlgError:  # stand-ins are singular, the values may not be
            break
        except _MISFITS as error:
            failure = failure or error
        except (TypeError, ArithmeticError) as error:
            raise TypeError(f"{description}: the dtypes do not fit: {error}") from error
        else:
            return _merged(first, second, trial, inputs)
    if failure is not None and all(spec.shape.is_fully_defined() for spec in inputs):
        raise ValueError(f"{description}: the shapes do not fit: {failure}") from failure
    return OutputSpec(_dtype(function, inputs))


def _dtype(function: Callable[..., Array], inputs: Sequence[OutputSpec]) -> np.dtype[Any]:
    """Returns the dtype of a result of which nothing else is known."""
    ones: _Sizes = {size: 1 for spec in inputs if spec.shape.ndims is not None for size in spec.shape}
    try:
        return function(*_stand_ins(inputs, ones, 0)).dtype
    except _MISFITS:
        return np.result_type(*(spec.dtype for spec in inputs))


def _trials(inputs: Sequence[OutputSpec], *, may_shrink: bool, is_view: bool) -> Iterator[_Trial]:
    """The trials to make until one succeeds."""
    shapes = [() if spec.shape.ndims is None else tuple(spec.shape) for spec in inputs]
    known = sorted({size for shape in shapes for size in shape if size is not None})
    shrunk: tuple[dict[int | None, int], ...] = ({}, {})
    large: list[int | None] = [size for size in known if size > MAX_KEPT_SIZE]
    can_shrink = may_shrink and len(large) < len(_PRIMES[0])
    for sizes, primes in zip(shrunk, _PRIMES, strict=True):
        sizes.update({size: size for size in known})
        sizes.update(zip([None, *large], primes, strict=False))
    exact = tuple({None: unknown, **{size: size for size in known}} for unknown in _UNKNOWN_SIZES)
    elements = sum(math.prod(exact[1][size] for size in shape) for shape in shapes)
    if elements > _FEW_ELEMENTS and can_shrink and not is_view:
        yield _Trial((shrunk[0], shrunk[1]))
    is_affordable = is_view or elements <= _MANY_ELEMENTS
    if is_affordable:
        yield _Trial((exact[0], exact[1]))
    if any(None in shape for shape in shapes) and (is_affordable or can_shrink):
        base = exact if is_affordable else shrunk
        for size in [*known, 1]:  # an unknown size may have to be one of the others
            first, second = ({**sizes, None: sizes.get(size, 1)} for sizes in base)
            yield _Trial((first, second), is_faithful=False)


def _results(function: Callable[..., Array], inputs: Sequence[OutputSpec], trial: _Trial) -> tuple[Array, Array]:
    first = function(*_stand_ins(inputs, trial.sizes[0], 0))
    try:
        return first, function(*_stand_ins(inputs, trial.sizes[1], 1))
    except _MISFITS:  # a one is no index where there is only one row
        return first, function(*_stand_ins(inputs, trial.sizes[1], 0))


def _stand_ins(inputs: Sequence[OutputSpec], sizes: _Sizes, integer: int) -> list[Array]:
    """Arrays without memory of their own, of integers (which may be indices) ``integer``, of others the opposite."""
    stand_ins = []
    for spec in inputs:
        shape = () if spec.shape.ndims is None else tuple(sizes[size] for size in spec.shape)
        element = integer if spec.dtype.kind in "iu" else 1 - integer
        stand_ins.append(np.broadcast_to(np.full((), element, spec.dtype), shape))
    return stand_ins


def _merged(first: Array, second: Array, trial: _Trial, inputs: Sequence[OutputSpec]) -> OutputSpec:
    if first.ndim != second.ndim or any(spec.shape.ndims is None for spec in inputs):
        return OutputSpec(first.dtype)
    sizes = zip(first.shape, second.shape, strict=True)
    return OutputSpec(first.dtype, TensorShape(trial.size(*pair) for pair in sizes))
