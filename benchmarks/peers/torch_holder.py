"""What the far side of torch's RPC holds and does; both sides import it, so that functions are known by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

_held: dict[str, Any] = {}


def create(elements: int, rows: int, width: int, layers: int, layer: int) -> None:
    """Makes all tensors, of zeros."""
    _held["scalar"] = torch.zeros(())
    _held["vector"] = torch.zeros(elements)
    _held["table"] = torch.zeros(rows, width)
    _held["layers"] = [torch.zeros(layer) for _ in range(layers)]


def read(name: str) -> Any:
    """Returns a tensor, or the list of layers."""
    return _held[name]


def add(name: str, delta: torch.Tensor) -> None:
    """Adds to a tensor."""
    _held[name].add_(delta)


def add_to_layers(deltas: Sequence[torch.Tensor]) -> None:
    """Adds to each layer."""
    for layer, delta in zip(_held["layers"], deltas, strict=True):
        layer.add_(delta)


def gather(indices: torch.Tensor) -> torch.Tensor:
    """Returns rows of the table."""
    rows: torch.Tensor = _held["table"][indices]
    return rows


def scatter(indices: torch.Tensor, rows: torch.Tensor) -> None:
    """Adds to rows of the table; one given twice counts twice."""
    _held["table"].index_add_(0, indices, rows)
