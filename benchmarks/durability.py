"""What durability costs: journal, snapshots, recovery.

    python -m benchmarks.durability [--part scalar push snapshot recovery] [--scale full] [--directory .] [--json FILE]

One ps on this machine, its data on the disk of ``--directory``. Without and with durability take turns.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import command
from benchmarks.harness.record import Record
from benchmarks.harness.tables import Table, auto_duration, duration, number, size
from benchmarks.studies import durable_work
from benchmarks.studies.durable_work import SIZES, Case

BENCHMARK = "durability"
PARTS = ("scalar", "push", "snapshot", "recovery")
_SNAPSHOT_MODES = ("snapshot", "journal")
_SOURCES = ("nothing", "snapshot", "journal")


def measure(
    parts: Sequence[str],
    transports: Sequence[str],
    scale: str,
    directory: Path,
    *,
    clients: Sequence[int],
    rounds: int,
    seconds: float,
) -> list[Case]:
    """Returns the figures of the parts that are asked for; those without a transport of their own use the last."""
    cases: list[Case] = []
    sizes, last = SIZES[scale], transports[-1]
    for transport in transports:
        if "scalar" in parts:
            cases += durable_work.scalar_updates(directory, transport, clients, rounds=rounds, seconds=seconds)
        if "push" in parts:
            cases += durable_work.large_pushes(directory, transport, sizes, rounds=rounds)
    if "snapshot" in parts:
        for mode in _SNAPSHOT_MODES:
            # With a journal a snapshot comes when the updates have filled it.
            times = 10 if mode == "snapshot" else 20
            cases += durable_work.snapshot_delays(directory, last, mode, sizes, seconds=times * seconds)
    if "recovery" in parts:
        for source in _SOURCES:
            cases += durable_work.recoveries(directory, last, source, sizes, rounds=rounds)
    return cases


def tables(record: Record) -> list[Table]:
    """Returns a table for each part that was measured."""
    cases = record["results"]["cases"]
    made = {part: [case for case in cases if case["part"] == part] for part in PARTS}
    return [_TABLE_OF[part](of_part) for part, of_part in made.items() if of_part]


def _scalar_table(cases: Sequence[Case]) -> Table:
    table = Table(
        "Updates of a scalar, by the number of clients",
        ["transport", "durability", "clients", "median", "p99", "updates/s", "median ÷ none", "updates/s: none ÷ this"],
        labels=2,
        notes=[f"One record, written and forced out by itself: {_disk(cases)}."],
    )
    for case in cases:
        table.rows.append(
            [
                case["transport"],
                case["mode"],
                str(case["clients"]),
                *(duration(case[name], "us") for name in ("p50_s", "p99_s")),
                f"{case['per_second']:,.0f}",
                *(_spread(case[name]) for name in ("latency_ratio", "throughput_ratio")),
            ]
        )
    return table


def _disk(cases: Sequence[Case]) -> str:
    medians = [case["disk_s"]["p50"] for case in cases]
    return " to ".join(dict.fromkeys(duration(each, "us") for each in (min(medians), max(medians))))


def _push_table(cases: Sequence[Case]) -> Table:
    table = Table(
        f"Pushes of {size(cases[0]['bytes'])}",
        ["transport", "what", "clients", "median", "smallest", "largest", "bytes a second"],
        labels=2,
        notes=["disk: the same bytes written to a file and forced out."],
    )
    for case in cases:
        quantiles = (duration(case["seconds"][name], "ms") for name in ("p50", "min", "max"))
        count = str(case["clients"])
        table.rows.append([case["transport"], case["way"], count, *quantiles, size(case["bytes_per_s"])])
    return table


def _snapshot_table(cases: Sequence[Case]) -> Table:
    table = Table(
        f"Updates beside snapshots of {size(cases[0]['held_bytes'])}: median / p99 / largest",
        ["durability", "update", "snapshots", "while one is taken", "otherwise"],
        labels=2,
    )
    for case in cases:
        cells = [_latencies(case[name]) for name in ("with", "without")]
        table.rows.append([case["mode"], size(case["bytes"]), str(case["snapshots"]), *cells])
    return table


def _recovery_table(cases: Sequence[Case]) -> Table:
    table = Table(
        "Starts of a ps that was killed: median / largest",
        ["from", "files in", "bytes", "listens after", "processor until then", "first value read after"],
        labels=2,
    )
    for case in cases:
        cells = [
            f"{number(case[name]['p50'])} s / {number(case[name]['max'])} s"
            for name in ("listening_s", "cpu_s", "first_read_s")
        ]
        table.rows.append([case["source"], case["files"], size(case["bytes"]), *cells])
    return table


_TABLE_OF: Mapping[str, Callable[[Sequence[Case]], Table]] = {
    "scalar": _scalar_table,
    "push": _push_table,
    "snapshot": _snapshot_table,
    "recovery": _recovery_table,
}


def _spread(ratios: Mapping[str, float]) -> str:
    return f"{number(ratios['p50'])} ({number(ratios['min'])} to {number(ratios['max'])})"


def _latencies(found: Mapping[str, Any] | None) -> str:
    return "-" if found is None else " / ".join(auto_duration(found[name]) for name in ("p50", "p99", "max"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = command.parser(__doc__)
    parser.set_defaults(transport=["grpc", "shm"])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure (default: all)")
    parser.add_argument("--scale", choices=sorted(SIZES), default="full", help="size of the data")
    parser.add_argument("--directory", type=Path, default=Path(), help="where data are kept meanwhile (default: here)")
    parser.add_argument("--clients", nargs="+", type=command.positive, default=[1, 8], help="numbers of them")
    parser.add_argument("--rounds", type=command.positive, default=5, help="turns of each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn of scalar updates (%(default)s)")
    given = parser.parse_args(arguments)
    cases = measure(
        given.part,
        given.transport,
        given.scale,
        given.directory.resolve(),
        clients=given.clients,
        rounds=given.rounds,
        seconds=given.seconds,
    )
    command.finish(BENCHMARK, "benchmarks.durability", {"cases": cases}, tables, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
