"""What scopes, naming and placement have decided about a variable that is about to be made."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ps_protocol.operations import PartitionSlice
from worker_client.graph.graph import Graph
from worker_client.graph.keys import GraphKeys
from worker_client.graph.operation import Operation
from worker_client.values.shapes import TensorShape


class VariableSynchronization(enum.Enum):
    """When the copies of a variable are brought together. Only ``ON_READ`` has an effect here.

    A variable with ``ON_READ`` is not trainable unless that is asked for.
    """

    AUTO = 0
    NONE = 1
    ON_WRITE = 2
    ON_READ = 3


class VariableAggregation(enum.Enum):
    """How the values of copies are combined; kept for code that asks."""

    NONE = 0
    SUM = 1
    MEAN = 2
    ONLY_FIRST_REPLICA = 3
    ONLY_FIRST_TOWER = 3  # noqa: PIE796 - that is what it is
    """Older name of ``ONLY_FIRST_REPLICA``."""


Regularizer: TypeAlias = Callable[[Any], Any]
"""Makes a loss of a variable, or None for none."""

Constraint: TypeAlias = Callable[[Any], Any]
"""Takes the value that an optimizer has given a variable, and returns the one that it may have."""


@dataclass(slots=True, kw_only=True, eq=False)  # not frozen, which takes three times as long to make with all these
class VariableDefinition:
    """A variable that is about to be made. Not changed once it is.

    Attributes:
        name: Full name, unique in the graph, without ":0".
        key: Full name under which ``get_variable`` finds it again, which differs from ``name`` where an operation had
            taken that; None if it does not find it.
        dtype: Type of the value.
        shape: Shape of the first value, as it is declared, all sizes known.
        static_shape: What is known of the shape of all values, if that is less.
        initializer: An ``Initializer``, or in a deferred graph a deferred tensor.
        initial_value: In a deferred graph the tensor that stands for the value: the initializer itself, or one that has
            what a ps makes by it.
        trainable: Whether optimizers are meant to update it.
        collections: Keys of the collections that it goes into.
        device: Where scopes place it, as "/job:ps/task:1"; "" if none does.
        slice: Place in the whole, of a part of a partitioned variable.
        constraint: Applied to the value after an optimizer has updated it.
        regularizer: Makes its loss.
        caching_device: Where a local copy is kept, if one is asked for.
        validate_shape: Whether an assigned value must have the shape.
        synchronization: When copies are brought together.
        aggregation: How they are.
        name_scope: The name scope of what belongs to the variable: its name and a slash.
        op: The operation that stands for it in the graph.
        graph: The graph it belongs to.
    """

    name: str
    key: str | None
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    initializer: Any
    initial_value: Any
    trainable: bool
    collections: tuple[str, ...]
    device: str
    slice: PartitionSlice | None
    constraint: Constraint | None
    regularizer: Regularizer | None
    caching_device: Any
    validate_shape: bool
    synchronization: VariableSynchronization
    aggregation: VariableAggregation
    name_scope: str
    op: Operation
    graph: Graph
    static_shape: TensorShape | None = None

    @property
    def is_local(self) -> bool:
        """Whether it lives in this process, being in ``LOCAL_VARIABLES``, even where a device scope names a ps task."""
        return GraphKeys.LOCAL_VARIABLES in self.collections
