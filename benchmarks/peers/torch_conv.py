"""Trains a convolutional net by torch alone: one process, PORT RANK NUM_PS NUM_WORKERS WAY NET SECONDS.

The ways:

* ``tutorial``: the parameter server of torch's RPC tutorial. Ps 0 holds the model; a worker calls its ``forward`` over
  RPC, distributed autograd takes the gradients back there, and ``DistributedOptimizer`` makes the step there. The model
  computes on copies of its parameters: torch refuses the gradients of what another worker has changed meanwhile.
* ``gradients``: a parameter server as of torch's tutorial on batched RPC, without its batches: the workers compute. In
  each step a worker asks all ps tasks for their parameters, computes gradients and sends them.
* ``ddp``: DistributedDataParallel over gloo, without a ps.

RPC takes the fastest transport that it has, which on one host is shared memory.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from torch import distributed, nn
from torch.distributed import rpc

from benchmarks.peers.conv_net import BATCH, RATE, WARM_UP, accuracy, conv_net, loss_of, tensors
from benchmarks.peers.training_images import load_images

TIMEOUT_S = 120.0
NET = sys.argv[6]


class Holder:
    """Some of the parameters and their optimizer, or all of a model, on a ps."""

    def __init__(self, layers: list[int]):
        self.lock = threading.Lock()  # guards: the parameters, the optimizer, present
        self.net = conv_net(NET)
        self.parameters = [list(self.net.parameters())[each] for each in layers]
        self.optimizer = torch.optim.SGD(self.parameters, lr=RATE)
        self.present = 0


_holder: list[Holder] = []


def forward(images: torch.Tensor) -> torch.Tensor:
    """Returns scores, computed on the ps."""
    net = _holder[0].net
    found: torch.Tensor = torch.func.functional_call(
        net, {name: each.clone() for name, each in net.named_parameters()}, (images,)
    )
    return found


def parameter_references() -> list[Any]:
    """Returns references to all parameters, for the distributed optimizer."""
    return [rpc.RRef(each) for each in _holder[0].net.parameters()]


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


Step = Callable[[torch.Tensor, torch.Tensor], None]


def by_tutorial() -> tuple[Step, Callable[[], nn.Module]]:
    """Returns a step by the remote model, and what gets a local one with its parameters."""
    from torch.distributed import autograd  # noqa: PLC0415 - DDP does without
    from torch.distributed.optim import DistributedOptimizer  # noqa: PLC0415

    optimizer = DistributedOptimizer(torch.optim.SGD, rpc.rpc_sync("ps0", parameter_references), lr=RATE)

    def one_step(images: torch.Tensor, digits: torch.Tensor) -> None:
        with autograd.context() as context:
            scores = rpc.rpc_sync("ps0", forward, (images,))
            autograd.backward(context, [loss_of(scores, digits)])
            optimizer.step(context)

    def pulled() -> nn.Module:
        net = conv_net(NET)
        with torch.no_grad():
            for own, shared in zip(net.parameters(), rpc.rpc_sync("ps0", read), strict=True):
                own.copy_(shared)
        return net

    return one_step, pulled


def by_gradients(held: list[list[int]]) -> tuple[Step, Callable[[], nn.Module]]:
    """Returns a step by parameters that are read and gradients that are sent, and what gets the model."""
    net, names = conv_net(NET), [f"ps{ps}" for ps in range(len(held))]
    parameters = list(net.parameters())

    def pulled() -> nn.Module:
        answers = [rpc.rpc_async(name, read) for name in names]
        for layers, answer in zip(held, answers, strict=True):
            for layer, tensor in zip(layers, answer.wait(), strict=True):
                parameters[layer].data = tensor
        return net

    def one_step(images: torch.Tensor, digits: torch.Tensor) -> None:
        found = torch.autograd.grad(loss_of(pulled()(images), digits), parameters)
        sent = [
            rpc.rpc_async(name, step, ([found[layer] for layer in layers],))
            for name, layers in zip(names, held, strict=True)
        ]
        for each in sent:
            each.wait()

    return one_step, pulled


def train(index: int, num_workers: int, seconds: float, made: tuple[Step, Callable[[], nn.Module]]) -> None:
    """Trains together with the other workers, once all are there; prints this worker's steps and the accuracy."""
    one_step, pulled = made
    images, digits, held_out_images, held_out_digits = tensors(load_images(), NET)
    random = np.random.default_rng(index)

    def next_step() -> None:
        rows = torch.from_numpy(random.integers(0, len(images), BATCH))
        one_step(images[rows], digits[rows])

    for _ in range(WARM_UP):
        next_step()
    deadline_s = time.monotonic() + TIMEOUT_S
    rpc.rpc_sync("ps0", arrive, (1,))
    while rpc.rpc_sync("ps0", arrive, (0,)) < num_workers:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not all {num_workers} workers have started")
        time.sleep(0.01)
    steps, end_s = 0, time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        next_step()
        steps += 1
    print(steps, accuracy(pulled(), held_out_images, held_out_digits), flush=True)


def train_by_rpc(rank: int, num_ps: int, num_workers: int, way: str, seconds: float) -> None:
    """Holds parameters, or trains."""
    count = len(list(conv_net(NET).parameters()))
    held = [list(range(count))] if way == "tutorial" else [list(range(count))[ps::num_ps] for ps in range(num_ps)]
    is_ps = rank < num_ps
    if is_ps:
        _holder.append(Holder(held[min(rank, len(held) - 1)]))  # by the tutorial all but the first are idle
    name = f"ps{rank}" if is_ps else f"worker{rank - num_ps}"
    options = rpc.TensorPipeRpcBackendOptions(rpc_timeout=TIMEOUT_S)
    rpc.init_rpc(name, rank=rank, world_size=num_ps + num_workers, rpc_backend_options=options)
    if not is_ps:
        train(rank - num_ps, num_workers, seconds, by_tutorial() if way == "tutorial" else by_gradients(held))
    rpc.shutdown()


def train_by_ddp(rank: int, size: int, seconds: float) -> None:
    """Trains, prints its steps and the accuracy, and ends at once."""
    distributed.init_process_group("gloo", rank=rank, world_size=size)
    model = nn.parallel.DistributedDataParallel(conv_net(NET))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    images, digits, held_out_images, held_out_digits = tensors(load_images(), NET)
    random, steps, number = np.random.default_rng(rank), 0, 0

    def end() -> None:
        made = steps
        print(made, accuracy(model.module, held_out_images, held_out_digits), flush=True)
        os._exit(0)

    while True:
        rows = torch.from_numpy(random.integers(0, len(images), BATCH))
        optimizer.zero_grad()
        loss_of(model(images[rows]), digits[rows]).backward()
        optimizer.step()
        number += 1
        if number == WARM_UP:
            threading.Timer(seconds, end).start()
        steps = max(0, number - WARM_UP)


def main() -> None:
    """Is one process."""
    port, (rank, num_ps, num_workers), way, seconds = sys.argv[1], map(int, sys.argv[2:5]), sys.argv[5], sys.argv[7]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    warnings.simplefilter("ignore")  # of torch about its own RPC
    torch.set_num_threads(1)
    if way == "ddp":
        train_by_ddp(rank, num_workers, float(seconds))
    else:
        train_by_rpc(rank, num_ps, num_workers, way, float(seconds))


if __name__ == "__main__":
    main()
