"""The base of all initializers: each makes an array when called, and describes it so that a ps can make the same."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy.typing as npt

from ps_protocol.errors import InvalidArgumentError, InvalidValueError
from ps_protocol.initial_values.compute import check_initializer, initial_value
from ps_protocol.initializer_spec import InitializerKind, InitializerSpec, ValueKind
from ps_protocol.operations import Array, PartitionSlice, VariableSpec
from worker_client.initializers.arrays import called_value
from worker_client.values.dtypes import DType, as_dtype, float32
from worker_client.values.partition_info import PartitionInfo, Shape


class Initializer:
    """Base of all initializers. Immutable.

    A subclass defines ``__call__``; its values are computed in the worker and sent to the ps.

    Attributes:
        seed: Seed of the initializer's own, of any size, which alone decides the random numbers; None for the job's and
            the variable's name.
        dtype: Of the value, if a call names none.
    """

    seed: int | None = None
    dtype: DType = float32

    def __call__(
        self, shape: Shape, dtype: npt.DTypeLike | None = None, partition_info: PartitionInfo | None = None
    ) -> Array:
        """Returns a value, a new array.

        Args:
            shape: Of the value; of the part if ``partition_info`` is given.
            dtype: Its dtype; by default the initializer's.
            partition_info: Which part of a partitioned variable is meant.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__")

    def spec(self, variable: VariableSpec, job_seed: int) -> InitializerSpec:
        """Returns what the ps needs in order to make the variable's initial value.

        Args:
            variable: The variable, or a part of a partitioned one.
            job_seed: Seed of the cluster's job; counts unless the initializer has one.

        Raises:
            ValueError: The initializer does not suit the variable, or a parameter is out of range.
            TypeError: The value is not of the variable's kind of elements.
        """
        return self._with_seed(ValueKind(called_value(self, variable)), job_seed)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make the same initializer again."""
        return {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Returns an initializer made of what ``get_config`` returned."""
        return cls(**config)

    def _with_seed(self, kind: InitializerKind, job_seed: int) -> InitializerSpec:
        if self.seed is None:
            return InitializerSpec(kind, _int64(job_seed))
        return InitializerSpec(kind, _int64(self.seed), seed_alone=True)


class DescribedInitializer(Initializer):
    """Base of the initializers that a ps can compute, from what ``describe`` returns.

    Called without a seed of its own, one returns another value each time. A subclass that defines ``__call__`` but not
    ``describe`` is computed in the worker, since what it inherits does not describe what it returns.
    """

    op_name: str = "initial_value"
    """Of the operation that stands for the value of a variable, as TensorFlow names it."""
    op_type: ClassVar[str] = "AddV2"
    """Of that operation."""
    is_one_constant: ClassVar[bool] = False
    """Whether it is a single constant, however many elements it has."""
    _described: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "describe" in cls.__dict__:
            cls._described = True
        elif "__call__" in cls.__dict__:
            cls._described = False

    def describe(self, variable: VariableSpec, /) -> InitializerKind:
        """Returns what a ps needs to make the variable's value, without the seed."""
        raise NotImplementedError(f"{type(self).__name__} must define describe")

    def __call__(
        self, shape: Shape, dtype: npt.DTypeLike | None = None, partition_info: PartitionInfo | None = None
    ) -> Array:
        variable = _nameless(shape, self.dtype if dtype is None else dtype, partition_info)
        return initial_value(variable, self._description(variable, int.from_bytes(os.urandom(8)) >> 1))

    def check(self, shape: Shape, dtype: npt.DTypeLike, partition_info: PartitionInfo | None = None) -> None:
        """Makes sure that a call returns a value; raises what it would raise."""
        self._description(_nameless(shape, dtype, partition_info), 0)

    @property
    def is_described(self) -> bool:
        """Whether the ps can compute its values, so that it need not be called."""
        return self._described

    def spec(self, variable: VariableSpec, job_seed: int) -> InitializerSpec:
        return self._description(variable, job_seed) if self._described else super().spec(variable, job_seed)

    def _description(self, variable: VariableSpec, job_seed: int) -> InitializerSpec:
        description = self._with_seed(self.describe(variable), job_seed)
        try:
            check_initializer(variable, description)
        except InvalidArgumentError as error:
            if isinstance(error, ValueError | TypeError):
                raise
            # A ValueError is TensorFlow 1's error for a misuse that is found here.
            raise InvalidValueError(str(error), variable=variable.name) from None
        return description


def _nameless(shape: Shape, dtype: npt.DTypeLike, partition_info: PartitionInfo | None) -> VariableSpec:
    sizes = tuple(int(operator.index(size)) for size in shape)
    if partition_info is None:
        return VariableSpec("", as_dtype(dtype), sizes)
    place = PartitionSlice("", tuple(partition_info.full_shape), tuple(partition_info.var_offset))
    return VariableSpec("", as_dtype(dtype), sizes, place)


def _int64(seed: int) -> int:
    """Returns a seed of any size as one that travels."""
    return (operator.index(seed) + 2**63) % 2**64 - 2**63
