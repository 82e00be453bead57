"""Trains the digits by torch's DistributedDataParallel over gloo: one process, PORT RANK SIZE STEP_SECONDS SECONDS."""

import os
import sys
import threading
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from benchmarks.peers.digits_graph import BATCH, HIDDEN, RATE, WARM_UP
from benchmarks.peers.training_images import load_images, num_pixels


def main() -> None:
    """Trains, prints its steps and the accuracy, and ends at once."""
    port, (rank, size), (step_s, seconds) = sys.argv[1], map(int, sys.argv[2:4]), map(float, sys.argv[4:6])
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    torch.set_num_threads(1)
    torch.manual_seed(1)
    distributed.init_process_group("gloo", rank=rank, world_size=size)
    layers = [torch.nn.Linear(num_pixels(), HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 10)]
    model = DistributedDataParallel(torch.nn.Sequential(*layers))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    images, digits, held_out_images, held_out_digits = map(torch.from_numpy, load_images())
    random = np.random.default_rng(rank)
    steps = 0

    def end() -> None:
        made = steps
        with torch.no_grad():
            found = model.module(held_out_images).argmax(dim=1)
        print(made, float((found == held_out_digits).float().mean()), flush=True)
        os._exit(0)

    number = 0
    while True:
        time.sleep(step_s)
        rows = torch.from_numpy(random.integers(0, len(images), BATCH))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images[rows]), digits[rows]).backward()
        optimizer.step()
        number += 1
        if number == WARM_UP:
            threading.Timer(seconds, end).start()
        steps = max(0, number - WARM_UP)


main()
