"""Programs whose DataLoader has worker processes, forked and spawned, beside a model that is shared.

``python -m tests.integration.shared_models.loader_programs MODE METHOD ADDRESSES``
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import shardscope as ss

SHARED: list[ss.torch.SharedModule] = []
"""What a dataset of a forked process finds, since it has a copy of all."""


class Plain(Dataset[Any]):
    """Draws samples, and knows nothing of the model."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full((3,), index / 24), torch.tensor([index / 24])


class Asking(Plain):
    """Asks the cluster for values in the processes that draw samples, by the parent's connection."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        SHARED[0].pull()
        return super().__getitem__(index)


class Holding(Plain):
    """Holds the model, which cannot go to another process."""

    def __init__(self) -> None:
        self.shared = SHARED[0]


DATASETS: dict[str, type[Plain]] = {"plain": Plain, "asking": Asking, "holding": Holding}


def main(mode: str, method: str, addresses: str) -> None:
    """Trains for two epochs, and prints the steps that the cluster has counted, or the error."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    with ss.connect(addresses) as client:
        shared = ss.torch.share(model, "net", optimizer=ss.train.GradientDescent(0.1))
        SHARED.append(shared)
        loader = DataLoader(DATASETS[mode](), batch_size=6, num_workers=2, multiprocessing_context=method, timeout=60)
        try:
            losses = []
            for _ in range(2):
                for x, y in loader:
                    shared.pull()
                    loss = (model(x) - y).square().mean()
                    loss.backward()
                    shared.step()
                    losses.append(loss.item())
        except (ss.errors.ShardscopeError, TypeError) as error:
            sys.stdout.write(f"{type(error).__name__}: {error}\n")
        else:
            sys.stdout.write(f"{client.variable('net/weight').version} steps, better: {losses[-1] < losses[0]}\n")
        shared.pull()  # the parent's connection works as before


if __name__ == "__main__":
    main(*sys.argv[1:])
