"""A model with a parameter of every kind, batches that follow from a worker and a step, and training by one process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import nn

RATE: Final = 0.1
SIXTEEN_BITS: Final = (torch.float16, torch.bfloat16)


class Applied(NamedTuple):
    """What a worker says of a step.

    Attributes:
        worker: Which.
        number: Of its step, which its batch follows from.
        round: Of the group, that its gradient is in.
    """

    worker: int
    number: int
    round: int


class EveryKind(nn.Module):
    """Contiguous and not, of every dtype that trains, tied, by rows, frozen, unused, scalar, normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        self.embed = nn.Embedding(6, 4)
        self.tied = nn.Linear(4, 6, bias=False)
        self.tied.weight = self.embed.weight
        self.rows = nn.Embedding(8, 3, sparse=True)
        self.transposed = nn.Linear(3, 4)
        self.transposed.weight = nn.Parameter(torch.randn(3, 4).t())
        self.conv = nn.Conv2d(2, 3, 3)
        self.conv.to(memory_format=torch.channels_last)
        self.double_layer = nn.Linear(3, 2, dtype=torch.float64)
        self.half_layer = nn.Linear(3, 2, dtype=torch.float16)
        self.bfloat_layer = nn.Linear(3, 2, dtype=torch.bfloat16)
        self.scale = nn.Parameter(torch.ones(()))
        self.norm = nn.BatchNorm1d(3)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.unused = nn.Linear(3, 3)

    def forward(self, draw: torch.Generator) -> torch.Tensor:
        """Returns a loss that every parameter but ``unused`` has a part in, of a batch that is drawn."""
        x = self.norm(torch.randn(6, 3, generator=draw)) * self.scale + self.frozen(torch.ones(3))
        # What is rounded to 16 bits is kept from the others.
        ids = torch.randint(0, 6, (5,), generator=draw)
        images = torch.randn(2, 2, 4, 4, generator=draw)
        outputs = [
            self.dense(x),
            self.tied(self.embed(ids)),
            self.rows(torch.cat([ids, ids[:2]])),
            self.transposed(x),
            self.conv(images),
            self.double_layer(x.double()),
            self.half_layer(x.detach().half()),
            self.bfloat_layer(x.detach().bfloat16()),
        ]
        return torch.stack([each.float().square().mean() for each in outputs]).sum()


def new_model() -> EveryKind:
    """The same one each time."""
    torch.manual_seed(0)
    return EveryKind()


def loss_of(model: nn.Module, worker: int, number: int) -> torch.Tensor:
    """The loss of a model on the batch of a worker in one of its steps."""
    loss: torch.Tensor = model(torch.Generator().manual_seed(1000 * worker + number))
    return loss


def alone(steps: Sequence[Applied]) -> dict[str, torch.Tensor]:
    """Returns the state that one process comes to with the same batches: a round is the step with their mean."""
    model = new_model()
    for number in sorted({each.round for each in steps}):
        of_round = [each for each in steps if each.round == number]
        sums = [torch.zeros_like(each, dtype=torch.float64) for each in model.parameters()]
        for each in of_round:
            model.zero_grad()
            loss_of(model, each.worker, each.number).backward()
            for total, parameter in zip(sums, model.parameters(), strict=True):
                if parameter.grad is not None:
                    total.add_(parameter.grad.to_dense())
        with torch.no_grad():
            for total, parameter in zip(sums, model.parameters(), strict=True):
                parameter.copy_(parameter.double() - RATE * total / len(of_round))
    state: dict[str, torch.Tensor] = model.state_dict()
    return state
