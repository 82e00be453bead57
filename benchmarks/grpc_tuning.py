"""What the settings of the gRPC transport cost: ``python -m benchmarks.grpc_tuning [--rounds N] [--json FILE]``.

A ps in another process and a client here talk gRPC, once for each setting and round, all settings in turn. For each
workload it prints the wall-clock time and the processor time of both processes together, medians over the rounds. On a
shared machine the second says more.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final
from unittest import mock
from uuid import uuid4

import numpy as np
import psutil

from ps_protocol import channel_options
from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.initializer_spec import Constant, InitializerSpec
from ps_protocol.operations import (
    Batch,
    Declare,
    Gather,
    Operation,
    Read,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    VariableSpec,
    reply_bytes,
)

ELEMENTS, ROWS, WIDTH, LAYERS, LAYER, INDICES = 25 * 1024 * 1024, 1_000_000, 64, 161, 158_720, 4096
TIMEOUT_S: Final = 60.0
FLOAT: Final = np.dtype(np.float32)
SPECS: Final = {
    spec.name: spec
    for spec in (
        VariableSpec("scalar", FLOAT, ()),
        VariableSpec("big", FLOAT, (ELEMENTS,)),
        VariableSpec("table", FLOAT, (ROWS, WIDTH)),
        *(VariableSpec(f"layer{number}", FLOAT, (LAYER,)) for number in range(LAYERS)),
    )
}
SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "as shipped": {},
    "chunks of 256 KiB": {"CHUNK_SIZE_BYTES": 256 * 1024},
    "chunks of 512 KiB": {"CHUNK_SIZE_BYTES": 512 * 1024},
    "chunks of 2 MiB": {"CHUNK_SIZE_BYTES": 2 * 1024**2},
    "one message up to 512 KiB": {"UNARY_LIMIT_BYTES": 512 * 1024},
    "one message up to 4 MiB": {"UNARY_LIMIT_BYTES": 4 * 1024**2},
    "freed chunks go back to the kernel": {"keep_freed_chunks": False},
    "replies through gRPC's thread": {"single_threaded": 0},
}


def apply(setting: dict[str, Any]) -> None:
    """Changes the settings of this process, before the modules that use them are imported."""
    for name in ("CHUNK_SIZE_BYTES", "UNARY_LIMIT_BYTES"):
        setattr(channel_options, name, setting.get(name, getattr(channel_options, name)))
    if not setting.get("keep_freed_chunks", True):
        mock.patch("ps_protocol.allocator.keep_freed_chunks").start()
    if "single_threaded" in setting:
        options = [each for each in channel_options.client_options() if each[0] != "SingleThreadedUnaryStream"]
        mock.patch("ps_protocol.channel_options.client_options", return_value=options).start()


def serve(setting: dict[str, Any], pipe: Connection) -> None:
    """Runs a ps until the pipe is closed."""
    apply(setting)
    from ps_server.parameter_server import ParameterServer
    from ps_server.server import PsServer

    server = PsServer(
        ParameterServer(cluster_spec=ClusterSpec({"ps": ["localhost:1"]}), task_index=0), host="127.0.0.1", port=0
    )
    pipe.send(server.start())
    pipe.poll(None)
    server.stop("the benchmark is over", timeout_s=TIMEOUT_S)


def measure(setting: dict[str, Any], address: str, ps_pid: int) -> dict[str, tuple[float, float]]:
    """Returns milliseconds, of the clock and of the processors, of each workload."""
    apply(setting)
    from worker_client.transport import grpc

    service, client, sequence = grpc.connect(address, task="ps:0"), uuid4(), 0
    store = service.hello(client, "worker:0", timeout_s=TIMEOUT_S).store

    def run(operations: list[Operation]) -> None:
        nonlocal sequence
        batch = Batch(client, store, 0, tuple(operations))
        sequence += batch.mutates
        expected = sum(reply_bytes(each, SPECS[each.name]) for each in operations)
        service.exchange(
            Batch(client, store, sequence * batch.mutates, batch.operations, expected), timeout_s=TIMEOUT_S
        )

    run([Declare(spec, InitializerSpec(Constant(0.0))) for spec in SPECS.values()])
    indices = np.random.default_rng(0).integers(0, ROWS, INDICES)
    delta, rows = np.ones(ELEMENTS, FLOAT), np.ones((INDICES, WIDTH), FLOAT)
    layers = [f"layer{number}" for number in range(LAYERS)]
    add = UpdateRule.ASSIGN_ADD
    workloads: dict[str, tuple[int, list[Operation]]] = {
        "add": (300, [Update("scalar", add, np.ones((), FLOAT))]),
        "read": (300, [Read("scalar")]),
        "pull": (7, [Read("big")]),
        "push": (7, [Update("big", add, delta)]),
        "gather": (40, [Gather("table", indices)]),
        "scatter": (40, [Scatter("table", ScatterRule.ADD, indices, rows)]),
        "pull161": (7, [Read(name) for name in layers]),
        "push161": (7, [Update(name, add, delta[:LAYER]) for name in layers]),
    }
    processes = [psutil.Process(), psutil.Process(ps_pid)]
    try:
        return {name: timed(partial(run, batch), runs, processes) for name, (runs, batch) in workloads.items()}
    finally:
        service.close()


def timed(call: Callable[[], None], runs: int, processes: list[psutil.Process]) -> tuple[float, float]:
    """Milliseconds of one call: the median by the clock, the mean by the processors."""
    for _ in range(3):
        call()
    before_s, walls = processor_s(processes), []
    for _ in range(runs):
        started_s = time.perf_counter()
        call()
        walls.append(time.perf_counter() - started_s)
    return statistics.median(walls) * 1e3, (processor_s(processes) - before_s) / runs * 1e3


def processor_s(processes: list[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def measure_in_a_process(setting: dict[str, Any], pipe: Connection, address: str, ps_pid: int) -> None:
    pipe.send(measure(setting, address, ps_pid))


def one_round(setting: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Starts a ps and a client with a setting, and returns what the client has measured."""
    spawn = multiprocessing.get_context("spawn")
    to_ps, of_ps = spawn.Pipe()
    to_client, of_client = spawn.Pipe()
    ps = spawn.Process(target=serve, args=(setting, of_ps))
    ps.start()
    of_ps.close()  # so that a ps that ends early is noticed
    client = spawn.Process(target=measure_in_a_process, args=(setting, of_client, f"127.0.0.1:{to_ps.recv()}", ps.pid))
    client.start()
    of_client.close()
    measured: dict[str, tuple[float, float]] = to_client.recv()
    client.join()
    to_ps.send("end")
    ps.join()
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rounds: dict[str, list[dict[str, tuple[float, float]]]] = {name: [] for name in SETTINGS}
    for _ in range(arguments.rounds):
        for name, setting in SETTINGS.items():
            rounds[name].append(one_round(setting))
    table = {
        name: {
            key: [round(statistics.median(each[key][i] for each in measured), 2) for i in (0, 1)] for key in measured[0]
        }
        for name, measured in rounds.items()
    }
    print(f"{'wall ms / processor ms':36}" + "".join(f"{key:>15}" for key in table["as shipped"]))
    for name, row in table.items():
        print(f"{name:36}" + "".join(f"{f'{wall:.4g} / {cpu:.3g}':>15}" for wall, cpu in row.values()))
    if arguments.json:
        arguments.json.write_text(json.dumps(table))


if __name__ == "__main__":
    main()
