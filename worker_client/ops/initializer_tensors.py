"""TensorFlow 1's initializers as it has them: called in a deferred graph, one makes a tensor.

Given to ``get_variable`` they are the initializers that they derive from, which the ps carries out. Outside of deferred
graphs a call returns an array, as theirs does.
"""
# ruff: noqa: N801 - TensorFlow's names

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ps_protocol.initializer_spec import RandomUniformKind, TruncatedNormalKind
from ps_protocol.operations import VariableSpec
from worker_client.deferred.drawn_values import Drawn, drawn_kind
from worker_client.deferred.operands import tensor_of
from worker_client.graph.computation import Kernel
from worker_client.graph.default_graph import get_default_graph, graph_of
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.initializers import standard
from worker_client.initializers.base import DescribedInitializer
from worker_client.op_definitions.static_values import known_sizes
from worker_client.ops.constant_ops import constant, convert_to_tensor, given_sizes, ones, zeros
from worker_client.ops.random_ops import random_normal, random_uniform, truncated_normal
from worker_client.values.dtypes import DType, as_dtype
from worker_client.values.partition_info import PartitionInfo, Shape
from worker_client.values.shapes import TensorShape
from worker_client.values.text import is_text

__all__ = [
    "constant_initializer",
    "glorot_normal_initializer",
    "glorot_uniform_initializer",
    "he_normal",
    "he_uniform",
    "identity_initializer",
    "lecun_normal",
    "lecun_uniform",
    "ones_initializer",
    "orthogonal_initializer",
    "random_normal_initializer",
    "random_uniform_initializer",
    "truncated_normal_initializer",
    "uniform_unit_scaling_initializer",
    "variance_scaling_initializer",
    "zeros_initializer",
]


class _MakesTensors:
    """What the initializers of this module do before those that they derive from.

    A tensor of random numbers has others in each run, with a seed those of ``tf.random_normal`` and its like. Variables
    of one shape whose initializers have the same seed start alike, as in TensorFlow.
    """

    dtype: DType
    seed: int | None
    op_name: str
    op_type: ClassVar[str]

    def __call__(
        self,
        shape: Any,
        dtype: npt.DTypeLike | None = None,
        partition_info: PartitionInfo | None = None,
        verify_shape: bool | None = None,
    ) -> Any:
        """Returns a value.

        Args:
            shape: Of the value; may be a tensor, or have tensors in it.
            dtype: Its dtype; by default the initializer's.
            partition_info: Which part of a partitioned variable is meant.
            verify_shape: Of a constant, whether it must have that shape; by default as the initializer says.
        """
        assert isinstance(self, DescribedInitializer)
        sizes = tensor_of(shape, None, "packed")
        options = {} if verify_shape is None else {"verify_shape": verify_shape}
        value = partial(super().__call__, dtype=dtype, partition_info=partition_info, **options)  # type: ignore[misc]  # it is a mixin
        graph = graph_of([] if sizes is None else [sizes])
        if not graph.deferred:
            return value(given_sizes(shape))
        element = as_dtype(self.dtype if dtype is None else dtype)
        known = TensorShape(given_sizes(shape)) if sizes is None else known_sizes(sizes)
        if known.is_fully_defined() and not is_text(element):
            self.check(known.as_tuple(), element, partition_info)
        with graph.as_default():
            return self._made(shape, known, element, value)

    def _made(self, shape: Any, known: TensorShape, dtype: np.dtype[Any], value: Any) -> Tensor:
        if is_text(dtype):
            raise ValueError(f"{type(self).__name__} makes numbers, no text")
        kind = self._drawn_kind(known, dtype)
        if kind is not None:
            return _drawn(kind, shape, dtype, self.seed)
        graph = get_default_graph()
        with graph.name_scope(self.op_name) as scope:
            sizes = convert_to_tensor(shape, name="shape")
            kernel = Kernel(lambda sizes: np.asarray(value(sizes.tolist())))
            output, attributes = OutputSpec(dtype, known), {"T": DType(dtype)}
            op_type = "Fill" if self.op_type == "Const" else self.op_type
            op = graph.create_op(op_type, [sizes], [output], name=scope, attributes=attributes, computation=kernel)
        return op.outputs[0]

    def _drawn_kind(self, known: TensorShape, dtype: np.dtype[Any]) -> Drawn | None:
        """Returns the distribution, None if there is none of single elements, or it depends on an unknown shape."""
        assert isinstance(self, DescribedInitializer)
        if not known.is_fully_defined():
            return None
        spec = VariableSpec("", dtype, known.as_tuple())
        return drawn_kind(self.describe(spec), spec)


def _drawn(kind: Drawn, shape: Any, dtype: np.dtype[Any], seed: int | None) -> Tensor:
    made: Tensor
    if isinstance(kind, RandomUniformKind):
        made = random_uniform(shape, kind.minval, kind.maxval, dtype, seed)
    else:
        draw = truncated_normal if isinstance(kind, TruncatedNormalKind) else random_normal
        made = draw(shape, kind.mean, kind.stddev, dtype, seed)
    return made


class zeros_initializer(_MakesTensors, standard.Zeros):
    """Zeros; False, or empty bytes."""

    def _made(self, shape: Any, known: TensorShape, dtype: np.dtype[Any], value: Any) -> Tensor:  # noqa: ARG002
        made: Tensor = zeros(shape, dtype)
        return made


class ones_initializer(_MakesTensors, standard.Ones):
    """Ones, or True."""

    def _made(self, shape: Any, known: TensorShape, dtype: np.dtype[Any], value: Any) -> Tensor:  # noqa: ARG002
        made: Tensor = ones(shape, dtype)
        return made


class constant_initializer(_MakesTensors, standard.Constant):
    """A number everywhere, or the elements of a list in C order, the last one repeated to the end."""

    def check(self, shape: Shape, dtype: npt.DTypeLike, partition_info: PartitionInfo | None = None) -> None:
        if is_text(np.asarray(self.value).dtype):
            raise TypeError(f"the constant {self.value!r} is no {as_dtype(dtype).name}; give dtype=tf.string")
        super().check(shape, dtype, partition_info)

    def _made(self, shape: Any, known: TensorShape, dtype: np.dtype[Any], value: Any) -> Tensor:
        if not known.is_fully_defined():
            return super()._made(shape, known, dtype, value)
        made: Tensor
        if is_text(dtype):
            made = constant(self.value, dtype, shape=known, name=self.op_name)
            return made
        made = constant(value(known.as_tuple()), name=self.op_name)
        return made


class random_uniform_initializer(_MakesTensors, standard.RandomUniform):
    """Uniform in [minval, maxval)."""


class random_normal_initializer(_MakesTensors, standard.RandomNormal):
    """Normal."""


class truncated_normal_initializer(_MakesTensors, standard.TruncatedNormal):
    """Normal, drawn again beyond two standard deviations from the mean."""


class uniform_unit_scaling_initializer(_MakesTensors, standard.UniformUnitScaling):
    """Uniform so that the variance of inputs is kept."""


class variance_scaling_initializer(_MakesTensors, standard.VarianceScaling):
    """Random with the variance ``scale / n``, n being the number of inputs, of outputs, or their average."""


class glorot_uniform_initializer(_MakesTensors, standard.GlorotUniform):
    """Uniform within sqrt(6 / (inputs + outputs)), also called Xavier."""


class glorot_normal_initializer(_MakesTensors, standard.GlorotNormal):
    """Truncated normal of variance 2 / (inputs + outputs), also called Xavier."""


class he_uniform(_MakesTensors, standard.HeUniform):
    """Uniform within sqrt(6 / inputs), for layers before a ReLU."""


class he_normal(_MakesTensors, standard.HeNormal):
    """Truncated normal of variance 2 / inputs, for layers before a ReLU."""


class lecun_uniform(_MakesTensors, standard.LecunUniform):
    """Uniform within sqrt(3 / inputs)."""


class lecun_normal(_MakesTensors, standard.LecunNormal):
    """Truncated normal of variance 1 / inputs."""


class orthogonal_initializer(_MakesTensors, standard.Orthogonal):
    """Orthogonal rows or columns, whichever are fewer; all dimensions but the last count as rows."""


class identity_initializer(_MakesTensors, standard.Identity):
    """Ones on the main diagonal of a matrix, which need not be square."""
