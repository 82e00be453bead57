"""What one call of ``get_variable`` asks for, once the defaults of its scope are filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ps_protocol.operations import PartitionSlice
from worker_client.scope_arguments import Initializer, Partitioner, Reuse
from worker_client.tensor_shape import TensorShape
from worker_client.variable_definition import (
    Constraint,
    Regularizer,
    VariableAggregation,
    VariableSynchronization,
)


@dataclass(slots=True)
class GetterRequest:
    """A variable that is asked for.

    Attributes:
        name: Full name.
        shape: As far as it is given.
        dtype: Of the variable; not of a constant initializer, which keeps its own.
        initializer: As given, None for the default.
        regularizer: Makes its loss.
        reuse: Whether it must exist (True), must not (False), or may.
        trainable: Whether optimizers are meant to update it, None for the default.
        collections: The collections it goes into, None for the standard ones.
        caching_device: Where a local copy is kept.
        partitioner: Says into how many parts to cut it; None for one whole.
        validate_shape: Whether values assigned later must have the shape.
        constraint: Applied after an optimizer's update.
        synchronization: When copies are brought together.
        aggregation: How they are.
        slice: Place in the whole, of a part.
    """

    name: str
    shape: TensorShape
    dtype: np.dtype[Any]
    initializer: Initializer
    regularizer: Regularizer | None
    reuse: Reuse
    trainable: bool | None
    collections: Any
    caching_device: Any
    partitioner: Partitioner | None
    validate_shape: bool
    constraint: Constraint | None
    synchronization: VariableSynchronization
    aggregation: VariableAggregation
    slice: PartitionSlice | None = None
