"""What the optimizer of a ps costs a step of many small variables: ``python -m benchmarks.optimizer_batches``.

In each round ``apply_gradients`` of all variables, by gradient descent and by Adam, ``assign_add_all`` of the same, and
the rules alone on arrays in this process: the check that a gradient is finite and the step, prepared as a ps prepares
it. A ratio is the median over the rounds of ``apply_gradients`` by the sum of ``assign_add_all`` and the rule alone.
The last column is the ratio of the processor times of ps and worker together, which says more on a busy machine; the
kernel counts them in hundredths of seconds, so it takes some hundred rounds.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import worker_client as ss
from benchmarks.drivers.shardscope import connect
from benchmarks.harness import command
from benchmarks.harness.processes import cpu_seconds
from benchmarks.harness.record import Record
from benchmarks.harness.tables import Table, number
from ps_cluster import LocalCluster
from ps_protocol.operations import Array, VariableSpec
from ps_protocol.optimizer_rules import RULES, check_settings
from ps_server.rules.optimizers import compiled_loops
from ps_server.rules.optimizers.bound_rule import BoundRule
from ps_server.rules.optimizers.checks import checked_settings
from ps_server.rules.optimizers.finiteness import first_nonfinite
from ps_server.rules.optimizers.plans import plan_dense

BENCHMARK = "optimizer_batches"
_RATE = 0.001
_ADD = "assign_add_all"
_COMPILED_TIMEOUT_S = 60.0


def optimizers() -> dict[str, Any]:
    """Returns the optimizers by their rules."""
    return {"gradient_descent": ss.train.GradientDescent(_RATE), "adam": ss.train.Adam(_RATE)}


def rule_alone(rule: str, gradients: Sequence[Array]) -> Callable[[], None]:
    """Returns what makes a step of each array by a rule, and nothing else."""
    settings = checked_settings(rule, check_settings(rule, {"learning_rate": _RATE}))
    bound = [BoundRule(rule, VariableSpec("w", each.dtype, each.shape)) for each in gradients]
    values = [np.zeros_like(each) for each in gradients]
    slots = [[np.zeros_like(each) for _ in RULES[rule].slots(settings.numbers)] for each in gradients]
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        for of_rule, value, of_value, gradient in zip(bound, values, slots, gradients, strict=True):
            if first_nonfinite(gradient) is None:
                plan_dense(of_rule, gradient, settings).apply(value, of_value, steps)

    return step


def measure(
    transport: str, num_variables: int, side: int, rounds: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Returns milliseconds of each call in each round, over one ps, and of processor time on average."""
    random = np.random.default_rng(0)
    gradients = [random.standard_normal((side, side), np.float32) for _ in range(num_variables)]
    with LocalCluster(num_ps=1) as cluster, connect(cluster.cluster_spec, transport) as client:
        variables = [
            ss.get_variable(f"layer{each}/weights", [side, side], initializer=ss.zeros_initializer())
            for each in range(num_variables)
        ]
        pairs = list(zip(gradients, variables, strict=True))
        calls: dict[str, Callable[[], object]] = {
            _ADD: lambda: client.assign_add_all([(variable, gradient) for gradient, variable in pairs])
        }
        for rule, optimizer in optimizers().items():
            calls[rule] = partial(optimizer.apply_gradients, pairs)
            calls[f"{rule} alone"] = rule_alone(rule, gradients)
        for each in calls.values():
            each()
        compiled_loops.wait(_COMPILED_TIMEOUT_S)
        pids = cluster.ps_pid(0), os.getpid()
        times: dict[str, list[float]] = {name: [] for name in calls}
        processor_ms = dict.fromkeys(calls, 0.0)
        for at in range(rounds + 1):
            for name, call in calls.items():
                used_s, start_s = sum(map(cpu_seconds, pids)), time.perf_counter()
                call()
                if at:  # those of the first round have their loops compiled, and fill caches
                    times[name].append(1e3 * (time.perf_counter() - start_s))
                    processor_ms[name] += 1e3 * (sum(map(cpu_seconds, pids)) - used_s) / rounds
        return times, processor_ms


def tables(record: Record) -> list[Table]:
    """Returns the one table."""
    results = record["results"]
    table = Table(
        f"Steps of {results['variables']} variables of {results['side']} x {results['side']}, milliseconds",
        ["transport", "rule", "apply_gradients", _ADD, "rule alone", "ratio", "of processor time"],
    )
    for case in results["cases"]:
        times = case["times_ms"]
        for rule in optimizers():
            applied, added, alone = times[rule], times[_ADD], times[f"{rule} alone"]
            ratios = [one / (two + three) for one, two, three in zip(applied, added, alone, strict=True)]
            medians = [number(statistics.median(each)) for each in (applied, added, alone)]
            used = case["processor_ms"]
            expected_ms = used[_ADD] + used[f"{rule} alone"]
            of_processor = number(used[rule] / expected_ms) if expected_ms else "too short"
            table.rows.append([case["transport"], rule, *medians, number(statistics.median(ratios)), of_processor])
    return [table]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = command.parser(__doc__)
    parser.add_argument("--variables", type=command.positive, default=161, help="(default: %(default)s)")
    parser.add_argument("--side", type=command.positive, default=64, help="of each matrix (default: %(default)s)")
    parser.add_argument("--rounds", type=command.positive, default=300, help="(default: %(default)s)")
    given = parser.parse_args(arguments)
    if importlib.util.find_spec("numba") is not None:
        compiled_loops.compile_when_used()
    cases = []
    for transport in given.transport:
        command.progress(transport)
        times_ms, processor_ms = measure(transport, given.variables, given.side, given.rounds)
        cases.append({"transport": transport, "times_ms": times_ms, "processor_ms": processor_ms})
    results = {"cases": cases, "variables": given.variables, "side": given.side}
    command.finish(BENCHMARK, "benchmarks.optimizer_batches", results, tables, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
