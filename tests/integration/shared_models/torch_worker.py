"""A worker that trains the model with every kind of parameter, and says of each step which round it was in.

``python -m tests.integration.shared_models.torch_worker --steps 10 --sync bsp``, with its place in the environment.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

import torch

import shardscope as ss
from tests.integration.shared_models.torch_kinds import RATE, loss_of, new_model


def main() -> None:
    """Makes its steps."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cluster", nargs="?")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--sync")
    parser.add_argument("--buffers", default="local")
    parser.add_argument("--overlap", action="store_true")
    parser.add_argument("--die-at", type=int, default=-1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = new_model()
    with ss.connect(given.cluster) as client:
        sgd = ss.train.GradientDescent(RATE)
        shared = ss.torch.share(
            model, "net", optimizer=sgd, sync=given.sync, buffers=given.buffers, overlap=given.overlap
        )
        worker = client.task.index
        for number in range(given.first, given.first + given.steps):
            shared.pull()
            loss_of(model, worker, number).backward()
            if number == given.die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            applied = shared.step()
            said = f"{applied[0].verdict} {worker} {number} {applied[0].round}" if applied else "sent"
            sys.stdout.write(f"step {said}\n")
            sys.stdout.flush()
        shared.close()


if __name__ == "__main__":
    main()
