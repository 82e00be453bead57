"""A model that workers train together, their gradients, and what one worker with all their batches comes to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import worker_client as ss
from ps_protocol.optimizer_rules import RULES
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from worker_client.client import Client
from worker_client.optimizers import rules
from worker_client.optimizers.optimizer import Optimizer
from worker_client.optimizers.outcomes import Applied
from worker_client.values.conversion import IndexedSlices

NUM_STEPS = 4
Array = npt.NDArray[Any]
Make = Callable[..., Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda **more: ss.train.GradientDescent(0.25, **more),
    "momentum": lambda **more: ss.train.Momentum(0.25, 0.5, **more),
    "adam": lambda **more: ss.train.Adam(0.25, **more),
    "lazy adam": lambda **more: ss.train.Adam(0.25, sparse="lazy", **more),
}


def every_optimizer() -> dict[str, Make]:
    """Each optimizer with each of the things that it can do to rows that have no gradient."""
    made: dict[str, Make] = {}
    for each in vars(rules).values():
        if isinstance(each, type) and issubclass(each, Optimizer) and each is not Optimizer:
            make: Make = functools.partial(each, momentum=0.5) if each is rules.Momentum else each
            for mode in RULES[make(0.125).spec.function].sparse_modes:
                made[f"{each.__name__} {mode}"] = functools.partial(make, 0.125, sparse=mode)
    return made


class Worker:
    """One worker with the model of all: a matrix, a table that is divided over the ps tasks, and a bias.

    Args:
        client: Its connection.
        optimizer: Of all workers.
    """

    def __init__(self, client: Client, optimizer: Optimizer):
        self.client, self.optimizer = client, optimizer
        with client.as_default():
            ones = ss.ones_initializer()
            self.matrix = ss.get_variable("matrix", [5, 3], initializer=ones)
            self.table = ss.get_variable("table", [9, 2], initializer=ones, partitioner=ss.fixed_size_partitioner(2))
            self.bias = ss.get_variable("bias", [3], initializer=ones)
        self.variables = [self.matrix, self.table, self.bias]
        self.mirror = client.mirror(self.variables)

    def step(self, gradients: Sequence[Any], **more: Any) -> Applied:
        pairs = list(zip(gradients, self.variables, strict=True))
        applied = self.optimizer.apply_gradients(pairs, pull=self.mirror, **more)
        assert self.optimizer.sync is None or len(set(applied)) == 1
        return applied[0]

    def values(self) -> list[Array]:
        return [np.array(each.read_value()) for each in self.variables]


def gradients(index: int, number: int) -> list[Any]:
    """Those of a worker in a step: rows of the table, one of them twice."""
    draw = np.random.default_rng([index, number])
    rows = np.array([number % 9, 4, (index + 5) % 9, 4])
    return [
        draw.standard_normal((5, 3)).astype(np.float32),
        IndexedSlices(draw.standard_normal((4, 2)).astype(np.float32), rows),
        draw.standard_normal(3).astype(np.float32),
    ]


def mean_of(all_gradients: Sequence[Sequence[Any]]) -> list[Any]:
    """The gradient of one worker that has the batches of all."""
    matrices, tables, biases = zip(*all_gradients, strict=True)
    rows = np.concatenate([each.indices for each in tables])
    values = np.concatenate([each.values for each in tables]) / len(tables)
    return [np.mean(matrices, 0), IndexedSlices(values, rows), np.mean(biases, 0)]


def alone(make: Make, num_workers: int, num_steps: int = NUM_STEPS) -> list[Array]:
    """What one worker with the batches of all comes to."""
    with SmallCluster(2) as cluster:
        worker = Worker(cluster.client(), make())
        for number in range(num_steps):
            worker.step(mean_of([gradients(index, number) for index in range(num_workers)]))
        return worker.values()
