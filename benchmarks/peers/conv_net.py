"""The small convolutional net that the adapters' benchmark trains, for its peers too, and the sizes of a larger one."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

BATCH: Final = 32
RATE: Final = 0.05
WARM_UP: Final = 20


NETS: Final = ("small", "mnist")
"""A net for images of 8 x 8 pixels, and the one of torch's own examples, for 28 x 28."""


def conv_net(name: str) -> nn.Sequential:
    """Returns a net, with the same values in every process: of 38,282 parameters, or of 1,199,882."""
    torch.manual_seed(1)
    if name == "small":
        return nn.Sequential(
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
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(9216, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def loss_of(scores: torch.Tensor, digits: torch.Tensor) -> torch.Tensor:
    """Returns the mean cross-entropy."""
    return nn.functional.cross_entropy(scores, digits)


def tensors(data: Any, name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns training images and digits, then held-out ones, for a net, of what ``load_images`` returns."""
    images, digits, held_out_images, held_out_digits = map(torch.from_numpy, data)
    return _pictures(images, name), digits, _pictures(held_out_images, name), held_out_digits


def _pictures(images: torch.Tensor, name: str) -> torch.Tensor:
    pictures = images.reshape(-1, 1, 8, 8)
    return pictures if name == "small" else nn.functional.interpolate(pictures, size=(28, 28))


def accuracy(net: nn.Module, images: torch.Tensor, digits: torch.Tensor) -> float:
    """Part of the images whose digit is recognised."""
    with torch.no_grad():
        return float((net(images).argmax(dim=1) == digits).float().mean())


def resnet18_shapes() -> list[tuple[int, ...]]:
    """Shapes of the 62 parameters of ResNet-18 for 1,000 classes, 46.8 MB of float32, as torchvision has them."""
    shapes: list[tuple[int, ...]] = [(64, 3, 7, 7), (64,), (64,)]
    before = 64
    for channels in (64, 128, 256, 512):
        for block in range(2):
            shapes += [(channels, before, 3, 3), (channels,), (channels,)]
            shapes += [(channels, channels, 3, 3), (channels,), (channels,)]
            if block == 0 and before != channels:
                shapes += [(channels, before, 1, 1), (channels,), (channels,)]
            before = channels
    return [*shapes, (1000, 512), (1000,)]
