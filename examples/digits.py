"""Trains a classifier of handwritten digits on a cluster: between-graph, asynchronous SGD.

Every worker runs this same script. It names the same variables, takes its own part of the images, and again and again
pulls the parameters, computes a gradient in NumPy and pushes it, without waiting for the other workers.

    shardscope up --ps 2 --workers 3 -- python examples/digits.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import shardscope as ss

Array = npt.NDArray[Any]

DATA = Path(__file__).parent / "data" / "digits.csv.gz"
HELD_OUT = 360
LINES_WITHOUT_TERMINAL = 10


def load_digits() -> tuple[Array, Array, Array, Array]:
    """Returns training images [1437, 64] and digits [1437], then held-out images [360, 64] and digits [360]."""
    table = np.loadtxt(DATA, delimiter=",", dtype=np.float32)
    table = table[np.random.default_rng(0).permutation(len(table))]  # the same split on every worker
    images, digits = table[:, :-1] / 16, table[:, -1].astype(np.int64)
    return images[HELD_OUT:], digits[HELD_OUT:], images[:HELD_OUT], digits[:HELD_OUT]


def dense_layer(name: str, num_inputs: int, num_outputs: int, num_parts: int) -> list[Any]:
    """Names the parameters of a layer; the weights are cut into parts, one for each ps task."""
    with ss.variable_scope(name):
        return [
            ss.get_variable("weights", [num_inputs, num_outputs], partitioner=ss.fixed_size_partitioner(num_parts)),
            ss.get_variable("biases", [num_outputs], initializer=ss.zeros_initializer()),
        ]


def build_model(client: ss.Client, num_hidden: int) -> list[Any]:
    """Names all parameters. On whichever worker comes first they are created, on the others found."""
    num_ps = client.cluster_spec.num_tasks("ps")
    least_loaded = ss.GreedyLoadBalancingStrategy(num_ps, ss.byte_size_load_fn)
    placer = ss.replica_device_setter(cluster=client.cluster_spec, ps_strategy=least_loaded)
    with ss.device(placer), ss.variable_scope("digits"):
        return [*dense_layer("hidden", 64, num_hidden, num_ps), *dense_layer("softmax", num_hidden, 10, num_ps)]


def forward(parameters: Sequence[Array], images: Array) -> tuple[Array, Array]:
    """Returns hidden activations [n, num_hidden] and class probabilities [n, 10]."""
    w1, b1, w2, b2 = parameters
    hidden = np.maximum(images @ w1 + b1, 0)
    scores = hidden @ w2 + b2
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return hidden, exponentials / exponentials.sum(axis=1, keepdims=True)


def gradients(parameters: Sequence[Array], images: Array, digits: Array) -> list[Array]:
    """Gradients of the mean cross-entropy, one for each parameter."""
    hidden, probabilities = forward(parameters, images)
    d_scores = probabilities
    d_scores[np.arange(len(digits)), digits] -= 1
    d_scores /= len(digits)
    d_hidden = (d_scores @ parameters[2].T) * (hidden > 0)
    return [images.T @ d_hidden, d_hidden.sum(axis=0), hidden.T @ d_scores, d_scores.sum(axis=0)]


def accuracy(parameters: Sequence[Array], images: Array, digits: Array) -> float:
    """Part of the images whose digit is recognised."""
    return float((forward(parameters, images)[1].argmax(axis=1) == digits).mean())


def train(client: ss.Client, arguments: argparse.Namespace) -> float:
    """Trains on this worker's part of the images; returns the held-out accuracy of the shared model."""
    images, digits, held_out_images, held_out_digits = load_digits()
    num_workers = max(1, client.num_workers)
    mine = slice(client.task.index, None, num_workers)
    images, digits = images[mine], digits[mine]

    variables = build_model(client, arguments.hidden)
    global_step = ss.get_variable("global_step", [], dtype=np.int64, initializer=ss.zeros_initializer())
    random = np.random.default_rng(client.task.index)
    pulled = client.mirror(variables)
    steps = arguments.epochs * max(1, len(images) // arguments.batch)

    console = Console()
    columns = (TextColumn(str(client.task)), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        for step in progress.track(range(1, steps + 1)):
            rows = random.choice(len(images), arguments.batch, replace=False)
            pulled.pull()
            parameters = pulled.values
            steps_down = [-arguments.rate * g for g in gradients(parameters, images[rows], digits[rows])]
            ss.assign_add_all(zip([*variables, global_step], [*steps_down, 1], strict=True))
            client.report_step(step)
            if not console.is_terminal and step % max(1, steps // LINES_WITHOUT_TERMINAL) == 0:
                part = accuracy(parameters, images, digits)
                print(f"step {step:>5} of {steps}  training accuracy {part:.3f}", flush=True)

    pulled.pull()
    result = accuracy(pulled.values, held_out_images, held_out_digits)
    print(f"held-out accuracy {result:.3f} after {int(global_step)} steps of all workers", flush=True)
    return result


def main() -> int:
    """Returns the exit code: 1 if the model has not become as good as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--epochs", type=int, default=40, help="passes over this worker's images (default: %(default)s)"
    )
    parser.add_argument("--batch", type=int, default=32, help="images in a step (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=0.1, help="learning rate (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=64, help="hidden units (default: %(default)s)")
    parser.add_argument("--min-accuracy", type=float, default=0.0, help="fail below it (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        with ss.connect() as client:
            result = train(client, arguments)
    except ss.errors.ShardscopeError as error:
        print(f"training has failed: {error}", file=sys.stderr)
        return 1
    if result < arguments.min_accuracy:
        print(f"the held-out accuracy is below {arguments.min_accuracy}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
