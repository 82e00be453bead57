"""What the soak has found: for each variable what was acknowledged and what it holds, and which faults there were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.chaos.soak.variables import NumberedUpdate, SoakVariable, read_updates


@dataclass(frozen=True, slots=True)
class VariableOutcome:
    """One variable at the end.

    Attributes:
        variable: Which.
        updates: How many updates of it were acknowledged.
        acknowledged: Sum of their factors.
        in_doubt: Factors of updates whose worker died before it had written down an answer.
        value: What the variable holds.
    """

    variable: SoakVariable
    updates: int
    acknowledged: int
    in_doubt: tuple[int, ...]
    value: npt.NDArray[Any]

    @property
    def acknowledged_sum(self) -> int:
        """Sum of all elements of all acknowledged deltas."""
        return _sum(self.variable.multiple(self.acknowledged))

    @property
    def final_sum(self) -> int:
        """Sum of all elements of the value."""
        return _sum(self.value)

    @property
    def verdict(self) -> str:
        """Either "equal", "explained" by updates in doubt, or "DIFFERS"."""
        if np.array_equal(self.value, self.variable.multiple(self.acknowledged)):
            return "equal"
        factor = int(self.value.flat[0])
        is_whole = np.array_equal(self.value, self.variable.multiple(factor))
        most = self.acknowledged + sum(self.in_doubt)
        return "explained" if is_whole and self.acknowledged <= factor <= most else "DIFFERS"


def _sum(values: npt.NDArray[Any]) -> int:
    return int(np.sum(values, dtype=np.float64 if values.dtype.kind == "f" else np.int64))


def outcomes(
    variables: Sequence[SoakVariable], values: Sequence[npt.NDArray[Any]], directory: Path
) -> list[VariableOutcome]:
    """Compares what the variables hold with what the workers have written down."""
    updates, factors = [0] * len(variables), [0] * len(variables)
    for path in directory.glob("*.acknowledged"):
        for update in read_updates(path):
            updates[update.variable] += 1
            factors[update.variable] += update.factor
    in_doubt = _in_doubt(directory)
    return [
        VariableOutcome(
            variable,
            updates=updates[index],
            acknowledged=factors[index],
            in_doubt=tuple(update.factor for update in in_doubt if update.variable == index),
            value=value,
        )
        for index, (variable, value) in enumerate(zip(variables, values, strict=True))
    ]


def _in_doubt(directory: Path) -> list[NumberedUpdate]:
    found = []
    for path in sorted(directory.glob("*.sent")):
        answered = {update.number for update in read_updates(path.with_suffix(".acknowledged"))}
        found += [update for update in read_updates(path) if update.number not in answered]
    return found


@dataclass(slots=True)
class SoakReport:
    """A whole run.

    Attributes:
        outcomes: Of each variable.
        kills: How often a ps was killed and started again.
        worker_kills: How often a worker was.
        rounds: After how many rounds all sums were equal.
        troubles: How often each kind of trouble was made with a process of a pair.
        longest_connect_s: The longest that a new worker took to get in after one.
        faults: How often each fault was injected.
        duplicates: Batches that came again and were answered from memory, as far as it was seen: a ps that is killed
            takes its last count with it.
        failures: Whatever else went wrong.
        elapsed_s: How long it took.
    """

    outcomes: list[VariableOutcome] = field(default_factory=list)
    kills: int = 0
    worker_kills: int = 0
    rounds: int = 0
    troubles: Counter[str] = field(default_factory=Counter)
    longest_connect_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    failures: list[str] = field(default_factory=list)
    elapsed_s: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, nothing counted twice and nothing else went wrong."""
        in_doubt = any(each.in_doubt for each in self.outcomes)
        accepted = {"equal", "explained"} if in_doubt else {"equal"}
        return not self.failures and bool(self.outcomes) and all(each.verdict in accepted for each in self.outcomes)

    def _pair_lines(self) -> list[str]:
        if not self.troubles:
            return []
        made = ", ".join(f"{number} {kind}s" for kind, number in sorted(self.troubles.items()))
        rounds = [f"{self.rounds} rounds, after each of which every sum was equal"] if self.rounds else []
        return [
            *rounds,
            f"of processes of pairs: {made}; a new worker got in within {self.longest_connect_s:.1f} s each time",
        ]

    def __str__(self) -> str:
        lines = [f"{'variable':<24} {'updates':>8} {'acknowledged sum':>20} {'final sum':>20}  verdict"]
        lines += [
            f"{each.variable.name:<24} {each.updates:>8} {each.acknowledged_sum:>20} {each.final_sum:>20}  "
            f"{each.verdict}{f' ({len(each.in_doubt)} in doubt)' if each.in_doubt else ''}"
            for each in self.outcomes
        ]
        updates = sum(each.updates for each in self.outcomes)
        faults = ", ".join(f"{count} of {place}" for place, count in sorted(self.faults.items())) or "none"
        lines += [
            f"{updates} updates acknowledged in {self.elapsed_s:.1f} s; {self.kills} kills of ps tasks, "
            f"{self.worker_kills} of workers; at least {self.duplicates} duplicates answered from memory",
            f"faults injected: {faults}",
            *self._pair_lines(),
            *(f"FAILED: {failure}" for failure in self.failures),
            "every acknowledged update counts exactly once" if self.is_good else "THE RUN HAS FAILED",
        ]
        return "\n".join(lines)
