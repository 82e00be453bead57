"""Plans of faults for ps processes, and what of them has happened."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

from ps_protocol.fault_points import LOG_VARIABLE, PLAN_VARIABLE


def fault_environment(plan: str, log: Path) -> dict[str, str]:
    """The environment of a process that a plan is for."""
    return {PLAN_VARIABLE: plan, LOG_VARIABLE: str(log)}


def now_and_then(entry: str, *, every: int, up_to: int, seed: str) -> str:
    """A plan in which an entry, such as "reply.send=drop", happens about once in so many passes."""
    chance = random.Random(seed)
    numbers = []
    number = 0
    while number < up_to:
        number += chance.randint(1, 2 * every - 1)
        numbers.append(number)
    return ";".join(f"{entry}@{each}" for each in numbers)


def fired(log: Path) -> Counter[str]:
    """How often each fault was injected, by "place=action", in all processes that shared the log."""
    counts: Counter[str] = Counter()
    if log.exists():
        # A process that was killed may have left half a line.
        for line in log.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            counts[f"{entry['place']}={entry['action']}"] += 1
    return counts
