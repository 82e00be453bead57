"""The workloads, done by Shardscope, by its peers and by the bare machine, in alternation; ``python -m benchmarks``."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from benchmarks.harness import command
from benchmarks.harness.contestants import Entry, RunningContestant
from benchmarks.harness.samples import summary
from benchmarks.harness.workloads import WORKLOADS

BENCHMARK = "comparison"


def compare(entries: Sequence[Entry], workloads: Sequence[str], *, rounds: int) -> dict[str, Any]:
    """Has every contestant do every workload, each round all of them one after the other.

    Only the one that is asked works; the others are idle. The round before the first is not counted. Another one begins
    each round.

    Returns:
        ``{"contestants": {name: {"kind", "versions"}}, "cases": [{"contestant", "workload", "variant", "rounds",
        "all"}]}``, durations in seconds.

    Raises:
        ContestantError: One of them has failed.
    """
    cases: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        running: list[RunningContestant] = []
        for entry in entries:
            command.progress(f"starting {entry.name}")
            running.append(stack.enter_context(RunningContestant(entry)))
        for workload in workloads:
            command.progress(f"measuring {workload}")
            cases.extend(_one_workload(running, workload, rounds))
        for each in running:
            each.check()
        contestants = {each.entry.name: {"kind": each.entry.kind, "versions": dict(each.versions)} for each in running}
    return {"contestants": contestants, "cases": cases, "rounds": rounds}


def _one_workload(running: Sequence[RunningContestant], workload: str, rounds: int) -> list[dict[str, Any]]:
    work = WORKLOADS[workload]
    starts = [(each, variant) for each in running for variant in each.cases.get(workload, ())]
    samples: dict[tuple[str, str], list[list[float]]] = {(each.entry.name, variant): [] for each, variant in starts}
    for turn in range(rounds + 1):
        first = turn % max(1, len(starts))
        for each, variant in [*starts[first:], *starts[:first]]:
            seconds = each.run(workload, variant, warm=work.warm, calls=work.calls)
            if turn > 0:
                samples[each.entry.name, variant].append(seconds)
    return [
        {
            "contestant": name,
            "workload": workload,
            "variant": variant,
            "rounds": [summary(seconds) for seconds in taken],
            "all": summary([each for seconds in taken for each in seconds]),
        }
        for (name, variant), taken in samples.items()
    ]
