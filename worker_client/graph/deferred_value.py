"""What stands for a tensor: tensors themselves, deferred variables, and partitioned ones."""

from __future__ import annotations

from typing import Any


class DeferredValue:
    """Something whose value is known only when a session runs its tensor."""

    __slots__ = ()

    def as_graph_tensor(self) -> Any:
        """Returns the tensor that it stands for, of type ``Tensor``."""
        raise NotImplementedError
