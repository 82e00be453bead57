"""Which checkpoints of a folder stay and which are removed: a pure decision."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from ps_protocol.errors import InvalidArgumentError

_HOUR_S: Final = 3600.0
_MOST: Final = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Which checkpoints of a folder stay when there is a new one.

    What is older than ``max_age_hours`` is removed. Of the others those stay that one of ``last``, ``every_hours`` and
    ``best`` keeps, all of them if none of these is given. The newest checkpoint stays, and so do those that are pinned
    and those that cannot be read.

    Attributes:
        last: Keeps the newest so many.
        every_hours: Keeps the oldest, and from there on one in so many hours.
        best: Keeps the so many with the best value of ``metric``; of equals the newer ones.
        metric: Name of a number that ``save`` was given in ``metrics``, as "accuracy".
        mode: Whether the highest value is the best, "max", or the lowest, "min".
        max_age_hours: Removes what is older, whatever keeps it otherwise.

    Raises:
        InvalidArgumentError: A number is below 0 or much too large, or only one of ``best`` and ``metric`` is given.
    """

    last: int = 0
    every_hours: float = 0.0
    best: int = 0
    metric: str = ""
    mode: Literal["max", "min"] = "max"
    max_age_hours: float = 0.0

    def __post_init__(self) -> None:
        for name in ("last", "best", "every_hours", "max_age_hours"):
            number = getattr(self, name)
            is_whole = isinstance(number, int) or name.endswith("_hours")
            if isinstance(number, bool) or not isinstance(number, int | float) or not is_whole:
                raise InvalidArgumentError(
                    f"{name} of a retention is {number!r}; it should be a {'' if 'hours' in name else 'whole '}number"
                )
            if not 0 <= number <= _MOST:
                raise InvalidArgumentError(
                    f"{name} of a retention is {number}; it should be 0 (not used) or more, up to {_MOST}"
                )
        if bool(self.best) != bool(self.metric):
            raise InvalidArgumentError(
                f"a retention has best={self.best} and metric={self.metric!r}; give both, as best=3, metric='accuracy'"
            )
        if self.mode not in ("max", "min"):
            raise InvalidArgumentError(f"mode of a retention is {self.mode!r}; it should be 'max' or 'min'")

    @property
    def removes(self) -> bool:
        """Whether it ever removes any."""
        return bool(self.last or self.every_hours or self.best or self.max_age_hours)


@dataclass(frozen=True, slots=True)
class Keepable:
    """What a retention knows of a checkpoint.

    Attributes:
        name: Of the checkpoint.
        saved_at_s: When it was saved, in seconds since the epoch.
        metrics: Numbers that it was saved with.
        is_pinned: Whether it stays whatever else is.
    """

    name: str
    saved_at_s: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    is_pinned: bool = False


def to_remove(checkpoints: Sequence[Keepable], retention: Retention, now_s: float) -> list[str]:
    """Decides which checkpoints are removed; returns their names, oldest first.

    To apply it again to what stays removes nothing more, unless time has passed.

    Args:
        checkpoints: Those of a folder, oldest first.
        retention: The rules.
        now_s: Seconds since the epoch.
    """
    if not retention.removes:
        return []
    oldest_s = now_s - retention.max_age_hours * _HOUR_S if retention.max_age_hours else -math.inf
    young = [each for each in checkpoints if each.saved_at_s >= oldest_s]
    if retention.last or retention.every_hours or retention.best:
        kept = {*_last(young, retention), *_one_in_hours(young, retention), *_best(young, retention)}
    else:
        kept = {each.name for each in young}
    kept.update([each.name for each in checkpoints if each.is_pinned])
    kept.update([each.name for each in checkpoints[-1:]])
    return [each.name for each in checkpoints if each.name not in kept]


def _last(checkpoints: Sequence[Keepable], retention: Retention) -> list[str]:
    return [each.name for each in checkpoints[-retention.last :]] if retention.last else []


def _one_in_hours(checkpoints: Sequence[Keepable], retention: Retention) -> list[str]:
    if not retention.every_hours:
        return []
    kept: list[str] = []
    next_s = -math.inf
    for each in checkpoints:
        if each.saved_at_s >= next_s:
            kept.append(each.name)
            next_s = each.saved_at_s + retention.every_hours * _HOUR_S
    return kept


def _best(checkpoints: Sequence[Keepable], retention: Retention) -> list[str]:
    sign = 1.0 if retention.mode == "max" else -1.0
    values = [sign * each.metrics.get(retention.metric, math.nan) for each in checkpoints]
    ranked = sorted([(value, index) for index, value in enumerate(values) if not math.isnan(value)], reverse=True)
    return [checkpoints[index].name for _, index in ranked[: retention.best]]
