"""Durations, summarised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Summary = Mapping[str, float]

_QUANTILES = {"min": 0.0, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "p99": 0.99, "max": 1.0}


def summary(values: Sequence[float]) -> dict[str, float]:
    """Returns the number of values and their quantiles; of few values, p99 is close to the largest."""
    return {
        "count": len(values),
        **{name: float(np.quantile(values, part)) for name, part in _QUANTILES.items()},
    }


def ratio(numerators: Sequence[Summary], denominators: Sequence[Summary]) -> dict[str, float]:
    """Compares two contestants round by round, so that a machine that drifts between rounds does not matter.

    Args:
        numerators: A summary for each round.
        denominators: As many, of the same rounds.

    Returns:
        The median over the rounds of the ratio of medians, and its extremes.
    """
    ratios = [above["p50"] / below["p50"] for above, below in zip(numerators, denominators, strict=True)]
    return {"p50": float(np.median(ratios)), "min": min(ratios), "max": max(ratios)}
