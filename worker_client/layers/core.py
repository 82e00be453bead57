"""Layers of all tensors: dense ones, flattening, dropout."""

from __future__ import annotations

import math
from typing import Any

from worker_client.graph.blocks import name_scope
from worker_client.graph.definition import Constraint, Regularizer
from worker_client.layers.base import ZEROS, Activation, Layer, function_of, known_size, truth
from worker_client.ops.array_ops import expand_dims, reshape, transpose
from worker_client.ops.constant_ops import constant, identity
from worker_client.ops.constant_ops import shape as shape_tensor
from worker_client.ops.math_ops import matmul
from worker_client.ops.nn_ops import bias_add
from worker_client.ops.nn_ops import dropout as dropped
from worker_client.ops.selection_ops import where_v2
from worker_client.ops.tensordot import tensordot
from worker_client.values.shapes import TensorShape


class Dense(Layer):
    """``activation(inputs @ kernel + bias)``, over the last dimension of the inputs.

    Args:
        units: Size of the last dimension of the outputs.
        activation: A function of tensors; none if not given.
        use_bias: Whether there is a bias.
        kernel_initializer: Of the kernel, ``[inputs, units]``; that of the scope if not given.
        bias_initializer: Of the bias, ``[units]``.
        kernel_regularizer: Makes a loss of the kernel.
        bias_regularizer: Makes a loss of the bias.
        activity_regularizer: Makes a loss of the outputs.
        kernel_constraint: As ``get_variable``'s constraint.
        bias_constraint: Likewise.
        trainable: As ``Layer``'s.
        name: As ``Layer``'s.
        **kwargs: As ``Layer``'s.

    Attributes:
        kernel: The kernel, once the layer was called.
        bias: The bias; None if there is none.
    """

    kernel: Any = None
    bias: Any = None

    def __init__(
        self,
        units: int,
        activation: Activation | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = None,
        bias_initializer: Any = ZEROS,
        kernel_regularizer: Regularizer | None = None,
        bias_regularizer: Regularizer | None = None,
        activity_regularizer: Regularizer | None = None,
        kernel_constraint: Constraint | None = None,
        bias_constraint: Constraint | None = None,
        trainable: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(trainable=trainable, name=name, activity_regularizer=activity_regularizer, **kwargs)
        self.units = int(units)
        if self.units < 1:
            raise ValueError(f"layer {self.name}: units should be 1 or more, not {units}")
        self.activation = activation
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer
        self.kernel_regularizer = kernel_regularizer
        self.bias_regularizer = bias_regularizer
        self.kernel_constraint = kernel_constraint
        self.bias_constraint = bias_constraint

    def build(self, input_shape: Any) -> None:
        shape = self.check_rank(TensorShape(input_shape), 2, or_more=True)
        if not self.dtype.is_floating:
            raise TypeError(f"layer {self.name} takes floats, not {self.dtype.name}")
        self.kernel = self.add_weight(
            "kernel",
            [known_size(self, shape, -1), self.units],
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        if self.use_bias:
            self.bias = self.add_weight(
                "bias",
                [self.units],
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.built = True

    def call(self, inputs: Any, **kwargs: Any) -> Any:
        del kwargs
        ndims = self.check_rank(inputs, 2, or_more=True).ndims or 0
        outputs = matmul(inputs, self.kernel) if ndims == 2 else tensordot(inputs, self.kernel, [[ndims - 1], [0]])
        if self.use_bias:
            outputs = bias_add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)

    def compute_output_shape(self, input_shape: Any) -> TensorShape:
        return TensorShape([*TensorShape(input_shape)[:-1], self.units])


@function_of(Dense)
def dense(
    inputs: Any,
    units: int,
    activation: Activation | None = None,
    use_bias: bool = True,
    kernel_initializer: Any = None,
    bias_initializer: Any = ZEROS,
    kernel_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    activity_regularizer: Regularizer | None = None,
    kernel_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
) -> Any:
    """Returns the outputs of a ``Dense`` layer; ``reuse`` as in ``variable_scope``, with the name of an older one."""


class Flatten(Layer):
    """All dimensions but the first as one.

    Args:
        data_format: "channels_last", or "channels_first" to bring the channels to the end before.
        **kwargs: As ``Layer``'s.
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = self.format_of(data_format or "channels_last")

    def call(self, inputs: Any, **kwargs: Any) -> Any:
        del kwargs
        shape = self.check_rank(inputs, 1, or_more=True)
        if self.data_format == "channels_first" and len(shape) > 1:
            inputs = transpose(inputs, [0, *range(2, len(shape)), 1])
            shape = TensorShape(inputs.shape)
        if len(shape) == 1:
            return expand_dims(inputs, axis=1)
        inner = shape[1:]
        if inner.is_fully_defined():
            return reshape(inputs, constant([-1, inner.num_elements()]))
        batch = shape.size(0)
        return reshape(inputs, [shape_tensor(inputs)[0], -1] if batch is None else constant([batch, -1]))

    def compute_output_shape(self, input_shape: Any) -> TensorShape:
        sizes = TensorShape(input_shape).as_list()
        inner = None if None in sizes[1:] else math.prod(size or 0 for size in sizes[1:])
        return TensorShape([sizes[0], inner])


@function_of(Flatten)
def flatten(inputs: Any, name: str | None = None, data_format: str = "channels_last") -> Any:
    """Returns the outputs of a ``Flatten`` layer."""


class Dropout(Layer):
    """In training a random part of the elements as 0, and the others larger; see ``tf.nn.dropout``.

    Args:
        rate: What part becomes 0.
        noise_shape: As ``tf.nn.dropout``'s.
        seed: Makes every session draw the same sequence.
        name: As ``Layer``'s.
        **kwargs: As ``Layer``'s.
    """

    def __init__(
        self, rate: Any = 0.5, noise_shape: Any = None, seed: int | None = None, name: str | None = None, **kwargs: Any
    ):
        super().__init__(name=name, **kwargs)
        if isinstance(rate, int | float) and not 0 <= rate <= 1:
            raise ValueError(f"layer {self.name}: rate should be in [0, 1], not {rate}")
        self.rate = rate
        self.noise_shape = noise_shape
        self.seed = seed

    def call(self, inputs: Any, training: Any = False, **kwargs: Any) -> Any:
        """Returns the inputs, or in training what is kept of them; ``training`` may be a tensor."""
        del kwargs
        is_training = truth(training)
        if is_training is not None:
            return self._dropped(inputs) if is_training else identity(inputs)
        with name_scope("cond"):
            return where_v2(training, self._dropped(inputs), inputs, name="Merge")

    def _dropped(self, inputs: Any) -> Any:
        return dropped(inputs, noise_shape=self.noise_shape, seed=self.seed, rate=self.rate)

    def compute_output_shape(self, input_shape: Any) -> TensorShape:
        return TensorShape(input_shape)


@function_of(Dropout)
def dropout(
    inputs: Any,
    rate: Any = 0.5,
    noise_shape: Any = None,
    seed: int | None = None,
    training: Any = False,
    name: str | None = None,
) -> Any:
    """Returns the outputs of a ``Dropout`` layer."""
