"""How fast variables are named, declared and run: ``python -m benchmarks.variable_model [--json FILE]``.

A cluster of two ps processes on this machine and this process as the worker. On a shared machine only the ratios say
much.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import worker_client as ss
from ps_cluster import LocalCluster

NUM_DECLARED = 10_000
NUM_LAYERS, LAYER = 161, 158_720


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def declare_in_a_graph() -> dict[str, float]:
    """Seconds to build a graph with many variables, to declare them on the ps tasks, and to initialise them."""
    with LocalCluster(num_ps=2) as cluster, ss.connect(cluster.cluster_spec) as client, ss.Graph().as_default():
        zeros = ss.zeros_initializer()
        started = time.perf_counter()
        variables = [ss.get_variable(f"v{number}", [4], initializer=zeros) for number in range(NUM_DECLARED)]
        built = time.perf_counter()
        with ss.Session(client) as session:
            missing = session.run(ss.report_uninitialized_variables())  # a session declares what a run needs
            declared = time.perf_counter()
            session.run(ss.global_variables_initializer())
            initialized = time.perf_counter()
        assert len(missing) == len(variables)
    return {
        f"build_{NUM_DECLARED}_s": built - started,
        f"declare_{NUM_DECLARED}_s": declared - built,
        f"initialize_{NUM_DECLARED}_s": initialized - declared,
    }


def resolve_names(repeats: int = 2_000) -> dict[str, float]:
    """Microseconds to enter and leave a variable scope, and to find a variable that exists."""
    with ss.Graph().as_default():
        with ss.variable_scope("layer"):
            ss.get_variable("weights", [4], initializer=ss.zeros_initializer())

        def enter() -> None:
            for _ in range(repeats):
                with ss.variable_scope("layer"):
                    pass

        def find() -> None:
            for _ in range(repeats):
                ss.get_variable("weights", [4])

        entered = statistics.median(seconds(enter) for _ in range(7))
        with ss.variable_scope("layer", reuse=True):
            found = statistics.median(seconds(find) for _ in range(7))
    return {"enter_scope_us": entered / repeats * 1e6, "resolve_name_us": found / repeats * 1e6}


def run_against_read_all(rounds: int = 31) -> dict[str, float]:
    """Milliseconds of one ``Session.run`` of many variables, and of ``read_all`` of as many, in alternation."""
    with LocalCluster(num_ps=2) as cluster, ss.connect(cluster.cluster_spec) as client:
        zeros = ss.zeros_initializer()
        eager = [ss.get_variable(f"layer{number}", [LAYER], initializer=zeros) for number in range(NUM_LAYERS)]
        with ss.Graph().as_default():
            deferred = [ss.get_variable(f"layer{number}", [LAYER], initializer=zeros) for number in range(NUM_LAYERS)]
            with ss.Session(client) as session:
                times: dict[str, list[float]] = {"run": [], "read_all": []}
                for _ in range(rounds):
                    times["run"].append(seconds(lambda: session.run(deferred)))
                    times["read_all"].append(seconds(lambda: client.read_all(eager)))
    run, read_all = (statistics.median(times[key][3:]) for key in ("run", "read_all"))
    ratio = statistics.median(np.divide(times["run"], times["read_all"])[3:])
    return {"session_run_ms": run * 1e3, "read_all_ms": read_all * 1e3, "run_to_read_all": float(ratio)}


def main() -> None:
    """Prints the figures, and writes them as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    figures = {**resolve_names(), **declare_in_a_graph(), **run_against_read_all()}
    for name, value in figures.items():
        print(f"{name:24} {value:10.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
