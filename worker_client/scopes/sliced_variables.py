"""TensorFlow 1's older way to cut a variable into parts, for which no partitioner is needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy.typing as npt

from worker_client.graph.default_graph import get_default_graph
from worker_client.scopes.arguments import InitializerLike, Reuse, VariableArguments
from worker_client.scopes.variable_scope import variable_scope
from worker_client.scopes.variable_table import VariableTable
from worker_client.values.dtypes import float32


def create_partitioned_variables(
    shape: Sequence[int],
    slicing: Sequence[int],
    initializer: InitializerLike,
    dtype: npt.DTypeLike = float32,
    trainable: bool = True,
    collections: Iterable[str] | None = None,
    name: str | None = None,
    reuse: Reuse = None,
) -> list[Any]:
    """Gets or creates the parts of a variable; ``get_variable`` with a partitioner is the newer way.

    Args:
        shape: Shape of the whole.
        slicing: Number of parts along each dimension; along one at most there may be several.
        initializer: As for ``get_variable``.
        dtype: Type of the elements.
        trainable: Whether optimizers are meant to update it.
        collections: The collections it goes into, instead of ``GraphKeys.GLOBAL_VARIABLES``.
        name: Name of the whole, behind that of the current variable scope; "PartitionedVariable", numbered, if not
            given.
        reuse: As for ``variable_scope``.

    Returns:
        The parts, which are called "name/part_0" and so on.

    Raises:
        ValueError: ``shape`` and ``slicing`` differ in length or are empty, the scope has a custom getter, which this
            would pass by, or as ``get_variable``.
    """
    if len(shape) != len(slicing) or not shape:
        raise ValueError(
            f"variable {name or 'PartitionedVariable'}: the shape {list(shape)} and the slicing {list(slicing)} should "
            f"have one number each for every dimension, of which there must be one"
        )
    with variable_scope(name, "PartitionedVariable", reuse=reuse) as scope:
        if scope.custom_getter is not None:
            raise ValueError(
                f"variable {scope.name}: create_partitioned_variables makes parts that the custom getter of the scope "
                f"would not see; use get_variable with a partitioner there"
            )
        arguments = VariableArguments(
            scope.name,
            shape=shape,
            dtype=dtype,
            initializer=scope.initializer if initializer is None else initializer,
            regularizer=scope.regularizer,
            reuse=scope.reuse,
            trainable=trainable,
            collections=collections,
            caching_device=scope.caching_device,
            partitioner=lambda **_: slicing,
            constraint=scope.constraint,
        )
        return list(get_default_graph().slot(VariableTable).get(arguments))
