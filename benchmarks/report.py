"""Prints what a benchmark wrote as Markdown: ``python -m benchmarks.report FILE...``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import (
    adapters,
    checkpoints,
    clients,
    connections,
    cpu,
    digits,
    durability,
    fairness,
    floods,
    memory,
    optimizer_batches,
    ps_tasks,
    replication,
    rolling_restart,
    savers,
    sizes,
)
from benchmarks.comparison import comparison, comparison_tables
from benchmarks.harness.record import Record
from benchmarks.harness.tables import Table, size

_TABLES: Mapping[str, Callable[[Record], list[Table]]] = {
    comparison.BENCHMARK: comparison_tables.tables,
    **{
        each.BENCHMARK: each.tables
        for each in (
            adapters,
            checkpoints,
            clients,
            connections,
            cpu,
            digits,
            durability,
            fairness,
            floods,
            memory,
            optimizer_batches,
            ps_tasks,
            replication,
            rolling_restart,
            savers,
            sizes,
        )
    },
}


def markdown(record: Record) -> str:
    """Returns the tables of a record, after a paragraph that says what they were measured on and how."""
    machine, versions = record["machine"], record["versions"]
    contestants = record["results"].get("contestants", {})
    theirs = {
        library: version
        for each in contestants.values()
        if each["kind"] == "peer"
        for library, version in each["versions"].items()
        if library != "numpy"
    }
    libraries = ", ".join(f"{name} {version}" for name, version in {**versions, **theirs}.items())
    origin = (
        f"`{record['command']}`, {record['date'][:10]}, {machine['cores']} cores of {machine['processor']}, "
        f"{size(machine['memory_bytes'])} of memory, {machine['system']}; {libraries}."
    )
    return "\n\n".join([origin, *(table.markdown() for table in _TABLES[record["benchmark"]](record))])


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="what --json has written")
    for path in parser.parse_args(arguments).files:
        print(markdown(json.loads(path.read_text())), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
