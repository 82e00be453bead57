"""TensorFlow 1's convolutions."""

from __future__ import annotations

from typing import Any

from worker_client.deferred.computed import computed
from worker_client.graph.blocks import name_scope
from worker_client.kernels import convolution as kernels
from worker_client.kernels.applied import Applied
from worker_client.ops.array_ops import expand_dims, squeeze
from worker_client.ops.constant_ops import convert_to_tensor
from worker_client.ops.nn.window_arguments import Sliding, sequence, sliding
from worker_client.values.made_functions import one_of
from worker_client.values.shapes import TensorShape

__all__ = [
    "atrous_conv2d",
    "conv1d",
    "conv2d",
    "conv2d_backprop_filter",
    "conv2d_backprop_input",
    "conv2d_transpose",
    "convolution",
    "depthwise_conv2d",
    "depthwise_conv2d_native",
    "separable_conv2d",
]

_ONES = (1, 1, 1, 1)


def conv2d(
    input: Any,
    filter: Any = None,
    strides: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str | None = "NHWC",
    dilations: Any = _ONES,
    name: str | None = None,
    filters: Any = None,
) -> Any:
    """Returns at each place of filters on images the sums of what they cover, weighted by them.

    Args:
        input: Images of floats: shape ``[batch, height, width, channels]``.
        filter: Shape ``[height, width, channels, outputs]``.
        strides: Steps from place to place: one number, two, or one for each dimension.
        padding: "SAME", "VALID", or a pair for each dimension: how much is added before and behind.
        use_cudnn_on_gpu: Ignored.
        data_format: "NHWC", or "NCHW" for images and results with the channels second.
        dilations: Steps from one element under a filter to the next, as ``strides``.
        name: Of the operation; "Conv2D" if not given.
        filters: Newer name of ``filter``.

    Returns:
        Shape ``[batch, down, across, outputs]``.

    Raises:
        ValueError: The shapes do not fit, or an argument has another form.
        TypeError: The dtypes differ, or are none of floats.
    """
    given = one_of("conv2d", filter=filter, filters=filters)
    how = sliding(strides, padding, data_format, op_type="Conv2D", dilations=dilations)
    return _conv2d(input, given, how, use_cudnn_on_gpu, name)


def _conv2d(images: Any, filters: Any, how: Sliding, on_gpu: bool, name: str | None) -> Any:
    attributes = {**how.attributes, "use_cudnn_on_gpu": on_gpu}

    return computed(
        "Conv2D", Applied(kernels.conv2d, (how.windows,)), [images, filters], name=name, attributes=attributes
    )


def conv1d(
    value: Any = None,
    filters: Any = None,
    stride: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool | None = None,
    data_format: str | None = None,
    name: str | None = None,
    input: Any = None,
    dilations: Any = None,
) -> Any:
    """Does what ``conv2d`` does along one dimension: of the shape ``[batch, width, channels]``.

    Args:
        value: The lines.
        filters: Shape ``[width, channels, outputs]``.
        stride: Step from place to place.
        padding: "SAME" or "VALID".
        use_cudnn_on_gpu: Ignored.
        data_format: "NWC", or "NCW" for the channels second.
        name: Of the scope; "conv1d" if not given.
        input: Newer name of ``value``.
        dilations: Step from one element under a filter to the next.

    Raises:
        ValueError: The shapes do not fit, or an argument has another form.
    """
    lines = one_of("conv1d", value=value, input=input)
    with name_scope(name, "conv1d", [lines, filters]) as scope:
        if data_format not in (None, "NHWC", "NWC", "NCHW", "NCW"):
            raise ValueError(f'conv1d: data_format should be "NWC" or "NCW", not {data_format!r}')
        is_second = data_format in ("NCHW", "NCW")
        axis = -2 if is_second else -3
        steps = [1, *sequence(stride, 1 if is_second else 2, "conv1d: stride", 1)]
        apart = [1, *sequence(dilations, 1 if is_second else 2, "conv1d: dilations", 1)]
        if is_second:
            steps, apart = [steps[1], steps[2], 1, steps[3]], [apart[1], apart[2], 1, apart[3]]
        how = sliding(steps, padding, "NCHW" if is_second else "NHWC", op_type="Conv2D", dilations=apart)
        images, flat = expand_dims(lines, axis), expand_dims(filters, 0)
        return squeeze(_conv2d(images, flat, how, bool(use_cudnn_on_gpu), scope), [axis])


def conv2d_backprop_input(
    input_sizes: Any,
    filter: Any = None,
    out_backprop: Any = None,
    strides: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str | None = "NHWC",
    dilations: Any = _ONES,
    name: str | None = None,
    filters: Any = None,
) -> Any:
    """Returns the gradient of the images of ``conv2d``, of the sizes ``input_sizes``, from that of its result."""
    given = one_of("conv2d_backprop_input", filter=filter, filters=filters)
    how = sliding(strides, padding, data_format, op_type="Conv2DBackpropInput", dilations=dilations)
    return _conv2d_of_gradient(input_sizes, given, out_backprop, how, use_cudnn_on_gpu, name)


def _conv2d_of_gradient(sizes: Any, filters: Any, gradient: Any, how: Sliding, on_gpu: bool, name: str | None) -> Any:
    attributes = {**how.attributes, "use_cudnn_on_gpu": on_gpu}
    return computed(
        "Conv2DBackpropInput",
        Applied(kernels.conv2d_of_gradient, (how.windows,)),
        [sizes, filters, gradient],
        name=name,
        attributes=attributes,
    )


def conv2d_backprop_filter(
    input: Any,
    filter_sizes: Any,
    out_backprop: Any,
    strides: Any,
    padding: Any,
    use_cudnn_on_gpu: bool = True,
    data_format: str | None = "NHWC",
    dilations: Any = _ONES,
    name: str | None = None,
) -> Any:
    """Returns the gradient of the filters of ``conv2d``, which have the sizes ``filter_sizes``, from its result's."""
    how = sliding(strides, padding, data_format, op_type="Conv2DBackpropFilter", dilations=dilations)

    attributes = {**how.attributes, "use_cudnn_on_gpu": use_cudnn_on_gpu}
    operands = [input, filter_sizes, out_backprop]
    return computed(
        "Conv2DBackpropFilter",
        Applied(kernels.conv2d_of_filters, (how.windows,)),
        operands,
        name=name,
        attributes=attributes,
    )


def conv2d_transpose(
    value: Any = None,
    filter: Any = None,
    output_shape: Any = None,
    strides: Any = None,
    padding: Any = "SAME",
    data_format: str | None = "NHWC",
    name: str | None = None,
    input: Any = None,
    filters: Any = None,
    dilations: Any = None,
) -> Any:
    """Returns images of which ``conv2d`` with these filters would make the shape of what is given: its transpose.

    Args:
        value: Shape ``[batch, down, across, outputs]``.
        filter: Shape ``[height, width, channels, outputs]``.
        output_shape: The shape of the images; may be a tensor.
        strides: As ``conv2d``'s.
        padding: As ``conv2d``'s.
        data_format: As ``conv2d``'s.
        name: Of the operation; "conv2d_transpose" if not given.
        input: Newer name of ``value``.
        filters: Newer name of ``filter``.
        dilations: As ``conv2d``'s.

    Raises:
        ValueError: The shapes do not fit, or an argument has another form.
    """
    sent = one_of("conv2d_transpose", value=value, input=input)
    given = one_of("conv2d_transpose", filter=filter, filters=filters)
    with name_scope(name, "conv2d_transpose", [sent, given, output_shape]) as scope:
        how = sliding(strides, padding, data_format, op_type="Conv2DBackpropInput", dilations=dilations)
        return _conv2d_of_gradient(output_shape, given, sent, how, True, scope)


def depthwise_conv2d_native(
    input: Any,
    filter: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NHWC",
    dilations: Any = _ONES,
    name: str | None = None,
) -> Any:
    """Returns what a convolution of each channel with filters of its own makes; see ``depthwise_conv2d``."""
    how = sliding(strides, padding, data_format, op_type="DepthwiseConv2dNative", dilations=dilations)

    return computed(
        "DepthwiseConv2dNative",
        Applied(kernels.depthwise_conv2d, (how.windows,)),
        [input, filter],
        name=name,
        attributes=dict(how.attributes),
    )


def depthwise_conv2d(
    input: Any,
    filter: Any,
    strides: Any,
    padding: Any,
    rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    dilations: Any = None,
) -> Any:
    """Returns what a convolution of each channel with filters of its own makes.

    Args:
        input: Images: shape ``[batch, height, width, channels]``.
        filter: Shape ``[height, width, channels, multiplier]``.
        strides: As ``conv2d``'s.
        padding: As ``conv2d``'s.
        rate: Two numbers: steps from one element under a filter to the next.
        name: Of the operation; "depthwise" if not given.
        data_format: As ``conv2d``'s.
        dilations: Newer name of ``rate``.

    Returns:
        Shape ``[batch, down, across, channels * multiplier]``.

    Raises:
        ValueError: The shapes do not fit, or an argument has another form.
    """
    apart = one_of("depthwise_conv2d", rate=rate, dilations=dilations)
    with name_scope(name, "depthwise", [input, filter]) as scope:
        images, filters = convert_to_tensor(input, name="tensor_in"), convert_to_tensor(filter, name="filter_in")
        return depthwise_conv2d_native(images, filters, strides, padding, data_format, apart, scope)


def separable_conv2d(
    input: Any,
    depthwise_filter: Any,
    pointwise_filter: Any,
    strides: Any,
    padding: Any,
    rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    dilations: Any = None,
) -> Any:
    """Returns what ``depthwise_conv2d`` makes, its channels mixed at each place by ``pointwise_filter``.

    Args:
        input: As ``depthwise_conv2d``'s.
        depthwise_filter: Shape ``[height, width, channels, multiplier]``.
        pointwise_filter: Shape ``[1, 1, channels * multiplier, outputs]``.
        strides: As ``conv2d``'s.
        padding: As ``conv2d``'s.
        rate: As ``depthwise_conv2d``'s.
        name: Of the operation; "separable_conv2d" if not given.
        data_format: As ``conv2d``'s.
        dilations: Newer name of ``rate``.

    Raises:
        ValueError: The shapes do not fit, or an argument has another form.
    """
    apart = one_of("separable_conv2d", rate=rate, dilations=dilations)
    with name_scope(name, "separable_conv2d", [input, depthwise_filter, pointwise_filter]) as scope:
        images = convert_to_tensor(input, name="tensor_in")
        own = convert_to_tensor(depthwise_filter, name="depthwise_filter")
        mixing = convert_to_tensor(pointwise_filter, name="pointwise_filter")
        if not TensorShape(mixing.shape).is_compatible_with([1, 1, None, None]):
            raise ValueError(
                f"separable_conv2d: pointwise_filter is of the shape {mixing.shape}, not [1, 1, channels, outputs]"
            )
        made = depthwise_conv2d_native(images, own, strides, padding, data_format, apart, "depthwise")
        return conv2d(made, mixing, [1, 1, 1, 1], "VALID", data_format=data_format, name=scope)


def atrous_conv2d(value: Any, filters: Any, rate: int, padding: Any, name: str | None = None) -> Any:
    """Returns what ``conv2d`` makes with ``rate`` steps from one element under a filter to the next."""
    return convolution(value, filters, padding, dilation_rate=[rate, rate], name=name)


def convolution(
    input: Any,
    filter: Any = None,
    padding: Any = None,
    strides: Any = None,
    dilation_rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    filters: Any = None,
    dilations: Any = None,
) -> Any:
    """Does what ``conv1d`` or ``conv2d`` does, as the rank of the filters says.

    Args:
        input: Lines or images.
        filter: As theirs.
        padding: "SAME" or "VALID".
        strides: One number for each inner dimension.
        dilation_rate: One number for each inner dimension.
        name: Of the operation; "convolution" if not given.
        data_format: As theirs.
        filters: Newer name of ``filter``.
        dilations: Newer name of ``dilation_rate``.

    Raises:
        ValueError: The shapes do not fit, or are those of neither.
    """
    given = one_of("convolution", filter=filter, filters=filters)
    apart = one_of("convolution", dilation_rate=dilation_rate, dilations=dilations)
    with name_scope(name, "convolution", [input, given]) as scope:
        images, weights = convert_to_tensor(input, name="input"), convert_to_tensor(given, name="filter")
        ndims = TensorShape(weights.shape).ndims
        if ndims == 3:
            return conv1d(images, weights, strides, padding, data_format=data_format, name=scope, dilations=apart)
        if ndims not in (None, 4):
            raise ValueError(f"convolution takes filters with 3 or 4 dimensions, not of the shape {weights.shape}")
        how = sliding(strides, padding, data_format, op_type="Conv2D", dilations=apart)
        return _conv2d(images, weights, how, True, scope)
