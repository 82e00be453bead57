"""How fast rows are gathered and scattered inside a ps: ``python -m benchmarks.row_kernels [--json FILE]``.

Compares the kernels of the ps, in NumPy and compiled by numba, with ``np.add.at``, on rows of 64 float32 of a table of
1,000,000, drawn uniformly and by Zipf's law, for which a few rows make up most of a batch. Times are CPU
times of one thread, planning included: medians over indices that differ from call to call.
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
import numpy.typing as npt

from ps_protocol.operations import Array, ScatterRule, VariableSpec
from ps_server.rules import compiled_row_kernels, row_kernels
from ps_server.rules.row_rules import checked_rows, gather_into

NUM_ROWS, WIDTH = 1_000_000, 64
BATCHES = (4_096, 20_000)
ZIPF_EXPONENT = 1.1
SETS = 20

Indices = npt.NDArray[np.int64]


def drawn(distribution: str, size: int, random: np.random.Generator) -> Indices:
    """Row numbers; by Zipf's law, bounded by the table, row k is drawn in proportion to (k + 1) ** -exponent."""
    if distribution == "uniform":
        return random.integers(0, NUM_ROWS, size)
    cumulated = np.cumsum(np.arange(1, NUM_ROWS + 1, dtype=np.float64) ** -ZIPF_EXPONENT)
    return np.asarray(np.searchsorted(cumulated, random.random(size) * cumulated[-1]))


def median_ms(call: Callable[[Indices], object], sets: list[Indices], repeats: int) -> float:
    """Median milliseconds of one call over the sets of indices."""
    times = []
    for number in range(repeats):
        indices = sets[number % len(sets)]
        start_s = time.thread_time()
        call(indices)
        times.append(1e3 * (time.thread_time() - start_s))
    return statistics.median(times)


def kernels(table: Array, updates: Array) -> dict[str, Callable[[Indices], object]]:
    """What is compared, by name."""
    spec = VariableSpec("table", table.dtype, table.shape)
    out = np.empty_like(updates)

    def gather(indices: Indices) -> None:
        gather_into(table, checked_rows(spec, indices), out)

    def scatter_numpy(indices: Indices) -> None:
        rows = checked_rows(spec, indices)
        row_kernels.plan(ScatterRule.ADD, rows, updates, NUM_ROWS, WIDTH).apply(table)

    calls: dict[str, Callable[[Indices], object]] = {"gather": gather, "scatter_numpy": scatter_numpy}
    if importlib.util.find_spec("numba") is not None:
        kernel = compiled_row_kernels.compiled_kernel(ScatterRule.ADD, table.dtype)
        calls["scatter_numba"] = lambda indices: kernel(table, checked_rows(spec, indices), updates)
    calls["np_add_at"] = lambda indices: np.add.at(table, indices, updates)
    return calls


def measure(repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each kernel for each kind of batch, the kernels in alternation."""
    random = np.random.default_rng(0)
    table = random.standard_normal((NUM_ROWS, WIDTH), np.float32)
    results = {}
    for size in BATCHES:
        updates = random.standard_normal((size, WIDTH), np.float32)
        calls = kernels(table, updates)
        for distribution in ("uniform", "zipf"):
            sets = [drawn(distribution, size, random) for _ in range(SETS)]
            results[f"{distribution} {size}"] = {name: median_ms(call, sets, repeats) for name, call in calls.items()}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=100, help="calls per figure")
    parser.add_argument("--json", type=Path, help="write the figures, in milliseconds, to this file")
    arguments = parser.parse_args()
    results = measure(arguments.repeats)
    names = list(next(iter(results.values())))
    print(f"{'milliseconds':16}" + "".join(f"{name:>16}" for name in names))
    for kind, figures in results.items():
        print(f"{kind:16}" + "".join(f"{figures[name]:16.3f}" for name in names))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
