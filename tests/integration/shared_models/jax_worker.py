"""A worker that trains a pytree of JAX, and says of each step which round it was in.

``python -m tests.integration.shared_models.jax_worker --steps 10 --sync bsp``, with its place in the environment.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

import shardscope as ss
from tests.integration.shared_models.torch_kinds import Applied
from tests.unit.worker_client.adapters.trees import Array, flat, gradients, params

RATE: Final = 0.25


@jax.jit
@jax.grad
def gradients_of(tree: Any, targets: Any) -> Any:
    """Those of half the squared distance from targets, which a batch consists of."""
    distances = jax.tree.map(lambda each, target: jnp.sum((each - target) ** 2), tree, targets)
    return sum(jax.tree.leaves(distances)) / 2


def targets(worker: int, number: int) -> Any:
    """The batch of a worker in a step."""
    return gradients(worker, number)


def alone(steps: Sequence[Applied]) -> dict[str, Array]:
    """What one process comes to with the same batches in the same rounds."""
    found = {name: array.astype(np.float64) for name, array in flat(params()).items()}
    for number in sorted({each.round for each in steps}):
        batches = [flat(targets(each.worker, each.number)) for each in steps if each.round == number]
        for name, value in found.items():
            found[name] = value - RATE * (value - np.mean([each[name].astype(np.float64) for each in batches], axis=0))
    return found


def main() -> None:
    """Makes its steps."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--sync")
    parser.add_argument("--overlap", action="store_true")
    parser.add_argument("--die-at", type=int, default=-1)
    given = parser.parse_args()
    with ss.connect() as client:
        sgd = ss.train.GradientDescent(RATE)
        shared = ss.jax.share(params(), "net", optimizer=sgd, sync=given.sync, overlap=given.overlap)
        worker = client.task.index
        for number in range(given.first, given.first + given.steps):
            found = gradients_of(shared.pull(), targets(worker, number))
            if number == given.die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            applied = shared.push(found)
            said = f"{applied[0].verdict} {worker} {number} {applied[0].round}" if applied else "sent"
            sys.stdout.write(f"step {said}\n")
            sys.stdout.flush()
        shared.close()


if __name__ == "__main__":
    main()
