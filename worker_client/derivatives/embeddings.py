"""Rules of the functions of ``embeddings.rows`` that compute with rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import autograd.numpy as anp
import numpy as np
from autograd.tracer import getval

from worker_client.derivatives.registry import Derivative, Traced, Vjp
from worker_client.derivatives.selection import brought_back
from worker_client.values.segments import beside_rows, segment_sums

RULES: Final[dict[str, Derivative]] = {}
"""By the type of the operation."""


def _clipped(rows: Any, row_ndims: int, max_norm: float) -> Any:
    axes = tuple(range(-row_ndims, 0))
    squares = anp.sum(anp.square(rows), axis=axes, keepdims=True)
    return rows * anp.where(squares > max_norm**2, max_norm / anp.sqrt(anp.where(squares > 0, squares, 1)), 1)


def _combination(argnums: Sequence[int], ans: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Vjp:
    del kwargs
    rows, unique, ids, places, weights, combiner = args
    into = places[:, 0] if places.ndim == 2 else places
    found = np.searchsorted(unique, ids)
    factors = np.ones(len(ids), rows.dtype) if weights is None else weights
    powers = np.square(getval(factors)) if combiner == "sqrtn" else getval(factors)
    sums = segment_sums(powers, into, anp.shape(ans)[:1])
    divisors = np.ones_like(sums) if combiner == "sum" else np.sqrt(sums) if combiner == "sqrtn" else sums
    divisor = np.where(divisors == 0, 1, divisors)[into]

    def of_rows(each: Any) -> Any:
        return brought_back(each * beside_rows(factors, rows.ndim), lambda array: array[found], anp.shape(rows))

    def of_weights(each: Any) -> Any:
        axes = tuple(range(1, rows.ndim))
        direct, through_sums = anp.sum(each * rows[found], axis=axes), anp.sum(each * ans[into], axis=axes)
        if combiner == "sum":
            return direct
        return direct - (through_sums if combiner == "mean" else through_sums * factors / divisor)

    def vjp(g: Any) -> list[Any]:
        each = g[into] / beside_rows(divisor, rows.ndim)
        return [of_rows(each) if argnum == 0 else of_weights(each) for argnum in argnums]

    return vjp


RULES["ClipByNorm"] = Traced(_clipped)
RULES["SparseSegmentCombination"] = _combination
