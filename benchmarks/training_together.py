"""What training together costs, by policy: ``python -m benchmarks.training_together``.

Each worker makes steps of the digit classifier. A step computes a gradient by hand, which takes hardly any time, and
sleeps for ``--step``, as if a device computed: so several workers compute at a time also on a machine of few cores.

* ``bsp``: the time of a round beyond the step of its slowest worker, in round trips of a small read, measured by the
  same workers before and after;
* ``ssp(3)`` beside ``async`` and an optimizer without ``sync``: gradients in a second, of workers equally fast;
* with one worker three times slower: rounds in a second of ``bsp``, and of ``sync`` with that worker as a backup;
* the processor time of all processes for a gradient, which says more than the clock where others use the machine;
* how many other workers begin a step within 2 ms of a worker: all of them with ``bsp``; more than by chance where
  workers march in step, and then want the processors at the same time.

Nothing is measured before the ps tasks rest: after their start they compile in the background.

With ``--tensorflow PYTHON``, the interpreter of an environment that has TensorFlow, its SyncReplicasOptimizer trains
the same model in the same run; with ``--torch PYTHON`` torch's DistributedDataParallel over gloo, without any ps.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

import worker_client as ss
from benchmarks.digits_by_hand import gradients
from benchmarks.drivers.shardscope import connect
from benchmarks.harness import command
from benchmarks.harness.contestants import ROOT, TRANSPORTS
from benchmarks.harness.peers import trained_by
from benchmarks.harness.processes import cpu_seconds, wait_until_they_rest
from benchmarks.harness.record import Record
from benchmarks.harness.tables import Table, auto_duration, number
from benchmarks.peers import training_images
from benchmarks.peers.digits_graph import BATCH, HIDDEN, RATE, WARM_UP
from examples import digits
from ps_cluster import LocalCluster
from ps_cluster.local.reserved_ports import ReservedPorts

BENCHMARK: Final = "training together"
PEERS: Final = ROOT / "benchmarks" / "peers"
BSP: Final = "bsp"
SSP: Final = "ssp"
SYNC: Final = "sync"
ASYNC: Final = "async"
ALONE: Final = "none"
"""An optimizer without ``sync``."""

_SLOWER: Final = 3.0
_TRIPS: Final = 200
_TOGETHER_S: Final = 0.002
_FEWEST_STEPS: Final = 8
"""However long they take: enough for rounds that follow each other."""

_START_TIMEOUT_S: Final = 60.0
_END_TIMEOUT_S: Final = 60.0


def cases(num_workers: int) -> list[tuple[str, bool, bool]]:
    """Policy, whether workers compute (or only exchange), and whether the last one is slow."""
    least = max(1, num_workers - 1)
    bsp, ssp = f"{BSP}(total={num_workers})", f"{SSP}(3, total={num_workers})"
    return [
        (bsp, False, False),
        (bsp, True, False),
        (ssp, True, False),
        (ASYNC, True, False),
        (ALONE, True, False),
        (bsp, True, True),
        (f"sync({least}, total={num_workers})", True, True),
    ]


def train(
    client: ss.Client, sync: str, step_s: float, seconds: float, ps_pids: Sequence[int], rest_s: float
) -> dict[str, Any]:
    """Trains together with the others; returns what a worker has measured."""
    images, classes, held_out_images, held_out_classes = training_images.load_images()
    variables = digits.build_model(client, HIDDEN, training_images.num_pixels())
    pulled = client.mirror(variables)
    random = np.random.default_rng(client.task.index)
    optimizer = ss.train.GradientDescent(RATE, sync=None if sync == ALONE else sync)
    begun_s: list[float] = []  # of a clock that is the same in all processes
    computed_s: dict[int, float] = {}
    ended_s: dict[int, float] = {}

    def step() -> ss.train.Applied:
        began_s = time.perf_counter()
        begun_s.append(time.monotonic())
        rows = random.integers(0, len(images), BATCH)
        found = gradients(pulled.values, images[rows], classes[rows])
        time.sleep(step_s)
        took_s = time.perf_counter() - began_s
        applied = optimizer.apply_gradients(zip(found, variables, strict=True), pull=pulled)[0]
        if applied.verdict == "applied":
            computed_s[applied.round], ended_s[applied.round] = took_s, time.perf_counter()
        return applied

    for _ in range(WARM_UP):
        step()
    if sync != ALONE:
        optimizer.finish()  # who waits at a barrier must not be waited for in a round
    if client.task.index == 0:
        wait_until_they_rest(ps_pids, rest_s)
    client.barrier("begin", _START_TIMEOUT_S + rest_s)
    small_s = [_small_trip(variables[-1])]
    client.barrier("measured", _START_TIMEOUT_S)
    computed_s.clear()
    ended_s.clear()
    begun_s.clear()
    verdicts: dict[str, int] = {}
    used_s = [cpu_seconds(each) for each in ps_pids], time.process_time()
    steps, end_s = 0, time.perf_counter() + seconds
    while steps < _FEWEST_STEPS or time.perf_counter() < end_s:
        verdict = step().verdict
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
        steps += 1
    ps_used_s = [cpu_seconds(pid) - before_s for pid, before_s in zip(ps_pids, used_s[0], strict=True)]
    own_used_s = time.process_time() - used_s[1]
    if sync != ALONE:
        client.finish_together(optimizer.name, _END_TIMEOUT_S)
    client.barrier("end", _END_TIMEOUT_S)
    small_s.append(_small_trip(variables[-1]))
    pulled.pull()
    return {
        "steps": steps,
        "verdicts": verdicts,
        "small_s": small_s,
        "begun_s": begun_s,
        "used_s": [own_used_s, *ps_used_s],
        "rounds": {str(each): [computed_s[each], ended_s[each]] for each in computed_s} if sync.startswith(BSP) else {},
        "accuracy": digits.accuracy(pulled.values, held_out_images, held_out_classes),
    }


def _small_trip(biases: Any) -> float:
    """Seconds of a read of a few numbers, while the other workers read too."""
    taken_s = []
    for _ in range(_TRIPS):
        began_s = time.perf_counter()
        biases.read_value()
        taken_s.append(time.perf_counter() - began_s)
    return statistics.median(taken_s)


def overhead_s(workers: Sequence[dict[str, Any]]) -> float:
    """Median of the time of a round beyond the step of its slowest worker."""
    rounds = [{int(key): value for key, value in each["rounds"].items()} for each in workers]
    common = sorted(set.intersection(*[set(each) for each in rounds]))
    found = [
        statistics.mean([of[after][1] - of[before][1] for of in rounds]) - max([of[after][0] for of in rounds])
        for before, after in itertools.pairwise(common)
        if after == before + 1
    ]
    return float(statistics.median(found))


def begin_together(begun_s: Sequence[Sequence[float]]) -> float:
    """How many other workers begin a step within 2 ms of a worker, on average."""
    of_all = np.sort(np.concatenate(begun_s))
    first, last = of_all - _TOGETHER_S, of_all + _TOGETHER_S
    return float(np.mean(np.searchsorted(of_all, last) - np.searchsorted(of_all, first) - 1))


def measure(
    transport: str,
    num_ps: int,
    num_workers: int,
    seconds: float,
    case: tuple[str, bool, bool],
    step_s: float,
    rest_s: float,
) -> dict[str, Any]:
    """Returns what the workers have measured of a policy."""
    sync, computes, has_slow_one = case
    sleeps_s = [step_s if computes else 0.0] * num_workers
    if has_slow_one:
        sleeps_s[-1] *= _SLOWER
    with LocalCluster(num_ps=num_ps, num_workers=num_workers) as cluster:
        printed: list[list[str]] = [[] for _ in range(num_workers)]
        pids = ",".join([str(cluster.ps_pid(index)) for index in range(num_ps)])
        program = ["env", f"PYTHONPATH={ROOT}", "python", "-m", "benchmarks.training_together", "--worker", transport]
        program += ["--seconds", str(seconds), "--ps-pids", pids, "--rest", str(rest_s)]
        workers = [
            cluster.start_worker(
                index,
                [*program, "--sync", sync, "--step", str(1e3 * sleeps_s[index])],
                on_line=lambda line, lines=printed[index]: lines.append(line.text),  # type: ignore[misc]
            )
            for index in range(num_workers)
        ]
        codes = [each.wait(2 * _START_TIMEOUT_S + rest_s + 2 * seconds + _END_TIMEOUT_S) for each in workers]
        if any(codes) or None in codes:
            raise RuntimeError(f"{transport}, {sync}: workers ended with {codes}; they printed {printed}")
    found = [json.loads(lines[-1]) for lines in printed]
    verdicts: dict[str, int] = {}
    for each in found:
        for verdict, count in each["verdicts"].items():
            verdicts[verdict] = verdicts.get(verdict, 0) + count
    steps = [each["steps"] for each in found]
    small_s = statistics.median([taken for each in found for taken in each["small_s"]])
    return {
        "contestant": transport,
        "sync": sync,
        "step_s": sleeps_s[0],
        "slowest_s": max(sleeps_s),
        "steps_per_s": sum(steps) / seconds,
        "fastest_per_s": max(steps) / seconds,
        "small_s": small_s,
        "begin_together": begin_together([each["begun_s"] for each in found]),
        "overhead_s": overhead_s(found) if sync.startswith(BSP) else None,
        "used_s": (sum([each["used_s"][0] for each in found]) + sum(found[0]["used_s"][1:])) / sum(steps),
        "verdicts": verdicts,
        "accuracy": max(each["accuracy"] for each in found),
    }


def measure_tensorflow(python: str, num_ps: int, num_workers: int, seconds: float, step_s: float) -> dict[str, Any]:
    """The same of TensorFlow's SyncReplicasOptimizer."""
    reserved = ReservedPorts(num_ps + num_workers)
    addresses = [f"127.0.0.1:{port}" for port in reserved.ports]
    reserved.close()
    cluster = {"ps": addresses[:num_ps], "worker": addresses[num_ps:]}
    tasks = [(job, index) for job, of_job in cluster.items() for index in range(len(of_job))]
    driver = [python, str(PEERS / "tensorflow_together.py"), json.dumps(cluster)]
    commands = [[*driver, job, str(index), str(step_s), str(seconds)] for job, index in tasks]
    return _measured_peer("tensorflow", "SyncReplicas", commands, num_ps, seconds, step_s)


def measure_torch(python: str, num_workers: int, seconds: float, step_s: float) -> dict[str, Any]:
    """The same of torch's DistributedDataParallel."""
    reserved = ReservedPorts(1)
    driver = [python, str(PEERS / "torch_together.py"), str(reserved.ports[0])]
    reserved.close()
    commands = [[*driver, str(rank), str(num_workers), str(step_s), str(seconds)] for rank in range(num_workers)]
    return _measured_peer("torch", "DDP (gloo)", commands, 0, seconds, step_s)


def _measured_peer(
    name: str, way: str, commands: Sequence[Sequence[str]], num_ps: int, seconds: float, step_s: float
) -> dict[str, Any]:
    """Runs the processes of a peer, the ps tasks first; workers print their steps and the accuracy."""
    ends = trained_by(name, commands, num_ps, seconds)
    steps = [each for each, _ in ends]
    return {
        "contestant": name,
        "sync": way,
        "step_s": step_s,
        "slowest_s": step_s,
        "steps_per_s": sum(steps) / seconds,
        "fastest_per_s": max(steps) / seconds,
        "verdicts": {},
        "accuracy": max(found for _, found in ends),
    }


def tables(record: Record) -> list[Table]:
    """Returns the figures of all policies, and what they are to each other."""
    results = record["results"]
    title = f"Training together: {results['workers']} workers, {results['ps']} ps"
    table = Table(
        title,
        [
            *("by", "sync", "step", "slowest", "gradients per second", "of the fastest worker"),
            *(
                "overhead of a round",
                "in small round trips",
                "processor time of a gradient",
                "begin with it",
                "accuracy",
            ),
        ],
    )
    for case in results["cases"]:
        overhead = case.get("overhead_s")
        trips = "" if overhead is None else number(overhead / case["small_s"])
        table.rows.append(
            [
                case["contestant"],
                case["sync"],
                *[auto_duration(case[key]) for key in ("step_s", "slowest_s")],
                *[number(case[key]) for key in ("steps_per_s", "fastest_per_s")],
                *["" if overhead is None else auto_duration(overhead), trips],
                auto_duration(case["used_s"]) if "used_s" in case else "",
                f"{case['begin_together']:.2f}" if "begin_together" in case else "",
                f"{case['accuracy']:.3f}",
            ]
        )
    ratios = Table(f"{title}: ratios", ["what", "ratio"])
    for what, ratio in results["ratios"].items():
        ratios.rows.append([what, number(ratio)])
    return [table, ratios]


def ratios_of(found: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What the figures are to each other, by what they say."""
    ratios: dict[str, float] = {}
    for transport in [each for each in TRANSPORTS if each in {case["contestant"] for case in found}]:
        own = [case for case in found if case["contestant"] == transport]
        busy = _by_policy([case for case in own if not case["step_s"]])
        even = _by_policy([case for case in own if case["step_s"] and case["slowest_s"] == case["step_s"]])
        uneven = _by_policy([case for case in own if case["slowest_s"] > case["step_s"]])
        for other in (ASYNC, ALONE):
            ratios[f"{transport}: ssp(3) / {other}"] = even[SSP]["steps_per_s"] / even[other]["steps_per_s"]
        of_fastest = uneven[SYNC]["fastest_per_s"] / uneven[BSP]["fastest_per_s"]
        ratios[f"{transport}: {uneven[SYNC]['sync']} / bsp, one slow"] = of_fastest
        for peer in [case for case in found if case["contestant"] in ("tensorflow", "torch")]:
            mine = (even if peer["step_s"] else busy)[BSP]
            what = f"{transport}: bsp / {peer['contestant']}, steps of {auto_duration(peer['step_s'])}"
            ratios[what] = mine["steps_per_s"] / peer["steps_per_s"]
    return ratios


def _by_policy(found: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {case["sync"].partition("(")[0]: case for case in found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = command.parser(__doc__)
    parser.add_argument("--ps", type=command.positive, default=2, help="ps processes (default: %(default)s)")
    parser.add_argument("--workers", type=command.positive, default=4, help="worker processes (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of training (default: %(default)s)")
    parser.add_argument("--step", type=float, default=10.0, help="milliseconds of computing (default: %(default)s)")
    parser.add_argument(
        "--rest",
        type=float,
        default=60.0,
        help="seconds that ps tasks get at most to come to rest (default: %(default)s)",
    )
    parser.add_argument("--tensorflow", metavar="PYTHON", help="interpreter with TensorFlow, to train the same with it")
    parser.add_argument("--torch", metavar="PYTHON", help="interpreter with torch, to train the same with it")
    parser.add_argument("--worker", choices=TRANSPORTS, help=argparse.SUPPRESS)  # be one of the workers
    parser.add_argument("--sync", help=argparse.SUPPRESS)
    parser.add_argument("--ps-pids", default="", help=argparse.SUPPRESS)
    parser.set_defaults(transport=["socket"])
    given = parser.parse_args(arguments)
    os.environ.setdefault(training_images.VARIABLE, training_images.NAMES[0])
    step_s = given.step / 1e3
    if given.worker:
        with connect(None, given.worker) as client:
            pids = [int(each) for each in given.ps_pids.split(",")]
            print(json.dumps(train(client, given.sync, step_s, given.seconds, pids, given.rest)), flush=True)
        return 0
    found = []
    for transport in given.transport:
        for case in cases(given.workers):
            command.progress(f"{transport}, {case[0]}{', one slow' if case[2] else ''}")
            found.append(measure(transport, given.ps, given.workers, given.seconds, case, step_s, given.rest))
    for seconds_of_step in (0.0, step_s):
        if given.tensorflow:
            command.progress("tensorflow")
            found.append(measure_tensorflow(given.tensorflow, given.ps, given.workers, given.seconds, seconds_of_step))
        if given.torch:
            command.progress("torch")
            found.append(measure_torch(given.torch, given.workers, given.seconds, seconds_of_step))
    results = {"cases": found, "ratios": ratios_of(found), "ps": given.ps, "workers": given.workers}
    command.finish(BENCHMARK, "benchmarks.training_together", results, tables, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
