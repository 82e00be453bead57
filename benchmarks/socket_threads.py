"""How a ps should serve its sockets: ``python -m benchmarks.socket_threads``. Linux only.

The same listener stands for three models of threading: a thread for each connection (it lingers for ever), a thread
that watches all connections and hands those with requests to a pool (it hardly lingers), and what the ps does, between
the two. For each: the latency of a client that reads a scalar every 10 ms, alone and beside a thousand idle
connections, and what these cost.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import statistics
import subprocess
import sys
import time
from uuid import UUID

import numpy as np
import psutil

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.initializer_spec import Constant, InitializerSpec
from ps_protocol.operations import Batch, Declare, Read, VariableSpec
from ps_protocol.ps_service import FastPath, FastPathKind
from ps_server.byte_budget import ByteBudget
from ps_server.parameter_server import ParameterServer
from ps_server.transport.buffer_pool import BufferPool
from ps_server.transport.socket_listener import SocketListener, SocketSettings
from worker_client.transport.socket_connection import SocketConnection, connect

MODELS = {
    "thread for each connection": SocketSettings("127.0.0.1", max_threads=4096, linger_s=3600.0),
    "watcher and pool": SocketSettings("127.0.0.1", max_threads=64, linger_s=0.001),
    "watcher, pool and lingering": SocketSettings("127.0.0.1", max_threads=64),
}
_CLIENT = UUID(int=1)
_IDLE, _ROUNDS, _CALLS, _TIMEOUT_S = 1000, 10, 30, 30.0
_PAUSE_S = 0.01
_DESCRIPTORS = 4096


def serve(model: str) -> None:
    """Runs a ps with nothing but the listener; answers each line of standard input with where it is and a ticket."""
    core = ParameterServer(cluster_spec=ClusterSpec({"ps": ["localhost:1"]}), task_index=0)
    listener = SocketListener(core, MODELS[model], staging=ByteBudget(), buffers=BufferPool(0))
    welcome = core.hello(_CLIENT, "worker:0", timeout_s=_TIMEOUT_S)
    declare = Declare(VariableSpec("scalar", np.dtype(np.float32), ()), InitializerSpec(Constant(0.0)))
    core.exchange(Batch(_CLIENT, welcome.store, 1, (declare,)), timeout_s=_TIMEOUT_S)
    listener.start()
    for _ in sys.stdin:
        offer = listener.welcome(welcome, _CLIENT)
        (tcp,) = [path.address for path in offer.fast_paths if path.kind is FastPathKind.TCP]
        print(tcp, offer.ticket.hex(), offer.store, flush=True)
    listener.stop(0.0)


class Ps:
    """A ps process with one of the models."""

    def __init__(self, model: str):
        command = [sys.executable, "-m", "benchmarks.socket_threads", "--serve", model]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._seen = psutil.Process(self._process.pid)

    def connection(self) -> tuple[SocketConnection, Batch]:
        """Opens a connection; returns it with a batch that reads the scalar."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        address, ticket, store = self._process.stdout.readline().split()
        sock = connect(FastPath(FastPathKind.TCP, address), "127.0.0.1", _TIMEOUT_S)
        connection = SocketConnection(sock, _CLIENT, task="ps:0", address=address)
        connection.shake_hands(bytes.fromhex(ticket), _TIMEOUT_S)
        return connection, Batch(_CLIENT, UUID(store), 0, (Read("scalar"),))

    def footprint(self) -> tuple[float, int]:
        """Resident MiB, and threads."""
        return self._seen.memory_info().rss / 1024**2, self._seen.num_threads()

    def close(self) -> None:
        self._process.communicate(timeout=_TIMEOUT_S)


def latencies_us(connection: SocketConnection, batch: Batch, calls: int) -> list[float]:
    """Times single reads, with a pause before each."""
    taken = []
    for _ in range(calls):
        time.sleep(_PAUSE_S)
        started_s = time.perf_counter()
        connection.exchange(batch, _TIMEOUT_S)
        taken.append(1e6 * (time.perf_counter() - started_s))
    return taken


def main() -> None:
    """Measures all models in alternation and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=list(MODELS), help=argparse.SUPPRESS)
    if model := parser.parse_args().serve:
        _allow_many_descriptors()
        serve(model)
        return
    _allow_many_descriptors()
    with contextlib.ExitStack() as stack:
        ps = {model: stack.enter_context(contextlib.closing(Ps(model))) for model in MODELS}
        clients = {model: each.connection() for model, each in ps.items()}
        taken: dict[str, list[float]] = {model: [] for model in MODELS}
        for _ in range(_ROUNDS):
            for model, client in clients.items():
                taken[model] += latencies_us(*client, _CALLS)
        for model, each in ps.items():
            before_mib, _ = each.footprint()
            for _ in range(_IDLE):
                connection, batch = each.connection()
                connection.exchange(batch, _TIMEOUT_S)
                stack.callback(connection.close)
            after_mib, threads = each.footprint()
            crowded = latencies_us(*clients[model], _ROUNDS * _CALLS)
            print(
                f"{model}: p50 {statistics.median(taken[model]):.0f} us, with {_IDLE} idle connections "
                f"{statistics.median(crowded):.0f} us, {after_mib - before_mib:.1f} MiB more, {threads} threads"
            )
        for connection, _ in clients.values():
            connection.close()


def _allow_many_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_DESCRIPTORS, hard) if hard > 0 else _DESCRIPTORS, hard))


if __name__ == "__main__":
    main()
