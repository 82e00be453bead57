"""What a thousand idle connections cost a ps: ``python -m benchmarks.connections``. Linux only.

The connections are held by a few processes, each of which makes its share. Beside them one client adds to a scalar.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import psutil

import worker_client as ss
from benchmarks.drivers.shardscope import connect
from benchmarks.harness import command
from benchmarks.harness.contestants import ROOT, TRANSPORTS
from benchmarks.harness.line_protocol import timed
from benchmarks.harness.processes import cpu_seconds, resident_bytes
from benchmarks.harness.record import Record
from benchmarks.harness.samples import summary
from benchmarks.harness.tables import Table, duration, number, size
from ps_cluster import LocalCluster

BENCHMARK = "connections"
_HOLDERS = 4
_DESCRIPTORS = 16 * 1024
_CALLS, _WARM = 2000, 100
_END_TIMEOUT_S = 120.0


def _allow_many_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def hold(cluster: str, transport: str, first: int, count: int) -> None:
    """Opens ``count`` connections, as the workers from ``first`` on, uses each once, keeps them until input ends."""
    _allow_many_descriptors()
    with contextlib.ExitStack() as stack:
        for index in range(first, first + count):
            client = stack.enter_context(connect(ss.ClusterSpec.parse(cluster), transport, task_index=index))
            with client.as_default():
                ss.get_variable("scalar", [], initializer=ss.zeros_initializer()).read_value()
        print("connected", flush=True)
        sys.stdin.read()


@contextlib.contextmanager
def _held(cluster: str, transport: str, count: int) -> Iterator[None]:
    """Keeps so many connections open in the block, by several processes."""
    shares = [each for each in np.array_split(np.arange(1, count + 1), _HOLDERS) if len(each)]  # worker 0 works
    program = [sys.executable, "-m", "benchmarks.connections", "--hold", transport, "--cluster", cluster]
    holders = [
        subprocess.Popen(
            [*program, "--first", str(share[0]), "--count", str(len(share))],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for share in shares
    ]
    try:
        for holder in holders:
            if holder.stdout is None or holder.stdout.readline() != b"connected\n":
                raise RuntimeError(f"{transport}: a process that was to hold {count} connections has ended")
        yield
    finally:
        for holder in holders:
            with contextlib.suppress(subprocess.TimeoutExpired):
                holder.communicate(timeout=_END_TIMEOUT_S)
            holder.kill()
            holder.wait(_END_TIMEOUT_S)


def measure(transport: str, counts: Sequence[int], idle_s: float) -> list[dict[str, Any]]:
    """Returns what the ps needs with so many idle connections, and how long one client's additions take beside them."""
    _allow_many_descriptors()
    results = []
    for count in counts:
        command.progress(f"{transport}: {count} connections")
        with (
            LocalCluster(num_ps=1) as cluster,
            _held(cluster.cluster_spec.to_flag(), transport, count),
            connect(cluster.cluster_spec, transport),
        ):
            observed = _observed(cluster.ps_pid(0), idle_s)
        results.append({"transport": transport, "connections": count, **observed})
    return results


def _observed(pid: int, idle_s: float) -> dict[str, Any]:
    before_s = cpu_seconds(pid)
    time.sleep(idle_s)
    idle_cpu = (cpu_seconds(pid) - before_s) / idle_s
    scalar = ss.get_variable("scalar", [], initializer=ss.zeros_initializer())
    latencies = timed(lambda: scalar.assign_add(1.0), warm=_WARM, calls=_CALLS)
    ps = psutil.Process(pid)
    return {
        "ps_bytes": resident_bytes(pid),
        "threads": ps.num_threads(),
        "descriptors": ps.num_fds(),
        "idle_cpu": idle_cpu,
        "add_s": summary(latencies),
    }


def tables(record: Record) -> list[Table]:
    """Returns the one table."""
    table = Table(
        "Idle connections",
        ["transport", "connections", "memory of the ps", "threads", "files", "idle CPU", "add, median", "add, p99"],
    )
    for case in record["results"]["cases"]:
        latencies = (duration(case["add_s"][name], "us") for name in ("p50", "p99"))
        counts = (str(case[name]) for name in ("threads", "descriptors"))
        idle = f"{number(case['idle_cpu'] * 100)} %"
        table.rows.append(
            [case["transport"], str(case["connections"]), size(case["ps_bytes"]), *counts, idle, *latencies]
        )
    return [table]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = command.parser(__doc__)
    parser.add_argument("--connections", nargs="+", type=int, default=[0, 250, 1000], help="(default: 0 250 1000)")
    parser.add_argument("--idle", type=float, default=5.0, help="seconds of idleness (default: %(default)s)")
    parser.add_argument("--hold", choices=TRANSPORTS, help=argparse.SUPPRESS)  # be one of those that hold them
    parser.add_argument("--cluster", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.hold:
        hold(given.cluster, given.hold, given.first, given.count)
        return 0
    cases = [case for transport in given.transport for case in measure(transport, given.connections, given.idle)]
    command.finish(BENCHMARK, "benchmarks.connections", {"cases": cases}, tables, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
