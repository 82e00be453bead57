"""What reading at backups too wins: ``python -m benchmarks.backup_reads [--readers 2] [--rounds 5] [--seconds 1]``.

Processes of their own read one variable as fast as they can, each waiting for its value: at the primary, or at both
processes of the ps task. Each has a connection of either kind, and the two kinds take turns within each round, so
that a machine that drifts treats both alike. All of them work at the same time.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, Final, TypeAlias

import numpy as np

import worker_client
from benchmarks.harness import command
from benchmarks.harness.record import Record
from benchmarks.harness.tables import Table, number, size
from ps_cluster import LocalCluster
from worker_client.client import Client
from worker_client.variables.variable import Variable

BENCHMARK = "backup_reads"
Jobs: TypeAlias = dict[str, list[str] | dict[int, str]]
ELEMENTS: Final = (1 << 10, 1 << 22)
"""Of float32 variables."""

WAYS: Final = ("primary", "any")
_WARM_S: Final = 3.0
_START_TIMEOUT_S: Final = 60.0


def measure(transport: str, *, readers: int, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Returns the median rate of all readers together in reads per second, for each size, of each way."""
    rates: dict[tuple[int, str], list[float]] = {}
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(LocalCluster(num_ps=1, replicas=1))
        client = stack.enter_context(worker_client.connect(cluster.cluster_spec))
        for elements in ELEMENTS:
            _variable(client, elements)
        jobs = cluster.cluster_spec.as_dict()
        pipes = [stack.enter_context(_reader(jobs, index, transport)) for index in range(readers)]
        _ask(pipes, None)  # until each has read at the backup
        for turn in range(rounds):
            command.progress(f"{transport}: round {turn + 1} of {rounds}")
            for elements in ELEMENTS:
                for way in WAYS:
                    counts = _ask(pipes, (elements, way, seconds))
                    rates.setdefault((elements, way), []).append(sum(counts) / seconds)
    return [
        {
            "transport": transport,
            "bytes": 4 * elements,
            "primary_per_s": statistics.median(rates[elements, "primary"]),
            "any_per_s": statistics.median(rates[elements, "any"]),
            "ratio": statistics.median(
                [
                    any_ / primary
                    for primary, any_ in zip(rates[elements, "primary"], rates[elements, "any"], strict=True)
                ]
            ),
        }
        for elements in ELEMENTS
    ]


def _variable(client: Client, elements: int) -> Variable:
    with client.as_default(), worker_client.device("/job:ps/task:0"):
        variable = worker_client.get_variable(f"v{elements}", [elements], initializer=worker_client.zeros_initializer())
    if not isinstance(variable, Variable):
        raise TypeError("a variable that is not partitioned was asked for")
    return variable


@contextlib.contextmanager
def _reader(jobs: Jobs, index: int, transport: str) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=read_when_asked, args=(theirs, jobs, index, transport), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
        ours.send("end")
        process.join(_START_TIMEOUT_S)
    finally:
        process.kill()
        ours.close()


def _ask(pipes: Sequence[Connection], work: tuple[int, str, float] | None) -> list[int]:
    for pipe in pipes:
        pipe.send(work)
    answers = []
    for pipe in pipes:
        if not pipe.poll(_START_TIMEOUT_S):
            raise TimeoutError(f"a reader has not answered in {_START_TIMEOUT_S:.0f} s")
        answers.append(pipe.recv())
    return answers


def read_when_asked(pipe: Connection, jobs: Jobs, index: int, transport: str) -> None:
    """The work of a reader: for each question, reads for so long, and answers how often."""
    with contextlib.ExitStack() as stack:
        variables: dict[tuple[int, str], Variable] = {}
        for number_of_way, way in enumerate(WAYS, 1):  # worker 0 has made the variables
            client = stack.enter_context(
                worker_client.connect(
                    jobs, "worker", len(WAYS) * index + number_of_way, transport=transport, read_from=way
                )
            )
            variables |= {(elements, way): _variable(client, elements) for elements in ELEMENTS}
        outs = {elements: np.empty(elements, np.float32) for elements in ELEMENTS}
        while (work := pipe.recv()) != "end":
            if work is None:  # as long as the client needs to have met the backup
                pipe.send(
                    sum(_count(each, outs[case[0]], _WARM_S / len(variables)) for case, each in variables.items())
                )
                continue
            elements, way, seconds = work
            pipe.send(_count(variables[elements, way], outs[elements], seconds))


def _count(variable: Variable, out: np.ndarray[Any, Any], seconds: float) -> int:
    count, end_s = 0, time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        variable.read_value(out=out)
        count += 1
    return count


def tables(record: Record) -> list[Table]:
    """Returns the figures as a table."""
    rows: list[Sequence[str]] = [
        (
            case["transport"],
            size(case["bytes"]),
            f"{case['primary_per_s']:,.0f}",
            f"{case['any_per_s']:,.0f}",
            number(case["ratio"]),
        )
        for case in record["results"]["cases"]
    ]
    columns = ("transport", "read", "at the primary", "at both", "times as many")
    title = f"Reads per second of {record['results']['readers']} processes together, median"
    return [Table(title, columns, rows, labels=2)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and shows the figures; returns the exit code."""
    parser = command.parser(__doc__)
    parser.add_argument("--readers", type=command.positive, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--rounds", type=command.positive, default=5, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement (default: %(default)s)")
    given = parser.parse_args(arguments)
    settings = {"readers": given.readers, "rounds": given.rounds, "seconds": given.seconds}
    cases = [case for transport in given.transport for case in measure(transport, **settings)]
    command.finish(BENCHMARK, "benchmarks.backup_reads", {"cases": cases, **settings}, tables, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
