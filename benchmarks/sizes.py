"""Latency of pulls and pushes from 4 bytes to 1 GiB, by every transport.

    python -m benchmarks.sizes [--largest 1073741824] [--rounds 5] [--json sizes.json]
    python -m benchmarks.plots sizes.json docs/latency-by-size

One ps process; this process is the worker and has one connection for each transport. The transports take turns.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import worker_client as ss
from benchmarks.drivers.shardscope import connect
from benchmarks.harness import command
from benchmarks.harness.line_protocol import Call, timed
from benchmarks.harness.record import Record
from benchmarks.harness.samples import summary
from benchmarks.harness.tables import Table, auto_duration, size
from benchmarks.harness.workloads import FLOAT_BYTES
from ps_cluster import LocalCluster

BENCHMARK = "sizes"
_LARGEST_BYTES = 2**30
_STEP = 8
_BYTES_IN_A_ROUND = 64 * 2**20
_MOST_CALLS = 100
_STAGING_LIMIT = "8G"


def sizes_up_to(largest: int) -> list[int]:
    """Returns 4 bytes, 32 bytes and so on, and ``largest`` itself."""
    found = []
    each = FLOAT_BYTES
    while each < largest:
        found.append(each)
        each *= _STEP
    return [*found, largest]


def _calls(client: ss.Client, transport: str, size_bytes: int) -> dict[str, Call]:
    with client.as_default(), ss.variable_scope("sizes", reuse=ss.AUTO_REUSE):
        variable = ss.get_variable(f"of_{size_bytes}", [size_bytes // FLOAT_BYTES], initializer=ss.zeros_initializer())
    delta = np.ones(variable.shape, np.float32)
    value = np.zeros_like(delta)
    calls: dict[str, Call] = {
        "pull": lambda: variable.read_value(out=value),
        "push": lambda: variable.assign_add(delta),
    }
    if transport == "shm":
        buffer = variable.push_buffer()
        buffer[...] = 1
        calls["pull, view"] = lambda: variable.read_value(copy=False)
        calls["push, in place"] = lambda: variable.assign_add(buffer)
    return calls


def measure(transports: Sequence[str], largest: int, rounds: int) -> list[dict[str, Any]]:
    """Returns a summary of the latencies for each size, transport and kind of work."""
    results = []
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(LocalCluster(num_ps=1, ps_arguments=["--staging-limit", _STAGING_LIMIT]))
        clients = {each: stack.enter_context(connect(cluster.cluster_spec, each)) for each in transports}
        for size_bytes in sizes_up_to(largest):
            command.progress(size(size_bytes))
            results += _one_size(clients, size_bytes, rounds)
    return results


def _one_size(clients: Mapping[str, ss.Client], size_bytes: int, rounds: int) -> list[dict[str, Any]]:
    calls = {transport: _calls(client, transport, size_bytes) for transport, client in clients.items()}
    count = max(1, min(_MOST_CALLS, _BYTES_IN_A_ROUND // size_bytes))
    taken: dict[tuple[str, str], list[float]] = {}
    for turn in range(rounds + 1):
        for transport, kinds in calls.items():
            for work, call in kinds.items():
                times = timed(call, warm=1, calls=count)
                if turn > 0:
                    taken.setdefault((transport, work), []).extend(times)
    return [
        {"bytes": size_bytes, "transport": transport, "work": work, "latency_s": summary(times)}
        for (transport, work), times in taken.items()
    ]


def tables(record: Record) -> list[Table]:
    """Returns a table for each kind of work, a row for each size."""
    cases = record["results"]["cases"]
    found = []
    for work in dict.fromkeys(case["work"] for case in cases):
        of_work = [case for case in cases if case["work"] == work]
        transports = list(dict.fromkeys(case["transport"] for case in of_work))
        table = Table(f"{work.capitalize()} by size: median / p99", ["size", *transports])
        for size_bytes in dict.fromkeys(case["bytes"] for case in of_work):
            by_transport = {case["transport"]: case["latency_s"] for case in of_work if case["bytes"] == size_bytes}
            cells = [
                f"{auto_duration(by_transport[each]['p50'])} / {auto_duration(by_transport[each]['p99'])}"
                for each in transports
            ]
            table.rows.append([size(size_bytes), *cells])
        found.append(table)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = command.parser(__doc__)
    parser.add_argument("--largest", type=command.positive, default=_LARGEST_BYTES, metavar="BYTES", help="(1 GiB)")
    parser.add_argument("--rounds", type=command.positive, default=5, help="turns of each (default: %(default)s)")
    given = parser.parse_args(arguments)
    cases = measure(given.transport, given.largest, given.rounds)
    command.finish(BENCHMARK, "benchmarks.sizes", {"cases": cases}, tables, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
