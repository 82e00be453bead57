"""Layers that convolve lines and images."""

from __future__ import annotations

from typing import Any

from worker_client.graph.definition import Constraint, Regularizer
from worker_client.graph.operation import Tensor
from worker_client.layers.base import ZEROS, Activation, known_size
from worker_client.layers.sliding import SlidingLayer
from worker_client.ops.array_ops import reshape, stack
from worker_client.ops.constant_ops import shape as shape_tensor
from worker_client.ops.math_ops import add
from worker_client.ops.nn.convolutions import conv2d_transpose as transposed
from worker_client.ops.nn.convolutions import convolution
from worker_client.ops.nn.convolutions import separable_conv2d as separable
from worker_client.ops.nn_ops import bias_add
from worker_client.values.shapes import TensorShape


class Convolution(SlidingLayer):
    """A convolution of lines ``[batch, width, channels]`` or images ``[batch, height, width, channels]``.

    Args:
        filters: How many channels the outputs have.
        kernel_size: Size of the filters: a number for each inner dimension, or one for all.
        strides: Steps from place to place, likewise.
        padding: "valid" or "same".
        data_format: "channels_last", or "channels_first" if the channels are second.
        dilation_rate: Steps from one element under a filter to the next, likewise.
        activation: A function of tensors; none if not given.
        use_bias: Whether there is a bias.
        kernel_initializer: Of the kernel; that of the scope if not given.
        bias_initializer: Of the bias, ``[filters]``.
        kernel_regularizer: Makes a loss of the kernel.
        bias_regularizer: Makes a loss of the bias.
        activity_regularizer: Makes a loss of the outputs.
        kernel_constraint: As ``get_variable``'s constraint.
        bias_constraint: Likewise.
        trainable: As ``Layer``'s.
        name: As ``Layer``'s.
        **kwargs: As ``Layer``'s.

    Attributes:
        kernel: The kernel ``[*kernel_size, channels, filters]``, once the layer was called.
        bias: The bias; None if there is none.
    """

    kernel: Any = None
    bias: Any = None

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str = "channels_last",
        dilation_rate: Any = 1,
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
        self.filters = int(filters)
        if self.filters < 1:
            raise ValueError(f"layer {self.name}: filters should be 1 or more, not {filters}")
        self.kernel_size = self._sizes(kernel_size, "kernel_size")
        self.dilation_rate = self._sizes(dilation_rate, "dilation_rate")
        self._slide(strides, padding, data_format)
        self.activation = activation
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer
        self.kernel_regularizer = kernel_regularizer
        self.bias_regularizer = bias_regularizer
        self.kernel_constraint = kernel_constraint
        self.bias_constraint = bias_constraint

    @property
    def _layout(self) -> str:
        letters = "HW"[2 - self._inner :]
        return f"NC{letters}" if self._is_second else f"N{letters}C"

    def _channels(self, input_shape: Any) -> int:
        shape = self.check_rank(TensorShape(input_shape), self._inner + 2)
        return known_size(self, shape, 1 if self._is_second else -1)

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(
            "kernel",
            self._kernel_shape(self._channels(input_shape)),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self._build_bias()

    def _kernel_shape(self, channels: int) -> list[int]:
        return [*self.kernel_size, channels, self.filters]

    def _build_bias(self) -> None:
        if self.use_bias:
            self.bias = self.add_weight(
                "bias",
                [self.filters],
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.built = True

    def call(self, inputs: Any, **kwargs: Any) -> Any:
        del kwargs
        self.check_rank(inputs, self._inner + 2)
        return self._finished(self._convolved(inputs))

    def _convolved(self, inputs: Any) -> Any:
        return convolution(
            inputs,
            self.kernel,
            self.padding.upper(),
            self.strides,
            self.dilation_rate,
            data_format=self._layout,
            name=type(self).__name__,
        )

    def _finished(self, outputs: Any) -> Any:
        """Returns the outputs with the bias, through the activation."""
        if self.use_bias and self._layout == "NCW":
            outputs = add(outputs, reshape(self.bias, [1, self.filters, 1]))
        elif self.use_bias:
            outputs = bias_add(outputs, self.bias, data_format=self._layout)
        return outputs if self.activation is None else self.activation(outputs)


class Conv1D(Convolution):
    """A convolution of lines; see ``Convolution``."""

    _inner = 1


class Conv2D(Convolution):
    """A convolution of images; see ``Convolution``."""

    _inner = 2


class Conv2DTranspose(Convolution):
    """The transpose of a convolution of images; see ``Convolution``.

    It takes no ``dilation_rate``; the shape of the kernel is ``[height, width, filters, channels]``.
    """

    _inner = 2

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: str = "valid",
        data_format: str = "channels_last",
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
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            data_format,
            1,
            activation,
            use_bias,
            kernel_initializer,
            bias_initializer,
            kernel_regularizer,
            bias_regularizer,
            activity_regularizer,
            kernel_constraint,
            bias_constraint,
            trainable,
            name,
            **kwargs,
        )

    def _kernel_shape(self, channels: int) -> list[int]:
        return [*self.kernel_size, self.filters, channels]

    def _convolved(self, inputs: Any) -> Any:
        sizes = shape_tensor(inputs)
        first = 2 if self._is_second else 1
        known = [TensorShape(inputs.shape).size(first + axis) for axis in (0, 1)]
        inner = [self._length(sizes[first + axis] if known[axis] is None else known[axis], axis) for axis in (0, 1)]
        wanted = [self.filters, *inner] if first == 2 else [*inner, self.filters]
        outputs = transposed(
            inputs,
            self.kernel,
            stack([sizes[0], *wanted]),
            self._of_all_dimensions(self.strides),
            self.padding.upper(),
            "NCHW" if first == 2 else "NHWC",
        )
        if isinstance(outputs, Tensor):
            batch = TensorShape(inputs.shape).size(0)
            outputs.set_shape([batch, *(each if isinstance(each, int) else None for each in wanted)])
        return outputs

    def _length(self, size: Any, axis: int) -> Any:
        added = max(self.kernel_size[axis] - self.strides[axis], 0) if self.padding == "valid" else 0
        return size * self.strides[axis] + added


class SeparableConv2D(Convolution):
    """A convolution of each channel with filters of its own, and then a mixture of the channels at each place.

    Args:
        filters: As ``Convolution``'s, and all others but those below.
        kernel_size: As there.
        strides: As there.
        padding: As there.
        data_format: As there.
        dilation_rate: As there.
        depth_multiplier: How many filters each channel has.
        activation: As there.
        use_bias: As there.
        depthwise_initializer: Of the filters of the channels, ``[height, width, channels, depth_multiplier]``.
        pointwise_initializer: Of what mixes them, ``[1, 1, channels * depth_multiplier, filters]``.
        bias_initializer: As there.
        depthwise_regularizer: Makes a loss of the filters of the channels.
        pointwise_regularizer: Makes a loss of what mixes them.
        bias_regularizer: As there.
        activity_regularizer: As there.
        depthwise_constraint: As ``get_variable``'s constraint.
        pointwise_constraint: Likewise.
        bias_constraint: As there.
        trainable: As there.
        name: As there.
        **kwargs: As there.
    """

    _inner = 2
    depthwise_kernel: Any = None
    pointwise_kernel: Any = None

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: str = "valid",
        data_format: str = "channels_last",
        dilation_rate: Any = (1, 1),
        depth_multiplier: int = 1,
        activation: Activation | None = None,
        use_bias: bool = True,
        depthwise_initializer: Any = None,
        pointwise_initializer: Any = None,
        bias_initializer: Any = ZEROS,
        depthwise_regularizer: Regularizer | None = None,
        pointwise_regularizer: Regularizer | None = None,
        bias_regularizer: Regularizer | None = None,
        activity_regularizer: Regularizer | None = None,
        depthwise_constraint: Constraint | None = None,
        pointwise_constraint: Constraint | None = None,
        bias_constraint: Constraint | None = None,
        trainable: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            activation,
            use_bias,
            None,
            bias_initializer,
            None,
            bias_regularizer,
            activity_regularizer,
            None,
            bias_constraint,
            trainable,
            name,
            **kwargs,
        )
        self.depth_multiplier = depth_multiplier
        self.depthwise = (depthwise_initializer, depthwise_regularizer, depthwise_constraint)
        self.pointwise = (pointwise_initializer, pointwise_regularizer, pointwise_constraint)

    def build(self, input_shape: Any) -> None:
        channels = self._channels(input_shape)
        own = [*self.kernel_size, channels, self.depth_multiplier]
        mixing = [1, 1, channels * self.depth_multiplier, self.filters]
        self.depthwise_kernel = self._weight("depthwise_kernel", own, *self.depthwise)
        self.pointwise_kernel = self._weight("pointwise_kernel", mixing, *self.pointwise)
        self._build_bias()

    def _weight(
        self,
        name: str,
        shape: list[int],
        initializer: Any,
        regularizer: Regularizer | None,
        constraint: Constraint | None,
    ) -> Any:
        return self.add_weight(name, shape, initializer=initializer, regularizer=regularizer, constraint=constraint)

    def _convolved(self, inputs: Any) -> Any:
        return separable(
            inputs,
            self.depthwise_kernel,
            self.pointwise_kernel,
            self._of_all_dimensions(self.strides),
            self.padding.upper(),
            self.dilation_rate,
            data_format=self._layout,
        )
