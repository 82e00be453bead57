"""Trains a classifier of handwritten digits on a cluster.

Every worker runs this same script. It names the same variables, takes its own
part of the images, and again and again has autograd compute the gradients of
the loss, pushes them and pulls the parameters, without waiting for the other
workers. The ps tasks make the optimizer's step, beside the parameters. It ends
when all workers together have made the steps, however many of them are its own.

    shardscope up --ps 2 --workers 3 -- python examples/digits.py

With --sync the workers train in rounds, whoever of them is slow, stops or dies,
and at the end it prints what has become of all gradients:

    shardscope up --workers 4 -- python examples/digits.py --sync "sync(3)"

With --checkpoint DIR it goes on from its last step when it was interrupted,
since the cluster counts the steps.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import autograd.numpy as anp
import numpy as np
import numpy.typing as npt
from autograd import grad
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


def build_model(client: ss.Client, num_hidden: int, num_pixels: int = 64) -> list[Any]:
    """Names all parameters. On whichever worker comes first they are created, on the others found."""
    num_ps = client.cluster_spec.num_tasks("ps")
    least_loaded = ss.GreedyLoadBalancingStrategy(num_ps, ss.byte_size_load_fn)
    placer = ss.replica_device_setter(cluster=client.cluster_spec, ps_strategy=least_loaded)
    with ss.device(placer), ss.variable_scope("digits"):
        return [*dense_layer("hidden", num_pixels, num_hidden, num_ps), *dense_layer("softmax", num_hidden, 10, num_ps)]


def scores(parameters: Sequence[Array], images: Array) -> Array:
    """Returns a score for each digit, [n, 10]: the highest one is what the model sees."""
    w1, b1, w2, b2 = parameters
    hidden = anp.maximum(anp.dot(images, w1) + b1, 0)
    return anp.dot(hidden, w2) + b2  # type: ignore[no-any-return]


def loss(parameters: Sequence[Array], images: Array, digits: Array) -> Any:
    """Returns the mean cross-entropy."""
    found = scores(parameters, images)
    found = found - anp.max(found, axis=1, keepdims=True)
    log_probabilities = found - anp.log(anp.sum(anp.exp(found), axis=1, keepdims=True))
    return -anp.mean(log_probabilities[anp.arange(len(digits)), digits])


gradients = grad(loss)
"""Takes what ``loss`` does; returns its gradients, one for each parameter."""


def accuracy(parameters: Sequence[Array], images: Array, digits: Array) -> float:
    """Part of the images whose digit is recognised."""
    return float((scores(parameters, images).argmax(axis=1) == digits).mean())


def train(client: ss.Client, arguments: argparse.Namespace) -> float:
    """Trains on this worker's part of the images; returns the held-out accuracy of the shared model."""
    images, digits, held_out_images, held_out_digits = load_digits()
    steps = arguments.epochs * max(1, len(images) // arguments.batch)
    mine = slice(client.task.index, None, max(1, client.num_workers))
    images, digits = images[mine], digits[mine]

    variables = build_model(client, arguments.hidden)
    global_step = ss.get_variable("global_step", [], dtype=np.int64, initializer=ss.zeros_initializer())
    optimizer = ss.train.Momentum(learning_rate=arguments.rate, momentum=0.9, sync=arguments.sync)
    random = np.random.default_rng(client.task.index)
    pulled = client.mirror([*variables, global_step])
    *parameters, steps_made = pulled.values  # always the same arrays, which each step pulls anew
    if arguments.sync:
        optimizer.join(variables, global_step=global_step, pull=pulled)  # others may have trained for a while

    console = Console()
    columns = (TextColumn(str(client.task)), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    every = max(1, steps // LINES_WITHOUT_TERMINAL)
    next_line, my_steps = every, 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=steps)
        while steps_made < steps:
            rows = random.choice(len(images), arguments.batch, replace=False)
            found = gradients(parameters, images[rows], digits[rows])
            optimizer.apply_gradients(zip(found, variables, strict=True), global_step=global_step, pull=pulled)
            my_steps += 1
            client.report_step(my_steps)
            progress.update(bar, completed=min(int(steps_made), steps))
            if not console.is_terminal and steps_made >= next_line:
                next_line = int(steps_made) + every
                part = accuracy(parameters, images, digits)
                print(f"step {int(steps_made):>5} of {steps}  training accuracy {part:.3f}", flush=True)

    pulled.pull()
    result = accuracy(parameters, held_out_images, held_out_digits)
    print(f"held-out accuracy {result:.3f} after {int(steps_made)} steps of all workers", flush=True)
    if arguments.sync:
        report = client.finish_together(optimizer.name)
        if report.first_finished == str(client.task):  # one table is enough
            print(f"{report.policy}: {report.round} rounds\n{report}", flush=True)
    return result


def main() -> int:
    """Returns the exit code: 1 if the model has not become as good as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--epochs", type=int, default=45, help="passes over the images, of all workers together (default: %(default)s)"
    )
    parser.add_argument("--batch", type=int, default=64, help="images in a step (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=0.03, help="learning rate (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=64, help="hidden units (default: %(default)s)")
    parser.add_argument(
        "--sync", help="how workers train together: bsp, ssp(3), sync(3), local(4), async (default: each alone)"
    )
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
