"""TensorFlow 1's pools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker_client.deferred.computed import computed
from worker_client.graph.blocks import name_scope
from worker_client.kernels import pooling as kernels
from worker_client.kernels.applied import Applied
from worker_client.kernels.windows import Array
from worker_client.ops.array_ops import expand_dims, squeeze
from worker_client.ops.constant_ops import convert_to_tensor
from worker_client.ops.nn.window_arguments import explicit, sequence, sliding
from worker_client.values.made_functions import named, one_of
from worker_client.values.shapes import TensorShape

__all__ = ["avg_pool", "avg_pool1d", "avg_pool2d", "max_pool", "max_pool1d", "max_pool2d", "max_pool_v2", "pool"]


def _of_images(public_name: str, op_type: str, doc: str) -> Any:
    def operation(
        value: Any = None,
        ksize: Any = None,
        strides: Any = None,
        padding: Any = None,
        data_format: str | None = "NHWC",
        name: str | None = None,
        input: Any = None,
    ) -> Any:
        images = one_of(public_name, value=value, input=input)
        with name_scope(name, op_type, [images]) as scope:
            return _pooled(op_type, images, ksize, strides, padding, data_format, scope)

    return named(operation, public_name, doc)


max_pool = _of_images(
    "max_pool",
    "MaxPool",
    """Returns the greatest element of each window, for each channel.

    Args:
        value: Images: shape ``[batch, height, width, channels]``.
        ksize: Height and width of the windows: one number, two, or one for each dimension.
        strides: Steps from place to place, likewise.
        padding: "SAME", "VALID", or a pair for each dimension: how much is added before and behind.
        data_format: "NHWC", or "NCHW" for images and results with the channels second.
        name: Of the operation; "MaxPool" if not given.
        input: Newer name of ``value``.

    Raises:
        ValueError: An argument has another form, or the images are smaller than the windows.
    """,
)
avg_pool = _of_images(
    "avg_pool",
    "AvgPool",
    """Returns the mean of each window, for each channel, of those of its elements that are inside the image.

    Its arguments are those of ``max_pool``, but ``padding`` is a word. "AvgPool" if no name is given.
    """,
)
avg_pool2d = avg_pool


def _of_lines(public_name: str, op_type: str, default_name: str, like: str) -> Any:
    def operation(
        input: Any,
        ksize: Any,
        strides: Any,
        padding: Any,
        data_format: str | None = "NWC",
        name: str | None = None,
    ) -> Any:
        with name_scope(name, default_name, [input]) as scope:
            return _pooled_lines(op_type, input, ksize, strides, padding, data_format, scope)

    doc = f"Does what ``{like}`` does along one dimension, of the shape ``[batch, width, channels]``."
    return named(operation, public_name, doc)


max_pool1d = _of_lines("max_pool1d", "MaxPool", "MaxPool1d", "max_pool")
avg_pool1d = _of_lines("avg_pool1d", "AvgPool", "AvgPool1D", "avg_pool")


def max_pool2d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NHWC",
    name: str | None = None,
) -> Any:
    """Does what ``max_pool`` does; "MaxPool2d" if no name is given."""
    with name_scope(name, "MaxPool2d", [input]) as scope:
        return _pooled("MaxPool", input, ksize, strides, padding, data_format, scope)


def max_pool_v2(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    name: str | None = None,
) -> Any:
    """Does what ``max_pool1d`` or ``max_pool2d`` does, as the rank of what is given says."""
    operand = convert_to_tensor(input)
    if TensorShape(operand.shape).ndims == 3:
        return max_pool1d(operand, ksize, strides, padding, data_format or "NWC", name)
    return max_pool2d(operand, ksize, strides, padding, data_format, name or "max_pool")


def pool(
    input: Any,
    window_shape: Any,
    pooling_type: str,
    padding: Any,
    dilation_rate: Any = None,
    strides: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    dilations: Any = None,
) -> Any:
    """Returns a pool of one or two inner dimensions.

    Args:
        input: Lines or images.
        window_shape: One number for each inner dimension.
        pooling_type: "MAX" or "AVG".
        padding: "SAME" or "VALID".
        dilation_rate: Must be all ones.
        strides: One number for each inner dimension.
        name: Of the operation.
        data_format: As ``max_pool``'s.
        dilations: Newer name of ``dilation_rate``.

    Raises:
        ValueError: An argument has another form, or elements are to be left out.
    """
    apart = one_of("pool", dilation_rate=dilation_rate, dilations=dilations)
    if apart is not None and any(int(each) != 1 for each in apart):
        raise ValueError(f"pool: no elements can be left out of windows here; dilations should be 1, not {apart!r}")
    if pooling_type not in ("MAX", "AVG"):
        raise ValueError(f'pool: pooling_type should be "MAX" or "AVG", not {pooling_type!r}')
    is_max = pooling_type == "MAX"
    with name_scope(name, f"{pooling_type.lower()}_pool", [input]) as scope:
        operand = convert_to_tensor(input, name="input")
        if len(window_shape) == 1:
            lines = max_pool1d if is_max else avg_pool1d
            return lines(operand, window_shape, strides or [1], padding, data_format or "NWC", scope)
        images = max_pool if is_max else avg_pool
        return images(operand, window_shape, strides or [1, 1], padding, data_format or "NHWC", scope)


_KERNELS: dict[str, Callable[..., Array]] = {"MaxPool": kernels.max_pool, "AvgPool": kernels.avg_pool}


def _pooled(
    op_type: str, images: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None, name: str
) -> Any:
    how = sliding(strides, padding, data_format, op_type=op_type, ksize=ksize, with_explicit=op_type == "MaxPool")
    first = 2 if how.windows.channels_first else 1
    height, width = how.attributes["ksize"][first : first + 2]
    function = Applied(_KERNELS[op_type], ((height, width), how.windows))
    return computed(op_type, function, [images], name=name, attributes=dict(how.attributes))


def _pooled_lines(
    op_type: str, lines: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None, name: str
) -> Any:
    is_second = (data_format or "NWC").startswith("NC")
    axis = 2 if is_second else 1
    windows, steps = (
        _with_one_more(sequence(each, 1 if is_second else 2, f"{op_type}: {what}", 1), axis)
        for each, what in ((ksize, "ksize"), (strides, "strides"))
    )
    if isinstance(padding, list | tuple):
        explicit(padding, 3)
        padding = _with_one_more(list(padding), axis, (0, 0))
    images = expand_dims(lines, axis)
    layout = "NCHW" if is_second else "NHWC"
    return squeeze(_pooled(op_type, images, windows, steps, padding, layout, name), [axis])


def _with_one_more(values: list[Any], axis: int, filler: Any = 1) -> list[Any]:
    """Returns what is given for three dimensions for four, with one more at ``axis``."""
    return [*values[:axis], filler, *values[axis:]]
