"""Memory of a ps and of its client while 1 GiB moves: ``python -m benchmarks.memory``. Linux only.

The ps may take as much as its variables, 1.1 times what is pushed, and 150 MB for the process itself. A client that
reads into an array it has allocates nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import worker_client as ss
from benchmarks.drivers.shardscope import connect
from benchmarks.harness import command, processes
from benchmarks.harness.line_protocol import Call
from benchmarks.harness.record import Record
from benchmarks.harness.tables import Table, size
from benchmarks.harness.workloads import FLOAT_BYTES
from ps_cluster import LocalCluster

BENCHMARK = "memory"
_PUSHED_FACTOR = 1.1
_PROCESS_BYTES = 150_000_000
_CALLS = 3


def ps_bound_bytes(variable_bytes: int) -> int:
    """Returns the most that a ps may take while so much is pushed to its only variable."""
    return int(variable_bytes * (1 + _PUSHED_FACTOR)) + _PROCESS_BYTES


def _observed(call: Call, ps: int) -> dict[str, int]:
    """Returns the peaks of both processes while ``call`` runs a few times, the first time included.

    The client's is what it takes more than before; ``python_bytes`` is what of that Python and NumPy have allocated.
    """
    before = processes.resident_bytes(os.getpid())
    for pid in (ps, os.getpid()):
        processes.reset_peak(pid)
    for _ in range(_CALLS):
        call()
    peaks = {"ps_bytes": processes.peak_bytes(ps), "client_bytes": processes.peak_bytes(os.getpid()) - before}
    tracemalloc.start()
    try:
        call()
        _, allocated = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return {**peaks, "python_bytes": allocated}


def _push(variable: ss.Variable) -> Call:
    delta = np.ones(variable.shape, np.float32)
    return lambda: variable.assign_add(delta)


def _push_in_place(variable: ss.Variable) -> Call:
    buffer = variable.push_buffer()
    buffer.fill(1)
    return lambda: variable.assign_add(buffer)


def _pull(variable: ss.Variable) -> Call:
    value = np.ones(variable.shape, np.float32)  # of zeros the kernel would not give the memory yet
    return lambda: variable.read_value(out=value)


def _pull_view(variable: ss.Variable) -> Call:
    return lambda: variable.read_value(copy=False)


_WORK: Mapping[str, Callable[[ss.Variable], Call]] = {"push": _push, "pull": _pull}
_WORK_IN_SHARED_MEMORY = {**_WORK, "push, in place": _push_in_place, "pull, view": _pull_view}


def measure(transport: str, size_bytes: int) -> list[dict[str, Any]]:
    """Returns the peaks for each kind of work; each has a ps of its own."""
    results = []
    for work, prepared in (_WORK_IN_SHARED_MEMORY if transport == "shm" else _WORK).items():
        with contextlib.ExitStack() as stack:
            cluster = stack.enter_context(LocalCluster(num_ps=1))
            stack.enter_context(connect(cluster.cluster_spec, transport))
            elements = size_bytes // FLOAT_BYTES
            variable = ss.get_variable("vector", [elements], initializer=ss.zeros_initializer())
            peaks = _observed(prepared(variable), cluster.ps_pid(0))
            results.append({"transport": transport, "work": work, **peaks})
    return results


def tables(record: Record) -> list[Table]:
    """Returns the one table."""
    size_bytes = record["results"]["size_bytes"]
    bound = ps_bound_bytes(size_bytes)
    table = Table(
        f"Memory while {size(size_bytes)} moves",
        ["transport", "work", "ps, most", "bound", "within", "client, added", "allocated by Python"],
        labels=2,
    )
    for case in record["results"]["cases"]:
        within = "yes" if case["ps_bytes"] <= bound else "no"
        ours = (size(case["client_bytes"]), size(case["python_bytes"]))
        table.rows.append([case["transport"], case["work"], size(case["ps_bytes"]), size(bound), within, *ours])
    return [table]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = command.parser(__doc__)
    parser.add_argument("--bytes", type=command.positive, default=2**30, help="size of the variable (default: 1 GiB)")
    given = parser.parse_args(arguments)
    cases: list[dict[str, Any]] = []
    for transport in given.transport:
        command.progress(transport)
        cases += command.in_fresh_process(measure, transport, given.bytes)
    command.finish(BENCHMARK, "benchmarks.memory", {"cases": cases, "size_bytes": given.bytes}, tables, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
