"""Measures gradients of the digits model: by hand, traced by autograd in each step, and as a graph that a session runs.

CPU time of one thread, all in one process and in turns, so that the ratios are comparable. "session" computes the
forward pass and the gradients in a session whose parameters are fed, so that no exchange counts; "rules" calls the
functions of all operations in their order, so that the difference is what running a graph costs.

    python -m benchmarks.graph_gradients
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import worker_client.compat.v1 as tf
from benchmarks import digits_by_hand
from examples import digits
from worker_client.graph.computation import Constant, Kernel


class GraphModel:
    """The same in a graph, and the session that runs it.

    Args:
        parameters: Values of the parameters.
        images: Shape ``[batch, 64]``.
        labels: Shape ``[batch]``.
    """

    def __init__(self, parameters: Sequence[Any], images: Any, labels: Any):
        with tf.Graph().as_default() as graph:
            given = [tf.placeholder(tf.float32, each.shape) for each in parameters]
            x, y = tf.placeholder(tf.float32, [None, 64]), tf.placeholder(tf.int64, [None])
            w1, b1, w2, b2 = given
            hidden = tf.nn.relu(tf.matmul(x, w1) + b1)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=tf.matmul(hidden, w2) + b2)
            self.gradients = tf.gradients(tf.reduce_mean(losses), given)
            self._session = tf.Session(graph=graph)
        self._feeds = dict(zip([*given, x, y], [*parameters, images, labels], strict=True))
        self._graph = graph

    def run(self) -> Any:
        """Returns the gradients."""
        return self._session.run(self.gradients, self._feeds)

    def rules(self) -> Callable[[], Any]:
        """Returns a function that computes everything without a session."""
        known: dict[Any, Any] = dict(self._feeds)
        steps: list[tuple[Callable[..., Any], Any, Any]] = []
        for operation in self._graph.get_operations():
            if isinstance(operation.computation, Constant):
                known[operation.outputs[0]] = operation.computation.value
            elif isinstance(operation.computation, Kernel):
                steps.append((operation.computation.function, operation.operands, operation.outputs[0]))

        def run() -> Any:
            values = dict(known)
            for function, operands, output in steps:
                values[output] = function(*[values[each] for each in operands])
            return [values[each] for each in self.gradients]

        return run


def microseconds(function: Callable[[], Any], repeats: int, steps: int) -> list[float]:
    """Returns the CPU time of one call, measured several times."""
    found = []
    for _ in range(repeats):
        start = time.thread_time()
        for _ in range(steps):
            function()
        found.append((time.thread_time() - start) / steps * 1e6)
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    shapes = [(64, arguments.hidden), (arguments.hidden,), (arguments.hidden, 10), (10,)]
    parameters = [random.normal(0, 0.1, shape).astype(np.float32) for shape in shapes]
    images = random.random((arguments.batch, 64)).astype(np.float32)
    labels = random.integers(0, 10, arguments.batch)
    model = GraphModel(parameters, images, labels)
    ways: dict[str, Callable[[], Any]] = {
        "by hand": lambda: digits_by_hand.gradients(parameters, images, labels),
        "autograd, traced": lambda: digits.gradients(parameters, images, labels),
        "rules": model.rules(),
        "session": model.run,
    }
    expected = ways["by hand"]()
    for name, way in ways.items():
        for one, other in zip(expected, way(), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6, err_msg=name)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            times[name] += microseconds(way, 1, arguments.steps)
    base = statistics.median(times["by hand"])
    for name, found in times.items():
        median = statistics.median(found)
        print(f"{name:18} {median:8.1f} us   {median / base:6.2f} x")


if __name__ == "__main__":
    main()
