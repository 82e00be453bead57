"""Latency and throughput of small operations under many clients, each a process of its own.

    python -m benchmarks.clients [--clients 1 2 4 8 32] [--seconds 2]

All clients add to, then read, one scalar of one ps, as fast as they can and for the same time.
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
from benchmarks.harness.tables import Table, duration
from ps_cluster import LocalCluster

BENCHMARK = "clients"
_WORKLOADS = ("add", "read")
_WARM = 20


def measure(transport: str, clients: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """Returns a summary of the latencies, and the operations per second, for each number of clients and workload."""
    results: list[dict[str, Any]] = []
    with LocalCluster(num_ps=1) as cluster, contextlib.ExitStack() as stack:
        entry = own_entry(transport, "small", cluster=cluster.cluster_spec.to_flag())
        running: list[RunningContestant] = []
        added = 0
        for count in sorted(clients):
            running += [stack.enter_context(RunningContestant(entry)) for _ in range(count - len(running))]
            for workload in _WORKLOADS:
                command.progress(f"{transport}: {count} clients, {workload}")
                for each in running:
                    each.begin("run", workload=workload, variant="", warm=_WARM, for_s=seconds)
                latencies = [each.seconds() for each in running]
                taken = [one for each in latencies for one in each]
                added += (len(taken) + _WARM * count) if workload == "add" else 0
                results.append(
                    {
                        "transport": transport,
                        "clients": count,
                        "workload": workload,
                        "latency_s": summary(taken),
                        "per_second": sum(len(each) / sum(each) for each in latencies),
                    }
                )
        held = running[0].state()["observed"]["scalar"]
        if held != added:
            raise RuntimeError(f"{transport}: the scalar is {held:.0f} after {added} additions of 1")
    return results


def tables(record: Record) -> list[Table]:
    """Returns one table for each workload."""
    found = []
    for workload in _WORKLOADS:
        table = Table(
            f"Many clients: {workload} a scalar", ["transport", "clients", "median", "p99", "operations per second"]
        )
        for case in record["results"]["cases"]:
            if case["workload"] == workload:
                quantiles = (duration(case["latency_s"][name], "us") for name in ("p50", "p99"))
                table.rows.append([case["transport"], str(case["clients"]), *quantiles, f"{case['per_second']:,.0f}"])
        found.append(table)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = command.parser(__doc__)
    parser.add_argument("--clients", nargs="+", type=command.positive, default=[1, 2, 4, 8, 32], help="numbers of them")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement (default: %(default)s)")
    given = parser.parse_args(arguments)
    cases = [case for transport in given.transport for case in measure(transport, given.clients, given.seconds)]
    command.finish(BENCHMARK, "benchmarks.clients", {"cases": cases}, tables, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
