"""What a backup costs an update: ``python -m benchmarks.replication [--rounds 5] [--seconds 1]``.

One client adds to one variable and waits for each answer, with and without a backup that must have the update too.
Both clusters run all the time and take turns within each round, so that a machine that drifts treats both alike.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import worker_client
from benchmarks.harness import command
from benchmarks.harness.record import Record
from benchmarks.harness.tables import Table, auto_duration, number, size
from ps_cluster import LocalCluster
from worker_client.client import Client
from worker_client.variables.variable import Variable

BENCHMARK = "replication"
ELEMENTS = (1, 1 << 14, 1 << 18, 1 << 22, 25 << 20)
"""Of float32 variables."""

_WARM = 3


def measure(transport: str, *, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Returns the median latency of an update in seconds, for each size, without and with a backup."""
    taken: dict[tuple[int, int], list[float]] = {}
    with contextlib.ExitStack() as stack:
        variables: dict[tuple[int, int], Variable] = {}
        for replicas in (0, 1):
            cluster = stack.enter_context(LocalCluster(num_ps=2, replicas=replicas))
            client = stack.enter_context(worker_client.connect(cluster.cluster_spec, transport=transport))
            variables |= {(elements, replicas): _variable(client, elements) for elements in ELEMENTS}
        for turn in range(rounds):
            command.progress(f"{transport}: round {turn + 1} of {rounds}")
            for case, variable in variables.items():
                taken.setdefault(case, []).extend(_latencies_s(variable, case[0], seconds))
    return [
        {
            "transport": transport,
            "bytes": 4 * elements,
            "alone_s": statistics.median(taken[elements, 0]),
            "replicated_s": statistics.median(taken[elements, 1]),
        }
        for elements in ELEMENTS
    ]


def _variable(client: Client, elements: int) -> Variable:
    with client.as_default(), worker_client.device("/job:ps/task:0"):
        variable = worker_client.get_variable(f"v{elements}", [elements], initializer=worker_client.zeros_initializer())
    if not isinstance(variable, Variable):
        raise TypeError("a variable that is not partitioned was asked for")
    return variable


def _latencies_s(variable: Variable, elements: int, seconds: float) -> list[float]:
    value = np.ones(elements, np.float32)
    for _ in range(_WARM):
        variable.assign_add(value)
    taken: list[float] = []
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        began_s = time.perf_counter()
        variable.assign_add(value)
        taken.append(time.perf_counter() - began_s)
    return taken


def tables(record: Record) -> list[Table]:
    """Returns the figures as a table."""
    rows: list[Sequence[str]] = [
        (
            case["transport"],
            size(case["bytes"]),
            auto_duration(case["alone_s"]),
            auto_duration(case["replicated_s"]),
            number(case["replicated_s"] / case["alone_s"]),
        )
        for case in record["results"]["cases"]
    ]
    columns = ("transport", "update", "alone", "with a backup", "times as long")
    return [Table("An update that is waited for, median", columns, rows, labels=2)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and shows the figures; returns the exit code."""
    parser = command.parser(__doc__)
    parser.add_argument("--rounds", type=command.positive, default=5, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement (default: %(default)s)")
    given = parser.parse_args(arguments)
    settings = {"rounds": given.rounds, "seconds": given.seconds}
    cases = [case for transport in given.transport for case in measure(transport, **settings)]
    command.finish(BENCHMARK, "benchmarks.replication", {"cases": cases, **settings}, tables, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
