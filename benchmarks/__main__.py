"""Compares Shardscope with its peers and with the machine: ``python -m benchmarks``.

A peer takes part if it is given with the interpreter of its environment:

    python -m benchmarks --peer tensorflow=/envs/tf/bin/python --peer ray=/envs/ray/bin/python --json comparison.json

Ratios to peers are the peer's time divided by ours: larger is better. Ratios to the limit are our time divided by what
the machine needs to move the same bytes: smaller is better.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.comparison import comparison, comparison_tables
from benchmarks.harness import command
from benchmarks.harness.contestants import PEERS, ContestantError, Entry, limit_entry, own_entry, peer_entry
from benchmarks.harness.workloads import SCALES, WORKLOADS


def _peer(text: str) -> tuple[str, str]:
    name, _, python = text.partition("=")
    if name not in PEERS or not python:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PYTHON with a name of {', '.join(PEERS)}")
    return name, python


def _parser() -> argparse.ArgumentParser:
    parser = command.parser(__doc__)
    parser.prog = "python -m benchmarks"
    parser.add_argument(
        "--workload",
        nargs="+",
        action=command.Chosen,
        choices=list(WORKLOADS),
        default=list(WORKLOADS),
        help="(default: all)",
    )
    parser.add_argument(
        "--peer",
        action="append",
        type=_peer,
        default=[],
        metavar="NAME=PYTHON",
        help=f"also measure one of {', '.join(PEERS)}; may be repeated",
    )
    parser.add_argument("--rounds", type=command.positive, default=7, help="how often each takes its turn (default: 7)")
    parser.add_argument("--scale", choices=sorted(SCALES), default="full", help="size of the data (default: full)")
    return parser


def _entries(transports: Sequence[str], peers: Sequence[tuple[str, str]], scale: str) -> list[Entry]:
    own = [own_entry(transport, scale) for transport in transports]
    return [*own, *(peer_entry(name, python, scale) for name, python in peers), limit_entry(scale)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 if a contestant has failed."""
    given = _parser().parse_args(arguments)
    entries = _entries(list(dict.fromkeys(given.transport)), given.peer, given.scale)
    try:
        results = comparison.compare(entries, list(dict.fromkeys(given.workload)), rounds=given.rounds)
    except ContestantError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    results = {"scale": given.scale, **results}
    command.finish(comparison.BENCHMARK, "benchmarks", results, comparison_tables.tables, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
