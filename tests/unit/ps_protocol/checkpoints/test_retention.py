"""Which checkpoints a retention keeps."""

from __future__ import annotations

from typing import Any

import pytest

from ps_protocol.checkpoints.retention import Keepable, Retention, to_remove
from ps_protocol.errors import InvalidArgumentError

HOUR_S = 3600.0
NOW_S = 1e9


def saved(hours: list[float], accuracies: list[float | None] | None = None, pinned: str = "") -> list[Keepable]:
    """Checkpoints "a", "b", ... that were saved so many hours ago."""
    values = accuracies or [None] * len(hours)
    return [
        Keepable(chr(97 + i), NOW_S - h * HOUR_S, {} if v is None else {"accuracy": v}, chr(97 + i) in pinned)
        for i, (h, v) in enumerate(zip(hours, values, strict=True))
    ]


def kept(checkpoints: list[Keepable], **rules: Any) -> str:
    gone = to_remove(checkpoints, Retention(**rules), NOW_S)
    return "".join([each.name for each in checkpoints if each.name not in gone])


def test_without_a_rule_all_stay() -> None:
    assert kept(saved([9, 5, 1])) == "abc"
    assert to_remove([], Retention(last=1), NOW_S) == []


def test_the_last_stay() -> None:
    assert kept(saved([9, 5, 3, 1]), last=2) == "cd"
    assert kept(saved([9, 5, 3, 1]), last=7) == "abcd"


def test_one_in_so_many_hours_stays_from_the_oldest_on() -> None:
    assert kept(saved([5, 4.5, 4, 3.5, 3.25, 1.9, 1.5, 0.5]), every_hours=1) == "acfh"
    assert kept(saved([5, 4.5, 4, 0]), every_hours=1, last=1) == "acd"


def test_what_is_too_old_goes_even_if_another_rule_keeps_it() -> None:
    assert kept(saved([50, 23, 2, 1]), max_age_hours=24) == "bcd"
    assert kept(saved([50, 23, 2, 1]), max_age_hours=24, last=1) == "d"
    assert kept(saved([50, 49, 23, 22.5, 1]), max_age_hours=24, every_hours=1) == "ce"


def test_the_best_stay() -> None:
    accuracies = [0.9, 0.5, None, 0.95, float("nan"), 0.9, 0.1]
    found = saved([7, 6, 5, 4, 3, 2, 1], accuracies)
    assert kept(found, best=2, metric="accuracy") == "dfg"  # of two alike the newer one; "g" is the newest
    assert kept(found, best=2, metric="accuracy", mode="min") == "bg"
    assert kept(found, best=1, metric="loss") == "g"
    assert kept(found, best=1, metric="accuracy", last=2) == "dfg"


def test_the_newest_and_those_that_are_pinned_stay() -> None:
    assert kept(saved([90, 80, 70, 60], pinned="b"), max_age_hours=1) == "bd"
    assert kept(saved([90, 80, 70, 60], pinned="a"), last=1) == "ad"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"last": -1}, "last of a retention is -1"),
        ({"last": 10**12}, "up to 1000000000"),
        ({"last": 1.5}, "whole number"),
        ({"last": True}, "whole number"),
        ({"every_hours": float("inf")}, "every_hours of a retention is inf"),
        ({"every_hours": float("nan")}, "every_hours of a retention is nan"),
        ({"max_age_hours": "1d"}, "should be a number"),
        ({"best": 2}, "give both"),
        ({"metric": "accuracy"}, "give both"),
        ({"best": 1, "metric": "a", "mode": "highest"}, "'max' or 'min'"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Retention(**rules)
