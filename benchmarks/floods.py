"""What a client that behaves well notices of floods: ``python -m benchmarks.floods [--flood NAME ...] [--count 128]``.

For each flood of ``flood_kinds.table`` and each transport a ps is started. A client adds to a scalar, first alone, then
while another process floods the ps; and in the middle of the flood a new client connects and reads it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any

import worker_client as ss
from benchmarks.drivers.shardscope import connect
from benchmarks.flood_kinds.table import FLOODS, LARGE, LARGE_BYTES, PS_ARGUMENTS, Attacker
from benchmarks.harness import command
from benchmarks.harness.contestants import ROOT
from benchmarks.harness.line_protocol import timed
from benchmarks.harness.record import Record
from benchmarks.harness.samples import summary
from benchmarks.harness.tables import Table, auto_duration, number
from ps_cluster import LocalCluster

BENCHMARK = "floods"
_WARM = 200
_STEP_S = 0.05
_END_TIMEOUT_S = 60.0
_MAX_COUNT = 2000


def flood(name: str, cluster: str, transport: str, count: int) -> None:
    """Floods a ps until standard input ends; says when it has begun, and at the end what has happened."""
    attacker = Attacker(ss.ClusterSpec.parse(cluster), transport, count)
    is_over = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        is_over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    steps = FLOODS[name].run(attacker)
    with contextlib.closing(attacker), contextlib.closing(steps):
        next(steps)
        print("begun", flush=True)
        while not is_over.wait(_STEP_S):
            next(steps)
    print(json.dumps(attacker.counts), flush=True)


@contextlib.contextmanager
def _flooded(name: str, cluster: str, transport: str, count: int) -> Iterator[dict[str, int]]:
    """Floods the ps in the block; afterwards what has happened is in the dictionary."""
    program = [sys.executable, "-m", "benchmarks.floods", "--be", name, "--cluster", cluster]
    process = subprocess.Popen(
        [*program, "--transport", transport, "--count", str(count)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    counts: dict[str, int] = {}
    try:
        if _pipe(process.stdout).readline() != b"begun\n":
            raise RuntimeError(f"the flood {name} has ended before it began")
        yield counts
        output, _ = process.communicate(timeout=_END_TIMEOUT_S)
        counts.update(json.loads(output))
    finally:
        process.kill()
        process.wait(_END_TIMEOUT_S)
    if not any(counts.values()):
        raise RuntimeError(f"the flood {name} did not take place")


def _pipe(end: IO[bytes] | None) -> IO[bytes]:
    assert end is not None
    return end


def measure(name: str, transport: str, *, count: int, seconds: float) -> dict[str, Any]:
    """Returns how long additions took before and during a flood, and how long a new client's first read took."""
    command.progress(f"{transport}: {FLOODS[name].what}")
    with LocalCluster(num_ps=1, ps_arguments=PS_ARGUMENTS) as cluster:
        spec = cluster.cluster_spec
        with connect(spec, transport):
            ss.get_variable(LARGE, [LARGE_BYTES // 4], initializer=ss.zeros_initializer())
            scalar = ss.get_variable("scalar", [], initializer=ss.zeros_initializer())
            before = timed(lambda: scalar.assign_add(1.0), warm=_WARM, for_s=seconds)
            with _flooded(name, spec.to_flag(), transport, count) as counts:
                half = timed(lambda: scalar.assign_add(1.0), warm=0, for_s=seconds / 2)
                began_s = time.perf_counter()
                with connect(spec, transport, task_index=1) as client, client.as_default():
                    ss.get_variable("scalar", [], initializer=ss.zeros_initializer()).read_value()
                    connect_s = time.perf_counter() - began_s
                during = half + timed(lambda: scalar.assign_add(1.0), warm=0, for_s=seconds / 2)
            calls = _WARM + len(before) + len(during)
            if scalar.read_value() != calls:
                raise RuntimeError(f"{calls} additions were acknowledged, but the scalar is {scalar.read_value()}")
    return {
        "transport": transport,
        "flood": name,
        "before_s": summary(before),
        "during_s": summary(during),
        "connect_s": connect_s,
        "counts": counts,
    }


def tables(record: Record) -> list[Table]:
    """Returns the one table."""
    columns = ["transport", "flood", "p99 before", "p99 during", "ratio", "longest", "a new client", "what took place"]
    table = Table("Adding to a scalar beside a flood", columns, labels=2)
    for case in record["results"]["cases"]:
        before, during = case["before_s"], case["during_s"]
        took_place = ", ".join(f"{count:,} {what}" for what, count in case["counts"].items() if count)
        table.rows.append(
            [
                case["transport"],
                FLOODS[case["flood"]].what,
                auto_duration(before["p99"]),
                auto_duration(during["p99"]),
                number(during["p99"] / before["p99"]),
                auto_duration(during["max"]),
                auto_duration(case["connect_s"]),
                took_place,
            ]
        )
    return [table]


def _count(text: str) -> int:
    count = command.positive(text)
    if count > _MAX_COUNT:
        raise argparse.ArgumentTypeError(f"a flood has at most {_MAX_COUNT} connections")
    return count


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = command.parser(__doc__)
    parser.add_argument(
        "--flood", nargs="+", action=command.Chosen, choices=list(FLOODS), default=list(FLOODS), help="(default: all)"
    )
    parser.add_argument("--count", type=_count, default=128, help="connections of each flood (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="before and during each (default: %(default)s)")
    parser.add_argument("--be", choices=list(FLOODS), help=argparse.SUPPRESS)  # be the flood
    parser.add_argument("--cluster", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.be:
        flood(given.be, given.cluster, given.transport[0], given.count)
        return 0
    cases = [
        measure(name, transport, count=given.count, seconds=given.seconds)
        for transport in given.transport
        for name in given.flood
        if transport in FLOODS[name].transports
    ]
    results = {"cases": cases, "count": given.count, "seconds": given.seconds}
    command.finish(BENCHMARK, "benchmarks.floods", results, tables, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
