"""Throughput over one to four ps processes, with one and two workers.

    python -m benchmarks.ps_tasks [--ps 1 2 3 4] [--workers 1 2] [--rounds 3] [--seconds 2]

Each worker pulls, or pushes, the layers of a model, which lie on the ps tasks in turn. The numbers of ps tasks take
turns within each round, so that a machine that drifts treats all alike.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.harness import command
from benchmarks.harness.contestants import RunningContestant, own_entry
from benchmarks.harness.record import Record
from benchmarks.harness.samples import summary
from benchmarks.harness.tables import Table, number
from benchmarks.harness.workloads import SCALES
from ps_cluster import LocalCluster

BENCHMARK = "ps_tasks"
_WORKLOADS = ("pull161", "push161")


def _calls_per_s(running: Sequence[RunningContestant], workload: str, seconds: float) -> float:
    """Returns how many calls the workers make together in a second."""
    for each in running:
        each.begin("run", workload=workload, variant=running[0].cases[workload][0], warm=1, for_s=seconds)
    durations = [each.seconds() for each in running]
    return sum(len(each) / sum(each) for each in durations)


def measure(
    transport: str, ps: Sequence[int], workers: Sequence[int], *, rounds: int, seconds: float, scale: str
) -> list[dict[str, Any]]:
    """Returns bytes per second for each number of ps tasks and workers, by workload."""
    bytes_per_second: dict[tuple[int, int, str], list[float]] = {}
    with contextlib.ExitStack() as stack:
        running: dict[int, list[RunningContestant]] = {}
        for count in ps:
            cluster = stack.enter_context(LocalCluster(num_ps=count))
            entry = own_entry(transport, scale, cluster=cluster.cluster_spec.to_flag())
            running[count] = [stack.enter_context(RunningContestant(entry)) for _ in range(max(workers))]
        for turn in range(rounds):
            command.progress(f"{transport}: round {turn + 1} of {rounds}")
            for workload in _WORKLOADS:
                for num_workers in workers:
                    for count in ps:
                        calls_per_s = _calls_per_s(running[count][:num_workers], workload, seconds)
                        moved = calls_per_s * SCALES[scale].model_bytes
                        bytes_per_second.setdefault((count, num_workers, workload), []).append(moved)
    return [
        {
            "transport": transport,
            "ps": count,
            "workers": num_workers,
            "workload": workload,
            "bytes_per_s": summary(all_),
        }
        for (count, num_workers, workload), all_ in bytes_per_second.items()
    ]


def tables(record: Record) -> list[Table]:
    """Returns one table: a row for each transport, workload and number of workers, a column for each number of ps."""
    cases = record["results"]["cases"]
    counts = sorted({case["ps"] for case in cases})
    table = Table(
        "Throughput over ps processes, GB/s", ["transport", "work", "workers", *(f"{n} ps" for n in counts)], labels=2
    )
    rows = dict.fromkeys((case["transport"], case["workload"], case["workers"]) for case in cases)
    for transport, workload, workers in rows:
        medians = {
            case["ps"]: case["bytes_per_s"]["p50"]
            for case in cases
            if (case["transport"], case["workload"], case["workers"]) == (transport, workload, workers)
        }
        label = "pull the model" if workload == "pull161" else "push the model"
        table.rows.append([transport, label, str(workers), *(number(medians[count] / 1e9) for count in counts)])
    return [table]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = command.parser(__doc__)
    parser.add_argument("--ps", nargs="+", type=command.positive, default=[1, 2, 3, 4], help="numbers of ps processes")
    parser.add_argument("--workers", nargs="+", type=command.positive, default=[1, 2], help="numbers of workers")
    parser.add_argument("--rounds", type=command.positive, default=3, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--scale", choices=sorted(SCALES), default="full", help="size of the data (default: full)")
    given = parser.parse_args(arguments)
    settings = {"rounds": given.rounds, "seconds": given.seconds, "scale": given.scale}
    cases = [case for each in given.transport for case in measure(each, given.ps, given.workers, **settings)]
    command.finish(BENCHMARK, "benchmarks.ps_tasks", {"cases": cases, **settings}, tables, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
