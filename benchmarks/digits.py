"""Steps per second of workers that train the example's digit classifier: ``python -m benchmarks.digits``.

A step pulls all parameters, computes a gradient of a batch and pushes it. There are three ways to make it:

* ``deltas``: the worker makes the step of gradient descent itself, and adds it to the parameters;
* ``optimizer``: the ps makes the step of ``ss.train.GradientDescent`` or, with ``--rule adam``, of ``ss.train.Adam``,
  and the push brings the next parameters back, as in ``examples/digits.py``;
* ``graph``: a program for TensorFlow 1, whose session makes the step; only its import is changed.

In the first two the gradient is written by hand, so that the time is that of the exchanges. With ``--tensorflow
PYTHON``, the interpreter of an environment that has TensorFlow, it trains the same model with the same graph program;
with ``--torch PYTHON`` by torch's RPC, in its parameter-server pattern. The processor time of a step is that of its
worker, and of all ps tasks together. With ``--images fashion`` the images are those of Fashion-MNIST, and the model has
ten times as many parameters.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

import worker_client as ss
from benchmarks.digits_by_hand import gradients
from benchmarks.drivers.shardscope import connect
from benchmarks.harness import command
from benchmarks.harness.contestants import ROOT, TRANSPORTS
from benchmarks.harness.peers import trained_by
from benchmarks.harness.processes import cpu_seconds
from benchmarks.harness.record import Record
from benchmarks.harness.tables import Table, auto_duration, number
from benchmarks.peers import digits_graph, training_images
from examples import digits
from ps_cluster import LocalCluster
from ps_cluster.local.line_splitter import OutputLine
from ps_cluster.local.reserved_ports import ReservedPorts

BENCHMARK = "digits"

Step: TypeAlias = Callable[[], None]
Accuracy: TypeAlias = Callable[[], float]
_HIDDEN, _BATCH, _RATE = 64, 32, 0.1
_BEGINS = "begins"
_ADAM_RATE = 1e-3
WAYS = ("deltas", "optimizer", "graph")
RULES = ("sgd", "adam")
_TENSORFLOW, _TORCH = "tensorflow", "torch"
PEERS = ROOT / "benchmarks" / "peers"
_START_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 60.0


def train(client: ss.Client, num_workers: int, seconds: float, way: str, rule: str) -> tuple[int, float, float]:
    """Trains together with the other workers, once all are there.

    Args:
        client: The connection.
        num_workers: How many workers there are.
        seconds: How long to train.
        way: One of ``WAYS``.
        rule: One of ``RULES``.

    Returns:
        This worker's steps, the seconds of processor time that they took it, and the accuracy.
    """
    present = ss.get_variable("present", [], initializer=ss.zeros_initializer())
    data = training_images.load_images()
    step, held_out_accuracy = (_graph_step if way == "graph" else _eager_step)(client, data, way, rule)
    for _ in range(20):
        step()
    present.assign_add(1.0)
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while present.read_value() < num_workers:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"of {num_workers} workers only {float(present):.0f} have started")
        time.sleep(0.01)
    print(_BEGINS, flush=True)
    steps, used_s, end_s = 0, time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        step()
        steps += 1
    return steps, time.process_time() - used_s, held_out_accuracy()


def _eager_step(client: ss.Client, data: Any, way: str, rule: str) -> tuple[Step, Accuracy]:
    images, classes, held_out_images, held_out_classes = data
    variables = digits.build_model(client, _HIDDEN, training_images.num_pixels())
    outs = [np.zeros(each.shape, np.float32) for each in variables]
    pulled = client.mirror(variables)
    random = np.random.default_rng(client.task.index)
    optimizer = ss.train.Adam(_ADAM_RATE) if rule == "adam" else ss.train.GradientDescent(_RATE)

    def push_deltas() -> None:
        rows = random.integers(0, len(images), _BATCH)
        found = gradients(client.read_all(variables, out=outs), images[rows], classes[rows])
        client.assign_add_all(zip(variables, [-_RATE * each for each in found], strict=True))

    def push_gradients() -> None:
        rows = random.integers(0, len(images), _BATCH)
        found = gradients(pulled.values, images[rows], classes[rows])
        optimizer.apply_gradients(zip(found, variables, strict=True), pull=pulled)

    step = push_gradients if way == "optimizer" else push_deltas
    return step, lambda: digits.accuracy(client.read_all(variables), held_out_images, held_out_classes)


def _graph_step(client: ss.Client, data: Any, _way: str, rule: str) -> tuple[Step, Accuracy]:
    import worker_client.compat.v1 as tf  # noqa: PLC0415 - which makes the process's graph a deferred one

    with tf.Graph().as_default():
        made = digits_graph.build(tf, client.cluster_spec, client.task.index, rule, training_images.num_pixels())
        session = tf.Session(client)
        return digits_graph.trained(session, made, data, client.task.index, is_chief=client.is_chief)


def measure(transport: str, num_ps: int, num_workers: int, seconds: float, way: str, rule: str) -> dict[str, Any]:
    """Returns the steps per second of each worker, and the greatest held-out accuracy that one has seen."""
    with LocalCluster(num_ps=num_ps, num_workers=num_workers) as cluster:
        pids = [cluster.ps_pid(index) for index in range(num_ps)]
        begun_s: list[float] = []  # processor time of the ps tasks when a worker began

        def keep(lines: list[str], line: OutputLine) -> None:
            if line.text == _BEGINS:
                begun_s.append(sum(map(cpu_seconds, pids)))
            lines.append(line.text)

        printed: list[list[str]] = [[] for _ in range(num_workers)]
        program = ["env", f"PYTHONPATH={ROOT}", "python", "-m", "benchmarks.digits", "--worker", transport]
        program += ["--seconds", str(seconds), "--way", way, "--rule", rule]
        workers = [
            cluster.start_worker(index, program, on_line=functools.partial(keep, printed[index]))
            for index in range(num_workers)
        ]
        codes = [each.wait(_START_TIMEOUT_S + seconds + _END_TIMEOUT_S) for each in workers]
        if any(codes) or None in codes:
            raise RuntimeError(f"{transport}: workers ended with {codes}; they printed {printed}")
        used_by_ps_s = sum(map(cpu_seconds, pids)) - min(begun_s)
    ends = [[float(each) for each in lines[-1].split()] for lines in printed]
    num_steps = sum(steps for steps, _, _ in ends)
    return {
        "transport": transport,
        "way": way,
        "rule": rule,
        "steps_per_s": [steps / seconds for steps, _, _ in ends],
        "accuracy": max(found for _, _, found in ends),
        "worker_s": sum(used_s for _, used_s, _ in ends) / num_steps,
        "ps_s": used_by_ps_s / num_steps,
    }


def measure_tensorflow(python: str, num_ps: int, num_workers: int, seconds: float, rule: str) -> dict[str, Any]:
    """The same of TensorFlow's own servers and graph."""
    reserved = ReservedPorts(num_ps + num_workers)
    addresses = [f"127.0.0.1:{port}" for port in reserved.ports]
    reserved.close()
    cluster = {"ps": addresses[:num_ps], "worker": addresses[num_ps:]}
    tasks = [(job, index) for job, of_job in cluster.items() for index in range(len(of_job))]
    driver = [python, str(PEERS / "tensorflow_digits.py"), json.dumps(cluster)]
    commands = [[*driver, job, str(index), rule, str(seconds)] for job, index in tasks]
    return _measured_peer(_TENSORFLOW, "graph", rule, commands, num_ps, seconds)


def measure_torch(python: str, num_ps: int, num_workers: int, seconds: float, rule: str) -> dict[str, Any]:
    """The same by torch's RPC over TCP, with the optimizers of torch on the ps tasks."""
    reserved = ReservedPorts(1)
    driver = [python, str(PEERS / "torch_digits.py"), str(reserved.ports[0])]
    reserved.close()
    sizes = [str(num_ps), str(num_workers), rule, str(seconds)]
    commands = [[*driver, str(rank), *sizes] for rank in range(num_ps + num_workers)]
    return _measured_peer(_TORCH, "rpc", rule, commands, num_ps, seconds)


def _measured_peer(
    name: str, way: str, rule: str, commands: Sequence[Sequence[str]], num_ps: int, seconds: float
) -> dict[str, Any]:
    """Runs the processes of a peer, the ps tasks first; workers print their steps and the accuracy."""
    ends = trained_by(name, commands, num_ps, seconds)
    return {
        "transport": name,
        "way": way,
        "rule": rule,
        "steps_per_s": [steps / seconds for steps, _ in ends],
        "accuracy": max(found for _, found in ends),
    }


def tables(record: Record) -> list[Table]:
    """Returns the one table."""
    results = record["results"]
    table = Table(
        f"Training {results.get('images', 'digits')}: {results['workers']} workers, {results['ps']} ps",
        [
            "transport",
            "way",
            "rule",
            "steps per second, together",
            "slowest worker",
            "fastest worker",
            "accuracy",
            "processor time of a step: worker",
            "ps tasks",
        ],
    )
    for case in results["cases"]:
        rates = case["steps_per_s"]
        figures = [number(each) for each in (sum(rates), min(rates), max(rates))]
        used = [auto_duration(case[key]) if key in case else "" for key in ("worker_s", "ps_s")]
        table.rows.append([case["transport"], case["way"], case["rule"], *figures, f"{case['accuracy']:.3f}", *used])
    return [table]


def _worker(transport: str, seconds: float, way: str, rule: str) -> None:
    with connect(None, transport) as client:
        print(*train(client, client.num_workers, seconds, way, rule), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = command.parser(__doc__)
    parser.add_argument("--ps", type=command.positive, default=2, help="ps processes (default: %(default)s)")
    parser.add_argument("--workers", type=command.positive, default=4, help="worker processes (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of training (default: %(default)s)")
    parser.add_argument("--way", nargs="+", choices=WAYS, default=list(WAYS), help="how a step is made (default: all)")
    parser.add_argument("--rule", choices=RULES, default="sgd", help="the optimizer (default: %(default)s)")
    parser.add_argument(
        "--images", choices=training_images.NAMES, default=training_images.name(), help="(default: %(default)s)"
    )
    parser.add_argument("--tensorflow", metavar="PYTHON", help="interpreter with TensorFlow, to train the same with it")
    parser.add_argument("--torch", metavar="PYTHON", help="interpreter with torch, to train the same by its RPC")
    parser.add_argument("--worker", choices=TRANSPORTS, help=argparse.SUPPRESS)  # be one of the workers
    given = parser.parse_args(arguments)
    os.environ[training_images.VARIABLE] = given.images  # for the processes of every contestant
    if given.worker:
        _worker(given.worker, given.seconds, given.way[0], given.rule)
        return 0
    ways = [way for way in given.way if way != "deltas" or given.rule == "sgd"]
    cases = []
    for transport in given.transport:
        for way in ways:
            command.progress(f"{transport}, {way}")
            cases.append(measure(transport, given.ps, given.workers, given.seconds, way, given.rule))
    if given.tensorflow:
        command.progress(_TENSORFLOW)
        cases.append(measure_tensorflow(given.tensorflow, given.ps, given.workers, given.seconds, given.rule))
    if given.torch:
        command.progress(_TORCH)
        cases.append(measure_torch(given.torch, given.ps, given.workers, given.seconds, given.rule))
    results = {"cases": cases, "ps": given.ps, "workers": given.workers, "images": given.images}
    command.finish(BENCHMARK, "benchmarks.digits", results, tables, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
