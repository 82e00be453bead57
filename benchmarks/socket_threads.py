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
import time

import psutil

from benchmarks import bare_ps
from benchmarks.bare_ps import TIMEOUT_S, BarePs
from ps_protocol.operations import Batch
from ps_server.transport.socket_listener import SocketSettings
from worker_client.transport.socket_connection import SocketConnection

MODELS = {
    "thread for each connection": SocketSettings("127.0.0.1", max_threads=4096, linger_s=3600.0),
    "watcher and pool": SocketSettings("127.0.0.1", max_threads=64, linger_s=0.001),
    "watcher, pool and lingering": SocketSettings("127.0.0.1", max_threads=64),
}
_SERVE = ("-m", "benchmarks.socket_threads", "--serve")
_IDLE, _ROUNDS, _CALLS = 1000, 10, 30
_PAUSE_S = 0.01
_DESCRIPTORS = 4096


def latencies_us(connection: SocketConnection, batch: Batch, calls: int) -> list[float]:
    """Times single reads, with a pause before each."""
    taken = []
    for _ in range(calls):
        time.sleep(_PAUSE_S)
        started_s = time.perf_counter()
        connection.exchange(batch, TIMEOUT_S)
        taken.append(1e6 * (time.perf_counter() - started_s))
    return taken


def main() -> None:
    """Measures all models in alternation and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=list(MODELS), help=argparse.SUPPRESS)
    if model := parser.parse_args().serve:
        _allow_many_descriptors()
        bare_ps.serve(MODELS[model])
        return
    _allow_many_descriptors()
    with contextlib.ExitStack() as stack:
        ps = {model: stack.enter_context(contextlib.closing(BarePs([*_SERVE, model]))) for model in MODELS}
        clients = {model: each.door().connection() for model, each in ps.items()}
        taken: dict[str, list[float]] = {model: [] for model in MODELS}
        for _ in range(_ROUNDS):
            for model, client in clients.items():
                taken[model] += latencies_us(*client, _CALLS)
        for model, each in ps.items():
            before_mib, _ = _footprint(each)
            for _ in range(_IDLE):
                connection, batch = each.door().connection()
                connection.exchange(batch, TIMEOUT_S)
                stack.callback(connection.close)
            after_mib, threads = _footprint(each)
            crowded = latencies_us(*clients[model], _ROUNDS * _CALLS)
            print(
                f"{model}: p50 {statistics.median(taken[model]):.0f} us, with {_IDLE} idle connections "
                f"{statistics.median(crowded):.0f} us, {after_mib - before_mib:.1f} MiB more, {threads} threads"
            )
        for connection, _ in clients.values():
            connection.close()


def _footprint(ps: BarePs) -> tuple[float, int]:
    """Resident MiB, and threads."""
    seen = psutil.Process(ps.pid)
    return seen.memory_info().rss / 1024**2, seen.num_threads()


def _allow_many_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_DESCRIPTORS, hard) if hard > 0 else _DESCRIPTORS, hard))


if __name__ == "__main__":
    main()
