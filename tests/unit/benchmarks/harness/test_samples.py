"""Quantiles and ratios."""

from __future__ import annotations

import pytest

from benchmarks.harness.samples import ratio, summary


def test_summary_has_the_count_and_the_quantiles() -> None:
    found = summary([float(each) for each in range(101)])
    assert found["count"] == 101
    assert (found["min"], found["p50"], found["p99"], found["max"]) == (0.0, 50.0, 99.0, 100.0)


def test_a_machine_that_slows_down_between_rounds_does_not_change_a_ratio() -> None:
    ours = [summary([1.0, 1.0]), summary([10.0, 10.0]), summary([3.0, 3.0])]
    theirs = [summary([2.0, 2.0]), summary([20.0, 20.0]), summary([6.0, 6.0])]
    assert ratio(theirs, ours) == {"p50": 2.0, "min": 2.0, "max": 2.0}


def test_rounds_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio([summary([1.0])], [])
