"""Rules of reductions over segments: rows that belong together by their numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import autograd.numpy as anp
import numpy as np

from worker_client.derivatives.registry import Derivative, each

RULES: Final[dict[str, Derivative]] = {}
"""By the type of the operation."""


def _of_rows(of_segments: Any, ids: Any) -> Any:
    """Returns for each row what its segment has; 0 where the number is negative, which belongs to none."""
    found = of_segments[np.maximum(ids, 0)]
    if not np.any(ids < 0):
        return found
    belongs = np.reshape(ids >= 0, (*ids.shape, *[1] * (anp.ndim(found) - ids.ndim)))
    return found * belongs


def _sizes(ids: Any, rank: int) -> Any:
    numbers = np.bincount(ids.reshape(-1)[ids.reshape(-1) >= 0])
    return np.maximum(numbers, 1).reshape(-1, *[1] * (rank - 1))


def _sum(ans: Any, data: Any, ids: Any, *_: Any) -> Callable[[Any], Any]:
    return lambda g: _of_rows(g, ids)


def _mean(ans: Any, data: Any, ids: Any) -> Callable[[Any], Any]:
    return lambda g: _of_rows(g / _sizes(ids, anp.ndim(ans)).astype(ans.dtype), ids)


def _extreme(ans: Any, data: Any, ids: Any, *_: Any) -> Callable[[Any], Any]:
    def vjp(g: Any) -> Any:
        is_extreme = (data == _of_rows(ans, ids)).astype(ans.dtype)
        number = np.zeros(anp.shape(ans), ans.dtype)
        belongs = ids >= 0
        np.add.at(number, ids[belongs], is_extreme[belongs])
        return is_extreme * _of_rows(g / np.maximum(number, 1), ids)

    return vjp


def _product(ans: Any, data: Any, ids: Any, *_: Any) -> Callable[[Any], Any]:
    def vjp(g: Any) -> Any:
        is_zero = data == 0
        zeros = np.zeros(anp.shape(ans), ans.dtype)
        belongs = ids >= 0
        np.add.at(zeros, ids[belongs], np.asarray(is_zero, ans.dtype)[belongs])
        safe = anp.where(is_zero, anp.ones((), ans.dtype), data)
        without_zeros = np.ones(anp.shape(ans), ans.dtype)
        np.multiply.at(without_zeros, ids[belongs], safe[belongs])
        others = _of_rows(without_zeros, ids) / safe
        number = _of_rows(zeros, ids) - is_zero
        return _of_rows(g, ids) * others * (number == 0)

    return vjp


def _rules(prefix: str, rules: Sequence[tuple[str, Callable[..., Any]]]) -> None:
    for name, rule in rules:
        RULES[prefix + name] = each(rule)


_ALL = [("Sum", _sum), ("Max", _extreme), ("Min", _extreme), ("Prod", _product)]
_rules("Segment", [*_ALL, ("Mean", _mean)])
_rules("UnsortedSegment", _ALL)
