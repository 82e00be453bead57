"""Trains the digits by torch's RPC: one process, PORT RANK NUM_PS NUM_WORKERS RULE SECONDS.

This is its parameter-server pattern. The ps tasks, which have the first ranks, hold the parameters and torch's
optimizers of them. In each step a worker asks all of them for their parameters at once, computes gradients by torch's
autograd, and sends them. All is confined to TCP.
"""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from torch.distributed import rpc

from benchmarks.peers.digits_graph import ADAM_RATE, BATCH, HIDDEN, RATE, WARM_UP
from benchmarks.peers.training_images import load_images, num_pixels

TIMEOUT_S = 120.0
SHAPES = ((num_pixels(), HIDDEN), (HIDDEN,), (HIDDEN, 10), (10,))


class Holder:
    """Parameters and their optimizer, on a ps."""

    def __init__(self, rule: str, layers: list[int]):
        self.lock = threading.Lock()  # guards: the parameters, the optimizer, present
        generator = torch.Generator().manual_seed(1)
        starts = [torch.randn(shape, generator=generator) * (len(shape) - 1) * 0.1 for shape in SHAPES]
        self.parameters = [torch.nn.Parameter(starts[each]) for each in layers]
        adam = rule == "adam"
        self.optimizer: Any = (
            torch.optim.Adam(self.parameters, lr=ADAM_RATE) if adam else torch.optim.SGD(self.parameters, lr=RATE)
        )
        self.present = 0


_holder: list[Holder] = []


def read() -> list[torch.Tensor]:
    """Returns the parameters that this ps holds."""
    with _holder[0].lock:
        return [each.detach().clone() for each in _holder[0].parameters]


def step(gradients: list[torch.Tensor]) -> None:
    """Has the optimizer make a step."""
    holder = _holder[0]
    with holder.lock:
        for parameter, gradient in zip(holder.parameters, gradients, strict=True):
            parameter.grad = gradient
        holder.optimizer.step()


def arrive(count: int) -> int:
    """Counts workers that are ready; returns how many are."""
    with _holder[0].lock:
        _holder[0].present += count
        return _holder[0].present


def scores(parameters: list[torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """As ``examples.digits.scores``."""
    w1, b1, w2, b2 = parameters
    return torch.relu(images @ w1 + b1) @ w2 + b2


def train(index: int, held: list[list[int]], num_workers: int, seconds: float) -> tuple[int, float]:
    """Trains together with the other workers, once all are there; returns this worker's steps and the accuracy."""
    images, digits, held_out_images, held_out_digits = map(torch.from_numpy, load_images())
    random = np.random.default_rng(index)
    names = [f"ps{ps}" for ps in range(len(held))]

    def pulled() -> list[torch.Tensor]:
        answers = [rpc.rpc_async(name, read) for name in names]
        found: list[Any] = [None] * len(SHAPES)
        for layers, answer in zip(held, answers, strict=True):
            for layer, tensor in zip(layers, answer.wait(), strict=True):
                found[layer] = tensor
        return found

    def one_step() -> None:
        rows = torch.from_numpy(random.integers(0, len(images), BATCH))
        parameters = [each.requires_grad_() for each in pulled()]
        loss = torch.nn.functional.cross_entropy(scores(parameters, images[rows]), digits[rows])
        gradients = torch.autograd.grad(loss, parameters)
        sent = [
            rpc.rpc_async(name, step, ([gradients[layer] for layer in layers],))
            for name, layers in zip(names, held, strict=True)
        ]
        for each in sent:
            each.wait()

    for _ in range(WARM_UP):
        one_step()
    deadline_s = time.monotonic() + TIMEOUT_S
    rpc.rpc_sync("ps0", arrive, (1,))
    while rpc.rpc_sync("ps0", arrive, (0,)) < num_workers:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not all {num_workers} workers have started")
        time.sleep(0.01)
    steps, end_s = 0, time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        one_step()
        steps += 1
    found = scores(pulled(), held_out_images).argmax(dim=1)
    return steps, float((found == held_out_digits).float().mean())


def main() -> None:
    """Holds parameters, or trains and prints the steps and the accuracy."""
    port, (rank, num_ps, num_workers), rule, seconds = sys.argv[1], map(int, sys.argv[2:5]), *sys.argv[5:7]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    torch.set_num_threads(1)
    held = [list(range(len(SHAPES)))[ps::num_ps] for ps in range(num_ps)]
    is_ps = rank < num_ps
    if is_ps:
        _holder.append(Holder(rule, held[rank]))
    tcp: dict[str, Any] = {"_transports": ["uv"], "_channels": ["basic"]}
    options = rpc.TensorPipeRpcBackendOptions(rpc_timeout=TIMEOUT_S, **tcp)
    name = f"ps{rank}" if is_ps else f"worker{rank - num_ps}"
    rpc.init_rpc(name, rank=rank, world_size=num_ps + num_workers, rpc_backend_options=options)
    if not is_ps:
        print(*train(rank - num_ps, held, num_workers, float(seconds)), flush=True)
    rpc.shutdown()


main()
