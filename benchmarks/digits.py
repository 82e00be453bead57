"""Steps per second of workers that train the example's digit classifier: ``python -m benchmarks.digits``.

A step pulls all parameters, computes a gradient and pushes it, as in ``examples/digits.py``. Here the gradient is
written by hand, so that the time is that of the exchanges.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import worker_client as ss
from benchmarks.digits_by_hand import gradients
from benchmarks.drivers.shardscope import connect
from benchmarks.harness import command
from benchmarks.harness.contestants import ROOT, TRANSPORTS
from benchmarks.harness.record import Record
from benchmarks.harness.tables import Table, number
from examples import digits
from ps_cluster import LocalCluster
from ps_cluster.local.line_splitter import OutputLine

BENCHMARK = "digits"
_HIDDEN, _BATCH, _RATE = 64, 32, 0.1
_START_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 60.0


def train(client: ss.Client, num_workers: int, seconds: float) -> int:
    """Trains together with the other workers, once all are there, for so long; returns this worker's steps."""
    images, classes, _, _ = digits.load_digits()
    variables = digits.build_model(client, _HIDDEN)
    present = ss.get_variable("present", [], initializer=ss.zeros_initializer())
    outs = [np.zeros(each.shape, np.float32) for each in variables]
    random = np.random.default_rng(client.task.index)

    def step() -> None:
        rows = random.choice(len(images), _BATCH, replace=False)
        parameters = client.read_all(variables, out=outs)
        found = gradients(parameters, images[rows], classes[rows])
        client.assign_add_all(zip(variables, [-_RATE * each for each in found], strict=True))

    step()
    present.assign_add(1.0)
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while present.read_value() < num_workers:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"of {num_workers} workers only {float(present):.0f} have started")
        time.sleep(0.01)
    steps, end_s = 0, time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        step()
        steps += 1
    return steps


def _keep(lines: list[str], line: OutputLine) -> None:
    lines.append(line.text)


def measure(transport: str, num_ps: int, num_workers: int, seconds: float) -> dict[str, Any]:
    """Returns the steps per second of each worker."""
    with LocalCluster(num_ps=num_ps, num_workers=num_workers, env={"PYTHONPATH": str(ROOT)}) as cluster:
        printed: list[list[str]] = [[] for _ in range(num_workers)]
        program = ["python", "-m", "benchmarks.digits", "--worker", transport, "--seconds", str(seconds)]
        workers = [
            cluster.start_worker(index, program, on_line=functools.partial(_keep, printed[index]))
            for index in range(num_workers)
        ]
        codes = [each.wait(_START_TIMEOUT_S + seconds + _END_TIMEOUT_S) for each in workers]
        if any(codes) or None in codes:
            raise RuntimeError(f"{transport}: workers ended with {codes}; they printed {printed}")
    rates = [int(lines[-1]) / seconds for lines in printed]
    return {"transport": transport, "steps_per_s": rates}


def tables(record: Record) -> list[Table]:
    """Returns the one table."""
    results = record["results"]
    table = Table(
        f"Training digits: {results['workers']} workers, {results['ps']} ps",
        ["transport", "steps per second, together", "slowest worker", "fastest worker"],
    )
    for case in results["cases"]:
        rates = case["steps_per_s"]
        table.rows.append([case["transport"], *(number(each) for each in (sum(rates), min(rates), max(rates)))])
    return [table]


def _worker(transport: str, seconds: float) -> None:
    with connect(None, transport) as client:
        print(train(client, client.num_workers, seconds), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = command.parser(__doc__)
    parser.add_argument("--ps", type=command.positive, default=2, help="ps processes (default: %(default)s)")
    parser.add_argument("--workers", type=command.positive, default=4, help="worker processes (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of training (default: %(default)s)")
    parser.add_argument("--worker", choices=TRANSPORTS, help=argparse.SUPPRESS)  # be one of the workers
    given = parser.parse_args(arguments)
    if given.worker:
        _worker(given.worker, given.seconds)
        return 0
    cases = []
    for transport in given.transport:
        command.progress(transport)
        cases.append(measure(transport, given.ps, given.workers, given.seconds))
    results = {"cases": cases, "ps": given.ps, "workers": given.workers}
    command.finish(BENCHMARK, "benchmarks.digits", results, tables, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
