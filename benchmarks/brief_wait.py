"""Whether to look for bytes before sleeping: ``python -m benchmarks.brief_wait [--clients 1 2 4 8]``.

Two ps processes, one that looks for the next request for a moment before it sleeps and one that sleeps at once, and
clients that do likewise. All clients read a scalar as fast as they can, of one ps and of the other in turns; they keep
step by the clock. Prints for each number of clients the reads per second, the latency, and the processor time of a
client for each read.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from typing import Final, NamedTuple

from benchmarks import bare_ps
from benchmarks.bare_ps import TIMEOUT_S, BarePs, Door
from ps_server.transport.socket_listener import SocketSettings

SETTINGS: Final = ("sleeps at once", "looks first")
_COMMAND: Final = ("-m", "benchmarks.brief_wait")
_TURN_S, _PAUSE_S = 0.4, 0.1
_ROUNDS: Final = 6


class Turns(NamedTuple):
    """What one client has measured with one setting.

    Attributes:
        reads: How many.
        median_s: Of their latencies.
        p99_s: Likewise.
        processor_s: What the client took for all.
    """

    reads: int
    median_s: float
    p99_s: float
    processor_s: float


def serve(setting: str) -> None:
    """Runs a ps with a setting."""
    bare_ps.serve(SocketSettings("127.0.0.1", looks_first=setting == SETTINGS[1]))


def run_client(doors: list[Door]) -> list[Turns]:
    """Reads in turns, from when standard input says; returns what it has measured with each setting."""
    connections = [
        door.connection(looks_first=setting == SETTINGS[1]) for setting, door in zip(SETTINGS, doors, strict=True)
    ]
    print("ready", flush=True)
    start_s = float(sys.stdin.readline())
    taken: list[list[float]] = [[] for _ in SETTINGS]
    used_s = [0.0 for _ in SETTINGS]
    for turn in range(_ROUNDS * len(SETTINGS)):
        which = turn % len(SETTINGS)
        connection, batch = connections[which]
        begin_s = start_s + turn * (_TURN_S + _PAUSE_S)
        time.sleep(max(0.0, begin_s - time.time()))
        before_s = time.process_time()
        while time.time() < begin_s + _TURN_S:
            sent_s = time.perf_counter()
            connection.exchange(batch, TIMEOUT_S)
            taken[which].append(time.perf_counter() - sent_s)
        used_s[which] += time.process_time() - before_s
    return [
        Turns(len(each), statistics.median(each), statistics.quantiles(each, n=100)[98], used)
        for each, used in zip(taken, used_s, strict=True)
    ]


def measure(ps: list[BarePs], clients: int) -> list[list[Turns]]:
    """Returns for each client what it has measured with each setting."""
    processes = []
    for _ in range(clients):
        command = [sys.executable, *_COMMAND, "--client", json.dumps([each.door() for each in ps])]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    start = str(time.time() + _PAUSE_S)
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(start + "\n")
        process.stdin.flush()
    return [[Turns(*each) for each in json.loads(process.communicate(timeout=TIMEOUT_S)[0])] for process in processes]


def main() -> None:
    """Measures and prints a line for each number of clients and setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--serve", choices=SETTINGS, help=argparse.SUPPRESS)
    parser.add_argument("--client", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    if options.client:
        print(json.dumps(run_client([Door(*each) for each in options.client])))
        return
    with contextlib.ExitStack() as stack:
        ps = [stack.enter_context(contextlib.closing(BarePs([*_COMMAND, "--serve", each]))) for each in SETTINGS]
        for clients in options.clients:
            measured = measure(ps, clients)
            for setting, each in zip(SETTINGS, zip(*measured, strict=True), strict=True):
                reads = sum(turns.reads for turns in each)
                print(
                    f"{clients} clients, {setting}: {reads / (_ROUNDS * _TURN_S):,.0f} reads/s, median "
                    f"{1e6 * statistics.median(turns.median_s for turns in each):.0f} us, p99 "
                    f"{1e6 * statistics.median(turns.p99_s for turns in each):.0f} us, processor "
                    f"{1e6 * sum(turns.processor_s for turns in each) / reads:.0f} us"
                )


if __name__ == "__main__":
    main()
