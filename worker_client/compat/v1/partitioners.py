"""The partitioners as TensorFlow 1 has them: they take a ``TensorShape`` and no list."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

from worker_client.values.shapes import TensorShape
from worker_client.variables import partitioners
from worker_client.variables.partitioners import Partitioner

__all__ = ["fixed_size_partitioner", "min_max_variable_partitioner", "variable_axis_size_partitioner"]

_P = ParamSpec("_P")


def _of_tensor_shapes(make: Callable[_P, Partitioner]) -> Callable[_P, Partitioner]:
    @functools.wraps(make)
    def made(*args: _P.args, **kwargs: _P.kwargs) -> Partitioner:
        partitioner = make(*args, **kwargs)

        @functools.wraps(partitioner)
        def strict(shape: TensorShape, *others: Any, **keywords: Any) -> Sequence[int]:
            if not isinstance(shape, TensorShape):
                raise ValueError(f"shape is not a TensorShape: {shape!r}; give tf.TensorShape(...)")  # noqa: TRY004 - TensorFlow's type
            return partitioner(shape, *others, **keywords)

        return strict

    return made


fixed_size_partitioner = _of_tensor_shapes(partitioners.fixed_size_partitioner)
variable_axis_size_partitioner = _of_tensor_shapes(partitioners.variable_axis_size_partitioner)
min_max_variable_partitioner = _of_tensor_shapes(partitioners.min_max_variable_partitioner)
