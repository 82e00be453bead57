"""The small convolutional net that the adapters' benchmark trains, for the environments of its peers too."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

BATCH: Final = 32
RATE: Final = 0.05
WARM_UP: Final = 20


def conv_net() -> nn.Sequential:
    """Returns the net, with the same values in every process: 38,282 parameters, for images of 8 x 8 pixels."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def loss_of(scores: torch.Tensor, digits: torch.Tensor) -> torch.Tensor:
    """Returns the mean cross-entropy."""
    return nn.functional.cross_entropy(scores, digits)


def tensors(data: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns training images [n, 8, 8] and digits, then held-out ones, of what ``load_images`` returns."""
    images, digits, held_out_images, held_out_digits = map(torch.from_numpy, data)
    return images.reshape(-1, 8, 8), digits, held_out_images.reshape(-1, 8, 8), held_out_digits


def accuracy(net: nn.Module, images: torch.Tensor, digits: torch.Tensor) -> float:
    """Part of the images whose digit is recognised."""
    with torch.no_grad():
        return float((net(images).argmax(dim=1) == digits).float().mean())
