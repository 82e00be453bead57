"""Processor time for each gigabyte that moves, on both sides: ``python -m benchmarks.cpu``. Linux only."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import worker_client as ss
from benchmarks.drivers.shardscope import connect
from benchmarks.harness import command
from benchmarks.harness.line_protocol import Call
from benchmarks.harness.processes import cpu_seconds
from benchmarks.harness.record import Record
from benchmarks.harness.tables import Table, number
from benchmarks.harness.workloads import SCALES, Scale
from ps_cluster import LocalCluster

BENCHMARK = "cpu"


def _calls(transport: str, scale: Scale) -> dict[str, tuple[Call, int]]:
    """Returns what to call, and how many bytes one call moves."""
    zeros = ss.zeros_initializer()
    variable = ss.get_variable("vector", [scale.elements], initializer=zeros)
    layers = [ss.get_variable(f"layer{i}", [scale.layer], initializer=zeros) for i in range(scale.layers)]
    client = ss.get_default_client()
    delta, layer_delta = np.ones(scale.elements, np.float32), np.ones(scale.layer, np.float32)
    value, values = np.zeros_like(delta), [np.zeros_like(layer_delta) for _ in layers]
    vector, model = scale.vector_bytes, scale.model_bytes
    calls: dict[str, tuple[Call, int]] = {
        "pull": (lambda: variable.read_value(out=value), vector),
        "push": (lambda: variable.assign_add(delta), vector),
        "pull 161": (lambda: client.read_all(layers, out=values), model),
        "push 161": (lambda: client.assign_add_all([(layer, layer_delta) for layer in layers]), model),
    }
    if transport == "shm":
        buffer = variable.push_buffer()
        buffer[...] = 1
        calls["pull, view"] = (lambda: variable.read_value(copy=False), vector)
        calls["push, in place"] = (lambda: variable.assign_add(buffer), vector)
    return calls


def measure(transport: str, scale: str, calls: int) -> list[dict[str, Any]]:
    """Returns processor seconds for each 10^9 bytes of the ps and of this process, by kind of work."""
    with LocalCluster(num_ps=1) as cluster, connect(cluster.cluster_spec, transport):
        ps, worker = cluster.ps_pid(0), os.getpid()
        results = []
        for work, (call, size_bytes) in _calls(transport, SCALES[scale]).items():
            call()
            before = cpu_seconds(ps), cpu_seconds(worker)
            for _ in range(calls):
                call()
            used = cpu_seconds(ps) - before[0], cpu_seconds(worker) - before[1]
            gigabytes = calls * size_bytes / 1e9
            sides = {"ps_s_per_gb": used[0] / gigabytes, "worker_s_per_gb": used[1] / gigabytes}
            results.append({"transport": transport, "work": work, **sides})
    return results


def tables(record: Record) -> list[Table]:
    """Returns the one table."""
    table = Table("Processor seconds for each GB moved", ["transport", "work", "ps", "worker", "together"], labels=2)
    for case in record["results"]["cases"]:
        ps, worker = case["ps_s_per_gb"], case["worker_s_per_gb"]
        table.rows.append([case["transport"], case["work"], *(number(each) for each in (ps, worker, ps + worker))])
    return [table]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = command.parser(__doc__)
    parser.add_argument("--calls", type=command.positive, default=30, help="of each kind (default: %(default)s)")
    parser.add_argument("--scale", choices=sorted(SCALES), default="full", help="size of the data (default: full)")
    given = parser.parse_args(arguments)
    cases: list[Mapping[str, Any]] = []
    for transport in given.transport:
        command.progress(transport)
        cases += command.in_fresh_process(measure, transport, given.scale, given.calls)
    command.finish(BENCHMARK, "benchmarks.cpu", {"cases": cases}, tables, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
