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
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import Array
from worker_client.graph.operation import OutputSpec
from worker_client.values.shapes import TensorShape
from worker_client.values.text import is_text, text_array

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
    """How the sizes of the inputs are replaced, in the first call and in the second.

    Attributes:
        first: The replacement of each size; of None, where a size is unknown.
        second: Another one.
        is_faithful: Whether what is learned about sizes holds for the tensors themselves, not only about the rank.
    """

    first: _Sizes
    second: _Sizes
    is_faithful: bool = True

    @property
    def has_unknown(self) -> bool:
        """Whether 1, too, should be tried for unknown sizes."""
        return self.is_faithful and None in self.first


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
            results = _results(function, inputs, trial)
        except np.linalg.LinAlgError:  # stand-ins are singular, the values may not be
            break
        except _MISFITS as error:
            raise_interrupt(error)
            failure = failure or error
        except (TypeError, ArithmeticError) as error:
            raise_interrupt(error)
            raise TypeError(f"{description}: the dtypes do not fit: {error}") from error
        else:
            return _merged(results, inputs)
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
    large = [size for size in known if size > MAX_KEPT_SIZE]
    unknown = [None] if any(None in shape for shape in shapes) else []
    kept: dict[int | None, int] = {size: size for size in known}
    exact: list[_Sizes] = [{**kept, **dict.fromkeys(unknown, size)} for size in _UNKNOWN_SIZES]
    shrunk: list[_Sizes] = [{**kept, **dict(zip([*large, *unknown], primes, strict=False))} for primes in _PRIMES]
    elements = sum(math.prod(exact[1][size] for size in shape) for shape in shapes)
    can_shrink = may_shrink and len(large) < len(_PRIMES[0])
    if elements > _FEW_ELEMENTS and can_shrink and not is_view:
        yield _Trial(shrunk[0], shrunk[1])
    is_affordable = is_view or elements <= _MANY_ELEMENTS
    if is_affordable:
        yield _Trial(exact[0], exact[1])
    if unknown and (is_affordable or can_shrink):
        base = exact if is_affordable else shrunk
        for size in [*known, 1]:  # an unknown size may have to be one of the others
            first, second = ({**sizes, None: sizes.get(size, 1)} for sizes in base)
            yield _Trial(first, second, is_faithful=False)


_Result: TypeAlias = tuple[Array, _Sizes | None]
"""What a call returned, and the sizes that it was made with, None if the result says nothing about sizes."""


def _results(function: Callable[..., Array], inputs: Sequence[OutputSpec], trial: _Trial) -> list[_Result]:
    results: list[_Result] = [(function(*_stand_ins(inputs, trial.first, 0)), trial.first)]
    try:
        results.append((function(*_stand_ins(inputs, trial.second, 1)), trial.second))
    except _MISFITS:  # a one is no index where there is only one row
        results.append((function(*_stand_ins(inputs, trial.second, 0)), trial.second))
    if trial.has_unknown:  # where there is only one row, much is different: indices do not fit, dimensions go away
        sizes = {**trial.first, None: 1}
        try:
            results.append((function(*_stand_ins(inputs, sizes, 0)), sizes))
        except _MISFITS:
            results.append((results[0][0], None))
    return results if trial.is_faithful else [(result, None) for result, _ in results]


def _stand_ins(inputs: Sequence[OutputSpec], sizes: _Sizes, integer: int) -> list[Array]:
    """Arrays without memory of their own, of integers (which may be indices) ``integer``, of others the opposite."""
    stand_ins = []
    for spec in inputs:
        shape = () if spec.shape.ndims is None else tuple(sizes[size] for size in spec.shape)
        if is_text(spec.dtype):
            filled = text_array(b"")
        else:
            filled = np.full((), integer if spec.dtype.kind in "iu" else 1 - integer, spec.dtype)
        stand_ins.append(np.broadcast_to(filled, shape))
    return stand_ins


def _merged(results: Sequence[_Result], inputs: Sequence[OutputSpec]) -> OutputSpec:
    """Returns what all results agree about."""
    first = results[0][0]
    if any(result.ndim != first.ndim for result, _ in results) or any(spec.shape.ndims is None for spec in inputs):
        return OutputSpec(first.dtype)
    return OutputSpec(first.dtype, TensorShape(_size(results, axis) for axis in range(first.ndim)))


def _size(results: Sequence[_Result], axis: int) -> int | None:
    """Returns a size that all results show, as what it was replaced by in each or as it is; None if there is none."""
    found: list[tuple[int, _Sizes]] = []
    for result, sizes in results:
        if sizes is None:
            return None
        found.append((result.shape[axis], sizes))
    for size in found[0][1]:
        if size is not None and all(shown == sizes[size] for shown, sizes in found):
            return size
    constant = found[0][0]
    return constant if all(shown == constant for shown, _ in found) else None
