"""What sharing a model of another library costs, beside its peers and the machine: ``python -m benchmarks.adapters``.

* ``conv`` and ``resnet18``: a step of each adapter (pull, and push of all gradients) beside the same step by hand, that
  is ``read_all`` into arrays and ``apply_gradients``, of a net of 38 thousand parameters and of ResNet-18's 11.7
  million, and beside ``np.copyto`` of what travels, once there and once back. All workers make the same kind of step at
  the same time, by turns. There is no model to compute: only what moves is measured.
* ``train``: a small convolutional net that ``ss.torch`` trains, each worker alone and in rounds of ``bsp``. With
  ``--torch PYTHON``, an interpreter that has torch, its RPC and its DistributedDataParallel train the same net.

Nothing is measured before the ps tasks rest: after their start they compile in the background.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Sequence
from typing import Any, Final

from benchmarks.harness import command
from benchmarks.harness.contestants import ROOT
from benchmarks.harness.peers import trained_by
from benchmarks.harness.record import Record
from benchmarks.harness.tables import Table, auto_duration, number, size
from ps_cluster import LocalCluster
from ps_cluster.local.reserved_ports import ReservedPorts

BENCHMARK: Final = "adapters"
PARTS: Final = ("conv", "resnet18", "train")
ADAPTERS: Final = ("numpy", "torch", "jax")
RAW: Final = "read_all, apply_gradients"
RAW_MIRROR: Final = "apply_gradients(pull=mirror)"
RAW_JAX: Final = "read_all, jnp.array, apply_gradients"
COPY: Final = "np.copyto"
NETS: Final = ("small", "mnist")
"""Those of ``benchmarks.peers.conv_net``."""
PEER_WAYS: Final = ("tutorial", "gradients", "ddp")
"""Those of ``benchmarks.peers.torch_conv``."""
OWN_WAYS: Final = {"alone": (None, False), "overlap": (None, True), "bsp": ("bsp", False)}
"""How ``ss.torch`` trains: ``sync`` and ``overlap``."""

_TIMEOUT_S: Final = 300.0
_PEER: Final = ROOT / "benchmarks" / "peers" / "torch_conv.py"


def run_workers(given: argparse.Namespace, transport: str, job: dict[str, Any]) -> list[dict[str, Any]]:
    """Has workers do a job on a cluster of its own; returns what each has measured."""
    with LocalCluster(num_ps=given.ps, num_workers=given.workers) as cluster:
        job = {"transport": transport, "ps_pids": [cluster.ps_pid(each) for each in range(given.ps)], **job}
        printed: list[list[str]] = [[] for _ in range(given.workers)]
        program = ["env", f"PYTHONPATH={ROOT}", "OMP_NUM_THREADS=1", "python", "-m", "benchmarks.drivers.adapted"]
        workers = [
            cluster.start_worker(
                index,
                [*program, json.dumps({"rest_s": given.rest, **job})],
                on_line=lambda line, lines=printed[index]: lines.append(line.text),  # type: ignore[misc]
            )
            for index in range(given.workers)
        ]
        codes = [each.wait(_TIMEOUT_S) for each in workers]
        if any(codes) or None in codes:
            raise RuntimeError(f"{transport}, {job}: workers ended with {codes}; they printed {printed}")
        return [_figures(lines) for lines in printed]


def _figures(lines: Sequence[str]) -> dict[str, Any]:
    """What a worker has printed, which was cut if it was long; libraries may print lines before and after."""
    begin = next(number for number, line in enumerate(lines) if line.startswith("{"))
    found: dict[str, Any] = json.JSONDecoder().raw_decode("".join(lines[begin:]))[0]
    return found


def measure_steps(given: argparse.Namespace, transport: str, model: str) -> dict[str, Any]:
    """Returns what steps by adapters and by hand take, all workers together."""
    job = {"do": "compare", "model": model, "adapters": given.adapters, "rounds": given.rounds, "steps": given.steps}
    found = run_workers(given, transport, job)
    seconds = {name: [taken for each in found for taken in each["seconds"][name]] for name in found[0]["seconds"]}
    return {
        "transport": transport,
        "model": model,
        "bytes": found[0]["bytes"],
        "steps": {name: len(taken_s) for name, taken_s in seconds.items()},
        "median_s": {name: statistics.median(taken_s) for name, taken_s in seconds.items()},
        "tenth_s": {name: statistics.quantiles(taken_s, n=10)[0] for name, taken_s in seconds.items()},
        "allocated": {name: max(each["allocated"][name] for each in found) for name in found[0]["allocated"]},
    }


def measure_training(
    given: argparse.Namespace, transport: str, net: str, sync: str | None, *, overlap: bool
) -> dict[str, Any]:
    """Returns the steps per second of all workers together, by ``ss.torch``."""
    policy = sync and f"{sync}(total={given.workers})"
    job = {"do": "train", "net": net, "sync": policy, "overlap": overlap, "seconds": given.seconds}
    found = run_workers(given, transport, job)
    steps = sum([each["steps"] for each in found])
    return {
        "by": transport,
        "net": net,
        "way": (policy or "each alone") + (", overlap" if overlap else ""),
        "steps_per_s": steps / given.seconds,
        "worker_s": sum([each["used_s"] for each in found]) / steps,
        "ps_s": found[0]["ps_s"] / steps,
        "accuracy": max(each["accuracy"] for each in found),
    }


def measure_peer(given: argparse.Namespace, net: str, way: str) -> dict[str, Any]:
    """The same by torch alone."""
    num_ps = 0 if way == "ddp" else given.ps
    reserved = ReservedPorts(1)
    driver = [given.torch, str(_PEER), str(reserved.ports[0])]
    reserved.close()
    ranks = range(num_ps + given.workers)
    commands = [[*driver, str(rank), str(num_ps), str(given.workers), way, net, str(given.seconds)] for rank in ranks]
    ends = trained_by(f"torch, {way}", commands, num_ps, given.seconds)
    return {
        "by": "torch",
        "net": net,
        "way": way,
        "steps_per_s": sum([steps for steps, _ in ends]) / given.seconds,
        "accuracy": max(found for _, found in ends),
    }


def ratios_of(steps: Sequence[dict[str, Any]], trained: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What the figures are to each other, by what they say."""
    ratios: dict[str, float] = {}
    for case in steps:
        median_s = case["median_s"]
        for name in [each for each in median_s if each in ADAPTERS]:
            for other in (RAW, RAW_MIRROR, *([RAW_JAX] if name == "jax" else []), COPY):
                what = f"{case['transport']}, {case['model']}: time of ss.{name} / {other}"
                ratios[what] = median_s[name] / median_s[other]
    own = {(case["by"], case["net"], case["way"]): case["steps_per_s"] for case in trained if case["by"] != "torch"}
    for peer in [case for case in trained if case["by"] == "torch"]:
        for (transport, net, way), steps_per_s in own.items():
            if net == peer["net"] and ("bsp" in way) == (peer["way"] == "ddp"):
                ratios[f"{transport}, {net}, {way}: steps per second / torch, {peer['way']}"] = (
                    steps_per_s / peer["steps_per_s"]
                )
    return ratios


def tables(record: Record) -> list[Table]:
    """Returns a table of steps, one of training, and one of ratios."""
    results = record["results"]
    title = f"{results['workers']} workers, {results['ps']} ps"
    steps = Table(
        f"A step: {title}",
        ["transport", "model", "by", "bytes of parameters", "steps", "median", "a tenth below", "grows by"],
        labels=3,
    )
    for case in results["steps"]:
        for name, median_s in case["median_s"].items():
            allocated = case["allocated"].get(name)
            steps.rows.append(
                [
                    *(case["transport"], case["model"], name, size(case["bytes"]), f"{case['steps'][name]:,}"),
                    *(auto_duration(median_s), auto_duration(case["tenth_s"][name])),
                    "" if allocated is None else size(allocated),
                ]
            )
    trained = Table(
        f"Training a small convolutional net: {title}",
        ["by", "net", "way", "steps per second, together", "accuracy", "processor time of a step: worker", "ps tasks"],
        labels=3,
    )
    for case in results["trained"]:
        used = [auto_duration(case[key]) if key in case else "" for key in ("worker_s", "ps_s")]
        trained.rows.append(
            [case["by"], case["net"], case["way"], number(case["steps_per_s"]), f"{case['accuracy']:.3f}", *used]
        )
    ratios = Table(f"Ratios: {title}", ["what", "ratio"])
    for what, ratio in results["ratios"].items():
        ratios.rows.append([what, number(ratio)])
    return [each for each in (steps, trained, ratios) if each.rows]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = command.parser(__doc__)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), help="(default: all)")
    parser.add_argument("--adapters", nargs="+", choices=ADAPTERS, default=list(ADAPTERS), help="(default: all)")
    parser.add_argument("--net", nargs="+", choices=NETS, default=list(NETS), help="to train (default: all)")
    ways = [*OWN_WAYS, *PEER_WAYS]
    parser.add_argument("--way", nargs="+", choices=ways, default=ways, help="to train (default: all)")
    parser.add_argument("--ps", type=command.positive, default=2, help="ps processes (default: %(default)s)")
    parser.add_argument("--workers", type=command.positive, default=2, help="worker processes (default: %(default)s)")
    parser.add_argument("--rounds", type=command.positive, default=8, help="turns of each kind (default: %(default)s)")
    parser.add_argument("--steps", type=command.positive, default=10, help="steps in a turn (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of training (default: %(default)s)")
    parser.add_argument(
        "--rest",
        type=float,
        default=60.0,
        help="seconds that ps tasks get at most to come to rest (default: %(default)s)",
    )
    parser.add_argument("--torch", metavar="PYTHON", help="interpreter with torch, to train the same with it")
    parser.set_defaults(transport=["shm"])
    given = parser.parse_args(arguments)
    nets = given.net if "train" in given.part else []
    steps, trained = [], []
    for transport in given.transport:
        for model in [each for each in given.part if each != "train"]:
            command.progress(f"{transport}, {model}")
            steps.append(measure_steps(given, transport, model))
        for net, way in itertools.product(nets, [each for each in given.way if each in OWN_WAYS]):
            command.progress(f"{transport}, {net}, {way}")
            sync, overlap = OWN_WAYS[way]
            trained.append(measure_training(given, transport, net, sync, overlap=overlap))
    for net, way in itertools.product(nets, [each for each in given.way if given.torch and each in PEER_WAYS]):
        command.progress(f"torch, {net}, {way}")
        trained.append(measure_peer(given, net, way))
    results = {
        "ps": given.ps,
        "workers": given.workers,
        "steps": steps,
        "trained": trained,
        "ratios": ratios_of(steps, trained),
    }
    command.finish(BENCHMARK, "benchmarks.adapters", results, tables, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
