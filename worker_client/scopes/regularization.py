"""The losses that keep variables small, and where they are collected."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.mixins import NDArrayOperatorsMixin

from ps_protocol.operations import Array
from worker_client.graph.definition import Regularizer
from worker_client.graph.graph import Graph
from worker_client.graph.keys import GraphKeys
from worker_client.graph.operation import operation_of


class RegularizationLoss(NDArrayOperatorsMixin):
    """The regularization loss of a variable outside of a deferred graph: computed, from the present value, when asked.

    Called, in arithmetic or taken for an array, it gives the loss; 0 if the regularizer makes none.

    Attributes:
        variable: The variable.
        name: Name of the loss.
    """

    def __init__(self, variable: Any, regularizer: Regularizer, name: str):
        self.variable = variable
        self.name = name
        self._regularizer = regularizer

    def __call__(self) -> Array:
        loss = self._regularizer(self.variable)
        return np.asarray(0.0 if loss is None else loss)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError(f"the loss {self.name} is computed each time: an array of it is always a copy")
        return np.array(self(), dtype=dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        arrays = [each() if isinstance(each, RegularizationLoss) else each for each in inputs]
        return getattr(ufunc, method)(*arrays, **kwargs)

    def __float__(self) -> float:
        return float(self())

    def __repr__(self) -> str:
        return f"<RegularizationLoss {self.name!r}>"


def add_regularization_loss(graph: Graph, key: str, variable: Any, regularizer: Regularizer) -> Any:
    """Collects the loss of a variable that was just made.

    Args:
        graph: Graph of the variable.
        key: Full name under which the variable was asked for.
        variable: The variable.
        regularizer: Makes the loss. In a deferred graph it is called twice, as in TensorFlow: once to see whether there
            is a loss, and once to make it beside the variable, in a name scope of its own.

    Returns:
        The loss, None if there is none.
    """
    loss: Any = None
    if not graph.deferred:
        loss = RegularizationLoss(variable, regularizer, f"{key}/Regularizer")
    elif regularizer(variable) is not None:
        with graph.colocate_with(operation_of(variable)), graph.name_scope(f"{key}/Regularizer/"):
            loss = regularizer(variable)
    if loss is not None:
        graph.add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)
    return loss
