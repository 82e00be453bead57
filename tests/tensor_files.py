"""Tensors for the tests of files that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ps_protocol.operations import Array
from ps_protocol.tensor_files.stored_tensor import Part, StoredTensor


class InMemory:
    """The values of an array."""

    def __init__(self, array: Array):
        self._array = array

    def check_size(self) -> None:
        pass

    def verify(self) -> None:
        pass

    def read_into(self, target: Array, first_row: int) -> None:
        target[...] = self._array[first_row : first_row + len(target)] if target.ndim else self._array


def in_memory(arrays: Mapping[str, Any]) -> dict[str, StoredTensor]:
    """Returns arrays as tensors of a checkpoint; of objects as text."""
    return {name: tensor_of(name, np.asarray(each)) for name, each in arrays.items()}


def tensor_of(name: str, array: Array, parts: int = 1) -> StoredTensor:
    """Returns an array as a tensor that was saved in parts, cut along its first axis."""
    rows = np.array_split(np.arange(len(array)), parts) if array.ndim else []
    pieces = [(int(some[0]), array[some[0] : some[-1] + 1]) for some in rows if len(some)]
    made = [Part((first, *[0] * (array.ndim - 1)), piece.shape, InMemory(piece)) for first, piece in pieces]
    whole = Part((0,) * array.ndim, array.shape, InMemory(array))
    kind = "string" if array.dtype == object else ""
    return StoredTensor(name, array.dtype, array.shape, made if len(made) > 1 else [whole], dtype_name=kind)
