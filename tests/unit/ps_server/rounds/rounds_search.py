"""Explores every order in which workers train together for two rounds, with up to so many faults anywhere.

A fault is a worker that dies, is silent for longer than its lease and goes on, has no more data, or is started again;
an answer that is lost, so that the worker asks again; a gradient that arrives at a ps when its sender is dead, and
maybe replaced. That is delay-bounded scheduling, as in ``replication/failover_search.py``, but every order of steps
without a fault is explored as well.

``python -m tests.unit.ps_server.rounds.rounds_search --policy "ssp(1)" --faults 2`` searches further than the tests.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from ps_protocol.errors import ShardscopeError
from tests.unit.ps_server.rounds.rounds_world import BrokenPromiseError, State, World

_Result = TypeVar("_Result")


@dataclass
class Search:
    """What was found so far.

    Args:
        world: What can happen.
        max_faults: In one schedule.
    """

    world: World
    max_faults: int
    cause: dict[State, tuple[State | None, str]] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)

    def explore(self) -> None:
        """Explores all schedules, those with fewer faults first.

        Raises:
            BrokenPromiseError: With the schedule.
        """
        start = self.world.start
        self.cause[start] = (None, "start")
        fewest = {start: 0}  # faults, of the schedules to a state
        levels: list[list[State]] = [[start], *([] for _ in range(self.max_faults))]
        for faults, level in enumerate(levels):
            while level:
                state = level.pop()
                if fewest[state] < faults:
                    continue
                self._try(state, "from here on nothing fails", partial(self.world.check_ends, state))
                moves = [(*move, 0) for move in self.world.moves(state)]
                if faults < self.max_faults:
                    moves += [(*move, 1) for move in self.world.faults(state)]
                for label, act, cost in moves:
                    after = self._try(state, label, act)
                    self._try(state, label, partial(self.world.check, after))
                    self.seen[label] += 1
                    if faults + cost < fewest.get(after, sys.maxsize):
                        fewest[after] = faults + cost
                        self.cause[after] = (state, label)
                        levels[faults + cost].append(after)

    def schedule(self, state: State) -> list[str]:
        """How a state was reached."""
        labels: list[str] = []
        cause: State | None = state
        while cause is not None:
            cause, label = self.cause[cause]
            labels.append(label)
        return labels[::-1]

    def _try(self, state: State, label: str, act: Callable[[], _Result]) -> _Result:
        try:
            return act()
        except (BrokenPromiseError, ShardscopeError) as error:
            raise BrokenPromiseError("\n".join([*self.schedule(state), label, f"=> {error}"])) from error


def main() -> None:
    """Searches as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--policy", default="bsp")
    parser.add_argument("--faults", type=int, default=1, help="most faults in one schedule")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--joined", type=int, help="how many of them have joined at the start; all, if not given")
    parser.add_argument("--steps", type=int, default=2, help="gradients that each worker hands in")
    parser.add_argument("--without-ps", action="store_true", help="only what happens at ps 0")
    options = parser.parse_args()
    world = World(
        options.policy,
        options.workers,
        joined=options.joined,
        has_ps=not options.without_ps,
        steps=options.steps,
    )
    search = Search(world, options.faults)
    began_s = time.process_time()
    try:
        search.explore()
    finally:
        counts = [f"{count:8d} {label}\n" for label, count in sorted(search.seen.items())]
        took_s = time.process_time() - began_s
        sys.stdout.writelines([*counts, f"{len(search.cause)} states, {took_s:.1f} s of processor time\n"])


if __name__ == "__main__":
    main()
