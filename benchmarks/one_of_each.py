"""What each part that is there for speed alone wins: ``python -m benchmarks.one_of_each [PART ...] [--rounds N]``.

For each part two ps processes run at the same time, and two clients: one pair with the part and one without it. The
pairs take short turns, and change places from round to round. Printed are the times with and without the part, medians
over the rounds, the median of the ratios of the rounds with its quartiles, and the ratio of the processor time of both
processes. A ratio above 1 is what the part wins. On a shared machine the processor time says more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final
from unittest import mock
from uuid import UUID

import numpy as np

from benchmarks.drivers.shardscope import Shardscope
from benchmarks.harness.processes import cpu_seconds
from benchmarks.harness.tables import auto_duration
from benchmarks.harness.workloads import SCALES, WORKLOADS, Workload
from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.grpc_edge import channel_options
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import (
    Batch,
    Declare,
    PsOperation,
    Read,
    Update,
    UpdateRule,
    VariableSpec,
)
from ps_protocol.sockets.brief_wait import BriefWait
from ps_server.core.parameter_server import ParameterServer
from ps_server.memory.buffer_pool import BufferPool
from ps_server.process.server import PsServer
from ps_server.rules.compiled_row_kernels import compile_when_used

TIMEOUT_S: Final = 60.0
_NEVER: Final = 2**62
_SWITCH_INTERVAL_S: Final = 0.0005  # as ``ps_server.process.server.run`` sets it


def _set_up_without_sizes(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _replies_through_another_thread() -> channel_options.Options:
    return [each for each in _CLIENT_OPTIONS if each[0] != "SingleThreadedUnaryStream"]


_CLIENT_OPTIONS: Final = channel_options.client_options()


@dataclass(frozen=True)
class Part:
    """A part, and how to do without it.

    Attributes:
        transport: Of both; "core" calls a ps in the same process.
        work: Keys of what is measured: a workload, with a variant after a comma.
        without: What takes the place of what, by its dotted name, in the processes that do without the part.
        transport_without: The transport of those, if it is another.
    """

    transport: str
    work: tuple[str, ...]
    without: Mapping[str, Any] = field(default_factory=dict)
    transport_without: str = ""


def _chunks(size_bytes: int) -> dict[str, int]:
    name = "CHUNK_SIZE_BYTES"
    return {
        f"worker_client.transport.grpc.{name}": size_bytes,
        f"ps_server.transport.grpc.data.{name}": size_bytes,
    }


def _messages(size_bytes: int) -> dict[str, int]:
    name = "UNARY_LIMIT_BYTES"
    return {
        f"worker_client.transport.grpc.{name}": size_bytes,
        f"ps_server.transport.grpc.data.{name}": size_bytes,
    }


def _nothing(*_args: object) -> None:
    """Takes the place of a call that gives something back."""


_LARGE: Final = ("pull", "push", "pull161,fresh", "push161")

PARTS: Final[Mapping[str, Part]] = {
    "brief_wait": Part(
        "socket", ("add", "read"), {"ps_protocol.sockets.stream.BriefWait": partial(BriefWait, processors=1)}
    ),
    "large_copies": Part(
        "shm",
        ("pull,copied", "push,copied", "pull161,copied"),
        {"ps_protocol.memory.large_copies.TWO_THREADS_FROM_BYTES": _NEVER},
    ),
    "allocator": Part(
        "grpc",
        ("gather", "scatter", *_LARGE),
        {
            "ps_server.transport.grpc.data.keep_freed_chunks": _nothing,
            "worker_client.transport.grpc.keep_freed_chunks": _nothing,
        },
    ),
    "received_memory": Part(
        "socket", ("pull161,fresh", "pull,fresh"), {"ps_protocol.codec.received_memory.LEAST_BYTES": _NEVER}
    ),
    "socket_options": Part(
        "socket", ("add", "gather", *_LARGE), {"ps_protocol.sockets.options.set_up": _set_up_without_sizes}
    ),
    "buffer_pool": Part(
        "socket", ("push", "push161", "scatter"), {"ps_server.process.server.BufferPool": lambda _limit: BufferPool(0)}
    ),
    "spare_arrays": Part("core", ("update_lent",), {"ps_server.memory.spare_arrays.SpareArrays.keep": _nothing}),
    "lent_arrays": Part(
        "socket",
        ("pull", "pull161"),
        {"ps_server.memory.lent_arrays.LendableArray.lend": lambda self: self.array.copy()},
    ),
    "taken_operands": Part(
        "socket", ("assign",), {"ps_server.store.variable_store.can_become_value": lambda _operand: False}
    ),
    "shared_memory": Part(
        "shm", ("pull,copied", "push,copied", "gather", "push161,copied", "push161,in place"), {}, "unix"
    ),
    "grpc_chunks_not_256k": Part("grpc", _LARGE, _chunks(256 * 1024)),
    "grpc_chunks_not_4m": Part("grpc", _LARGE, _chunks(4 * 1024**2)),
    "grpc_messages_not_512k": Part("grpc", ("gather", "scatter"), _messages(512 * 1024)),
    "grpc_one_thread": Part(
        "grpc",
        ("add", "read", *_LARGE),
        {"ps_protocol.grpc_edge.channel_options.client_options": _replies_through_another_thread},
    ),
}
"""By the module that they are in, or what they are."""


class Core:
    """A ps without a transport: calls in its process, as a transport makes them."""

    def __init__(self) -> None:
        self._core = ParameterServer(cluster_spec=ClusterSpec({"ps": ["localhost:1"]}), task_index=0)
        self._client, self._sequence = UUID(int=1), 0
        self._core.hello(self._client, "worker:0", timeout_s=TIMEOUT_S)
        spec = VariableSpec("vector", np.dtype(np.float32), (SCALES["full"].elements,))
        self._run(Declare(spec, InitializerSpec(ConstantKind(0.0))))

    def _run(self, operation: PsOperation) -> Any:
        mutates = not isinstance(operation, Read)
        self._sequence += mutates
        number = self._sequence if mutates else 0
        batch = Batch(self._client, self._core.store_incarnation, number, (operation,))
        return self._core.exchange(batch, timeout_s=TIMEOUT_S, lend_values=True)

    def cases(self) -> Mapping[str, Mapping[str, Callable[[], Any]]]:
        """What can be measured: as ``Shardscope.cases``."""
        delta = np.ones(SCALES["full"].elements, np.float32)

        def update_lent() -> None:
            lent = self._run(Read("vector"))
            self._run(Update("vector", UpdateRule.ASSIGN_ADD, delta))
            del lent

        return {
            "update_lent": {"": update_lent},
        }


class Worker(Shardscope):
    """A client, with more to do."""

    def cases(self) -> Mapping[str, Mapping[str, Callable[[], Any]]]:
        delta = np.ones(self._scale.elements, np.float32)
        return {**super().cases(), "assign": {"": lambda: self._vector.assign(delta)}}


def _apply(part: str, *, is_there: bool) -> contextlib.ExitStack:
    stack = contextlib.ExitStack()
    for name, value in ({} if is_there else PARTS[part].without).items():
        stack.enter_context(mock.patch(name, value))
    return stack


def serve(part: str, is_there: bool, pipe: Connection) -> None:
    """Runs a ps until something comes through the pipe."""
    with _apply(part, is_there=is_there):
        compile_when_used()
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        core = ParameterServer(cluster_spec=ClusterSpec({"ps": ["localhost:1"]}), task_index=0)
        server = PsServer(core, host="127.0.0.1", port=0)
        pipe.send(server.start())
        pipe.poll(None)
        server.stop("the benchmark is over", timeout_s=TIMEOUT_S)


def work(part: str, is_there: bool, port: int, pipe: Connection) -> None:
    """Does what comes through the pipe, a key and a number of calls, and sends back the seconds of each call."""
    of_part = PARTS[part]
    transport = of_part.transport if is_there else of_part.transport_without or of_part.transport
    with _apply(part, is_there=is_there):
        worker: Worker | Core = Worker(transport, SCALES["full"], f"ps=127.0.0.1:{port}") if port else Core()
        cases = worker.cases()
        pipe.send("ready")
        while request := pipe.recv():
            key, calls = request
            workload, _, variant = key.partition(",")
            call, taken = cases[workload][variant], []
            for _ in range(calls):
                began_s = time.perf_counter()
                call()
                taken.append(time.perf_counter() - began_s)
            pipe.send(taken)


class Pair:
    """A ps and a client with the part, or without it."""

    def __init__(self, part: str, stack: contextlib.ExitStack, *, is_there: bool):
        spawn = multiprocessing.get_context("spawn")
        self._pids: list[int | None] = []
        port = 0
        if PARTS[part].transport != "core":
            _, port = self._start(spawn, serve, (part, is_there), stack)
        self._client, _ = self._start(spawn, work, (part, is_there, port), stack)

    def _start(
        self, spawn: Any, target: Callable[..., None], arguments: tuple[Any, ...], stack: contextlib.ExitStack
    ) -> tuple[Connection, Any]:
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=target, args=(*arguments, theirs))
        process.start()
        theirs.close()  # so that a process that ends early is noticed
        stack.callback(process.join, TIMEOUT_S)
        stack.callback(ours.send, None)
        self._pids.append(process.pid)
        return ours, ours.recv()

    def turn(self, key: str, calls: int) -> tuple[float, float]:
        """Returns the median of the seconds of the calls, and the processor seconds of both processes for all."""
        before_s = self._processor_s()
        self._client.send((key, calls))
        return statistics.median(self._client.recv()), self._processor_s() - before_s

    def _processor_s(self) -> float:
        return sum(cpu_seconds(pid) for pid in self._pids if pid is not None)


@dataclass(frozen=True)
class Figures:
    """Of one part and one kind of work: seconds with and without it, and ratios without ÷ with."""

    part: str
    work: str
    with_s: float
    without_s: float
    ratio: float
    ratio_p25: float
    ratio_p75: float
    processor_ratio: float

    def __str__(self) -> str:
        return (
            f"{self.part}, {self.work}: {auto_duration(self.with_s)} with, {auto_duration(self.without_s)} without, "
            f"ratio {self.ratio:.2f} ({self.ratio_p25:.2f} to {self.ratio_p75:.2f}), processor "
            f"{self.processor_ratio:.2f}"
        )


def measure(part: str, rounds: int) -> Iterator[Figures]:
    """Yields the figures of each kind of work."""
    with contextlib.ExitStack() as stack:
        pairs = [Pair(part, stack, is_there=is_there) for is_there in (True, False)]
        for key in PARTS[part].work:
            workload = WORKLOADS.get(key.partition(",")[0], Workload(key, key, "ms", 3, 2))
            taken: list[list[tuple[float, float]]] = [[], []]
            for pair in pairs:
                pair.turn(key, workload.warm + workload.calls)
            for turn in range(rounds):
                for which in (0, 1) if turn % 2 else (1, 0):
                    taken[which].append(pairs[which].turn(key, workload.calls))
            walls = [[wall for wall, _ in each] for each in taken]
            processors = [sum(used for _, used in each) for each in taken]
            ratios = [without / with_it for with_it, without in zip(*walls, strict=True)]
            p25, ratio, p75 = statistics.quantiles(ratios, n=4, method="inclusive")
            with_s, without_s = [statistics.median(each) for each in walls]
            yield Figures(part, key, with_s, without_s, ratio, p25, p75, processors[1] / max(processors[0], 1e-9))


def main() -> None:
    """Measures and prints a line for each part and kind of work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"(default: all of {', '.join(PARTS)})")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    given = parser.parse_args()
    figures = []
    for part in given.parts or PARTS:
        for each in measure(part, given.rounds):
            print(each, flush=True)
            figures.append(vars(each))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
