"""This version against another checkout, in one run: ``python -m benchmarks.versions CHECKOUT [--rounds N]``.

The checkout has an environment of its own in ``.venv`` (``make check`` there makes it). Both versions do the workloads
of ``python -m benchmarks`` in turns. Then they name variables and start, in fresh processes and in turns. Printed is
this version's time divided by the other's: 1.05 is 5 % slower.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.comparison.comparison import compare
from benchmarks.harness import command
from benchmarks.harness.contestants import ROOT, Entry, own_entry
from benchmarks.harness.record import Record
from benchmarks.harness.samples import ratio
from benchmarks.harness.tables import Table, auto_duration, number
from benchmarks.harness.workloads import WORKLOADS

BENCHMARK = "versions"
_TIMEOUT_S = 300.0

# What runs in a fresh process of either version, and so uses only names that both have. Processor time, in seconds.
_NAMES = """
import json, statistics, time
import worker_client as ss
def each(call, repeats):
    started = time.thread_time()
    for _ in range(repeats): call()
    return (time.thread_time() - started) / repeats
def enter():
    with ss.variable_scope("layer"): pass
figures = {}
with ss.Graph().as_default():
    with ss.variable_scope("layer"): ss.get_variable("weights", [4], initializer=ss.zeros_initializer())
    figures["enter a scope"] = min(each(enter, 2000) for _ in range(15))
    with ss.variable_scope("layer", reuse=True):
        figures["find a name"] = min(each(lambda: ss.get_variable("weights", [4]), 2000) for _ in range(15))
    started = time.thread_time()
    for index in range(2000): ss.get_variable(f"v{index}", [4], initializer=ss.zeros_initializer())
    figures["make a deferred variable"] = (time.thread_time() - started) / 2000
print(json.dumps(figures))
"""
_START = """
import json, time
started = time.process_time()
import worker_client
print(json.dumps({"import worker_client": time.process_time() - started}))
"""


def _other(entry: Entry, checkout: Path) -> Entry:
    program, *arguments = entry.command
    del program
    python = str(checkout / ".venv" / "bin" / "python")
    run = ("env", "-C", str(checkout), f"PYTHONPATH={checkout}", python, *arguments)
    return replace(entry, name=f"{entry.name} before", command=run)


def _fresh(checkout: Path, program: str) -> Mapping[str, float]:
    environ = {**os.environ, "PYTHONPATH": str(checkout)}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or every process would compile what it imports
    python = checkout / ".venv" / "bin" / "python"
    done = subprocess.run(
        [python, "-c", program], cwd=checkout, env=environ, check=True, capture_output=True, timeout=_TIMEOUT_S
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def measure(checkout: Path, transports: list[str], workloads: list[str], *, rounds: int) -> dict[str, Any]:
    """Returns ratios, this version's time to the other's: by transport and workload, and of names and start."""
    own = [own_entry(transport, "full") for transport in transports]
    compared = compare([*own, *(_other(each, checkout) for each in own)], workloads, rounds=rounds)
    cases = {(case["contestant"], case["workload"], case["variant"]): case for case in compared["cases"]}
    ratios = [
        {
            "transport": transport,
            "workload": workload,
            "variant": variant,
            "now_s": case["all"]["p50"],
            **ratio(case["rounds"], cases[f"{transport} before", workload, variant]["rounds"]),
        }
        for (transport, workload, variant), case in cases.items()
        if (f"{transport} before", workload, variant) in cases
    ]
    least: dict[str, dict[str, float]] = {"now": {}, "before": {}}
    command.progress("measuring names and start")
    sides = {"now": ROOT, "before": checkout}
    for turn in range(2 * (rounds + 1)):
        side = ("now", "before")[turn % 2]
        for program in (_NAMES, _START):
            for name, value in _fresh(sides[side], program).items():
                least[side][name] = min(value, least[side].get(name, value))
    return {
        "ratios": ratios,
        "alone": least,
        "rounds": rounds,
    }


def tables(record: Record) -> list[Table]:
    """Both results as tables."""
    results = record["results"]
    work = Table(
        "Time now / before, median of rounds (least, most)", ["transport", "workload", "now", "ratio", ""], labels=2
    )
    for each in results["ratios"]:
        name = each["workload"] + (f" ({each['variant']})" if each["variant"] else "")
        work.rows.append(
            [
                each["transport"],
                name,
                auto_duration(each["now_s"]),
                number(each["p50"]),
                f"{number(each['min'])} to {number(each['max'])}",
            ]
        )
    alone = Table("Processor time now / before, the least of all rounds", ["what", "now", "ratio"])
    for name, value in results["alone"]["now"].items():
        alone.rows.append([name, auto_duration(value), number(value / results["alone"]["before"][name])])
    return [work, alone]


def main() -> None:
    """Measures and shows."""
    parser = command.parser(__doc__)
    parser.add_argument("checkout", type=Path, help="the other version")
    parser.add_argument("--rounds", type=command.positive, default=7, help="how often each takes its turn (default: 7)")
    parser.add_argument(
        "--workload", nargs="+", action=command.Chosen, choices=list(WORKLOADS), default=list(WORKLOADS)
    )
    given = parser.parse_args()
    results = measure(given.checkout.resolve(), given.transport, given.workload, rounds=given.rounds)
    command.finish(BENCHMARK, "benchmarks.versions", results, tables, given.json)


if __name__ == "__main__":
    main()
