"""Whether a large variable delays a small one: additions to a scalar while another process moves 100 MiB.

    python -m benchmarks.fairness [--transport grpc] [--rounds 5] [--seconds 2]

One ps process holds both. This process adds to the scalar, a call at a time; the other process does nothing, pushes, or
pulls, in turns within each round. It is a process of its own so that the two share no interpreter but the ps's.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Any

import worker_client as ss
from benchmarks.drivers.shardscope import connect
from benchmarks.harness import command
from benchmarks.harness.contestants import RunningContestant, own_entry
from benchmarks.harness.line_protocol import timed
from benchmarks.harness.record import Record
from benchmarks.harness.samples import summary
from benchmarks.harness.tables import Table, duration
from benchmarks.harness.workloads import SCALES
from ps_cluster import LocalCluster

BENCHMARK = "fairness"
_BESIDE = {"nothing": None, "pushes": "push", "pulls": "pull"}
_WARM = 100


def measure(transport: str, *, rounds: int, seconds: float, scale: str) -> list[dict[str, Any]]:
    """Returns how long additions took, all rounds together, beside each kind of work by another process."""
    latencies: dict[str, list[float]] = {name: [] for name in _BESIDE}
    moved: dict[str, list[float]] = {name: [] for name in _BESIDE}
    with contextlib.ExitStack() as stack:
        spec = stack.enter_context(LocalCluster(num_ps=1)).cluster_spec
        mover = stack.enter_context(RunningContestant(own_entry(transport, scale, cluster=spec.to_flag())))
        stack.enter_context(connect(spec, transport))
        scalar = ss.get_variable("beside_large_ones", [], initializer=ss.zeros_initializer())
        for turn in range(rounds):
            command.progress(f"{transport}: round {turn + 1} of {rounds}")
            for name, workload in _BESIDE.items():
                if workload is not None:
                    mover.begin("run", workload=workload, variant=mover.cases[workload][0], warm=1, for_s=seconds)
                # It may warm up a moment longer, but works to the end of this.
                latencies[name] += timed(lambda: scalar.assign_add(1.0), warm=_WARM, for_s=seconds)
                if workload is not None:
                    moved[name] += mover.seconds()
    return [
        {
            "transport": transport,
            "beside": name,
            "add_s": summary(latencies[name]),
            "large_s": summary(moved[name]) if moved[name] else None,
        }
        for name in _BESIDE
    ]


def tables(record: Record) -> list[Table]:
    """Returns the one table."""
    columns = ["transport", "the other process", "median", "p99", "longest", "its own median"]
    table = Table("Adding to a scalar beside 100 MiB", columns, labels=2)
    for case in record["results"]["cases"]:
        times = [duration(case["add_s"][name], "us") for name in ("p50", "p99", "max")]
        large = "" if case["large_s"] is None else duration(case["large_s"]["p50"], "ms")
        table.rows.append([case["transport"], case["beside"], *times, large])
    return [table]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = command.parser(__doc__)
    parser.add_argument("--rounds", type=command.positive, default=5, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--scale", choices=sorted(SCALES), default="full", help="size of the data (default: full)")
    given = parser.parse_args(arguments)
    settings = {"rounds": given.rounds, "seconds": given.seconds, "scale": given.scale}
    cases = [case for each in given.transport for case in measure(each, **settings)]
    command.finish(BENCHMARK, "benchmarks.fairness", {"cases": cases, **settings}, tables, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
