"""How fast update rules are inside a ps: ``python -m benchmarks.optimizer_rules [--json FILE]``.

Dense: Adam on 100 MiB of float32, in NumPy and compiled by numba, beside the time that its bytes need (it reads four
arrays and writes three, at the bandwidth of ``a += b`` on arrays of that size) and beside Adam as one writes it in
NumPy. What NumPy cannot go below: the same calls on a block that stays in the cache, and of them the root and the
division alone, as often as there are blocks.
Rows: Adagrad on 8,192 rows of 64 float32, drawn by Zipf's law from 1,000,000, beside ``scatter_add`` of the same.
All are measured in alternation; times are CPU times of one thread, medians, planning included.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.row_kernels import NUM_ROWS, SETS, WIDTH, drawn
from ps_protocol.operations import Array, ScatterRule, VariableSpec
from ps_protocol.optimizer_rules import LAZY, check_settings
from ps_server.rules import compiled_row_kernels
from ps_server.rules.optimizers import compiled_loops
from ps_server.rules.optimizers.application import run_by_numpy
from ps_server.rules.optimizers.blocks import BLOCK, workspaces
from ps_server.rules.optimizers.constants import elementwise_step
from ps_server.rules.optimizers.plans import apply_dense
from ps_server.rules.optimizers.row_plans import apply_rows
from ps_server.rules.row_rules import plan_scatter

ELEMENTS = 100 * 2**20 // 4
BATCH = 8192
STREAMS = {"adam": 7, "bandwidth": 3}


def plain_adam(value: Array, m: Array, v: Array, gradient: Array, rate: float) -> None:
    """Adam as one writes it in NumPy."""
    m[...] = np.float32(0.9) * m + np.float32(0.1) * gradient
    v[...] = np.float32(0.999) * v + np.float32(0.001) * gradient**2
    value -= np.float32(rate) * m / (np.sqrt(v) + np.float32(1e-8))


def medians_ms(calls: dict[str, Callable[[int], object]], repeats: int) -> dict[str, float]:
    """Median milliseconds of each call, all in alternation."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(repeats + 1):
        for name, call in calls.items():
            start_s = time.thread_time()
            call(number)
            if number:  # the first call of each fills caches
                times[name].append(1e3 * (time.thread_time() - start_s))
    return {name: statistics.median(each) for name, each in times.items()}


def dense_ms(repeats: int) -> dict[str, float]:
    """Milliseconds of an Adam step, of Adam in plain NumPy, and of ``a += b``."""
    random = np.random.default_rng(0)
    value, gradient, m, v = (random.random(ELEMENTS, np.float32) for _ in range(4))
    numbers = check_settings("adam", {})
    return medians_ms(
        {
            "bandwidth": lambda _number: np.add(value, gradient, out=value),
            "adam": lambda number: apply_dense("adam", value, [m, v], gradient, numbers, number + 1),
            "plain_adam": lambda _number: plain_adam(value, m, v, gradient, 1e-3),
        },
        repeats,
    )


def cached_ms(repeats: int) -> dict[str, float]:
    """Milliseconds of the calls of an Adam step in NumPy, and of its roots and divisions, on a block in the cache."""
    random = np.random.default_rng(0)
    value, gradient, m, v = (random.random(BLOCK, np.float32) for _ in range(4))
    one = elementwise_step("adam", check_settings("adam", {}), 1, value.dtype)
    workspace, out = workspaces.get(value.dtype, BLOCK), np.empty_like(value)

    def calls(_number: int) -> None:
        for _ in range(ELEMENTS // BLOCK):
            run_by_numpy(workspace, one.body, (value, m, v), (gradient,), one.constants)

    def roots_and_divisions(_number: int) -> None:
        for _ in range(ELEMENTS // BLOCK):
            np.divide(m, np.sqrt(v, out=out), out=out)

    return medians_ms({"calls": calls, "root_division": roots_and_divisions}, repeats)


def rows_ms(repeats: int) -> dict[str, float]:
    """Milliseconds of Adagrad on rows, and of ``scatter_add`` of the same."""
    random = np.random.default_rng(0)
    table = random.standard_normal((NUM_ROWS, WIDTH), np.float32)
    accumulator = np.full_like(table, 0.1)
    updates = random.standard_normal((BATCH, WIDTH), np.float32)
    sets = [drawn("zipf", BATCH, random) for _ in range(SETS)]
    spec, numbers = VariableSpec("table", table.dtype, table.shape), check_settings("adagrad", {"learning_rate": 0.1})
    return medians_ms(
        {
            "scatter_add": lambda number: plan_scatter(spec, ScatterRule.ADD, sets[number % SETS], updates).apply(
                table
            ),
            "adagrad": lambda number: apply_rows(
                "adagrad", table, [accumulator], sets[(number + SETS // 2) % SETS], updates, numbers, number + 1, LAZY
            ),
        },
        repeats,
    )


def measure(repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds in NumPy, and then compiled, if numba is installed."""
    results = {
        "dense NumPy": dense_ms(repeats) | cached_ms(repeats),
        "rows NumPy": rows_ms(10 * repeats),
    }
    if importlib.util.find_spec("numba") is not None:
        compiled_row_kernels.compile_when_used()
        compiled_loops.compile_when_used()
        dense_ms(1)
        rows_ms(1)
        compiled_loops.wait(60.0)
        compiled_row_kernels.wait(60.0)
        results |= {"dense numba": dense_ms(repeats), "rows numba": rows_ms(10 * repeats)}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15, help="calls per figure; ten times as many for rows")
    parser.add_argument("--json", type=Path, help="write the figures, in milliseconds, to this file")
    arguments = parser.parse_args()
    results = measure(arguments.repeats)
    for kind, figures in results.items():
        print(f"{kind:12}" + "".join(f"{name:>14} {each:8.3f} ms" for name, each in figures.items()))
        if "adam" in figures:
            bytes_ms = figures["bandwidth"] * STREAMS["adam"] / STREAMS["bandwidth"]
            print(
                f"{'':12}  adam / its bytes {figures['adam'] / bytes_ms:.2f}, adam / plain NumPy "
                f"{figures['adam'] / figures['plain_adam']:.2f}"
            )
            if "calls" in figures:
                print(
                    f"{'':12}  in the cache, by the time of its bytes: calls {figures['calls'] / bytes_ms:.2f}, of "
                    f"them root and division {figures['root_division'] / bytes_ms:.2f}"
                )
        else:
            print(f"{'':12}  adagrad / scatter_add {figures['adagrad'] / figures['scatter_add']:.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
