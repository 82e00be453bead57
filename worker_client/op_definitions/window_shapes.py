"""Works out the shapes of what convolutions, pools and normalisations make of images; see ``shape_functions``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from worker_client.kernels.windows import Padding, margin, places, reach
from worker_client.op_definitions.shape_functions import Known
from worker_client.values.shapes import TensorShape


def conv2d(known: Known) -> TensorShape:
    """Of a convolution: places and outputs of the filters."""
    images, filters = known.shapes[0], known.shapes[1]
    channels = _checked_filters(known, images, filters)
    outputs = None if filters.ndims is None else filters.size(3)
    if channels is not None and filters.ndims is not None and filters.size(2) not in (None, channels):
        raise ValueError(
            f"the images {images} have {channels} channels, and the filters {filters} are for {filters.size(2)}"
        )
    return _slid(known, images, _taps(filters), outputs)


def depthwise(known: Known) -> TensorShape:
    """Of a convolution of each channel with its own filters: places, and channels times filters of each."""
    images, filters = known.shapes[0], known.shapes[1]
    channels = _checked_filters(known, images, filters)
    if filters.ndims is None:
        return _slid(known, images, (None, None), None)
    if channels is not None and filters.size(2) not in (None, channels):
        raise ValueError(
            f"the images {images} have {channels} channels, and the filters {filters} are for {filters.size(2)}"
        )
    channels = filters.size(2) if channels is None else channels
    each = filters.size(3)
    outputs = None if channels is None or each is None else channels * each
    return _slid(known, images, _taps(filters), outputs)


def images_of_gradient(known: Known) -> TensorShape:
    """Of images, whose sizes the first input holds."""
    sizes = known.sizes(0)
    if sizes.ndims not in (None, 4):
        raise ValueError(f"images have 4 dimensions, not the shape {sizes}")
    known.check_rank(1, 4)
    known.check_rank(2, 4)
    filters, gradient = known.shapes[1], known.shapes[2]
    axis = _channels(known)
    if sizes.ndims is None:
        return TensorShape([None] * 4)
    if gradient.ndims is not None and filters.ndims is not None:
        for what, one, two in (
            ("outputs of the filters", filters.size(3), gradient.size(axis)),
            ("channels of the filters", filters.size(2), sizes.size(axis)),
            ("images", sizes.size(0), gradient.size(0)),
        ):
            if None not in (one, two) and one != two:
                raise ValueError(f"the numbers of {what} differ: {one} and {two}, in {filters}, {gradient} and {sizes}")
    return sizes


def filters_of_gradient(known: Known) -> TensorShape:
    """Of filters, whose sizes the second input holds."""
    known.check_rank(0, 4)
    known.check_rank(2, 4)
    sizes = known.sizes(1)
    return TensorShape([None] * 4) if sizes.ndims is None else sizes


def pool(known: Known) -> TensorShape:
    """Of a pool: places, and the channels."""
    known.check_rank(0, 4)
    images, axis = known.shapes[0], _channels(known)
    first = 2 if axis == 1 else 1
    taps = known.attributes["ksize"][first : first + 2]
    return _slid(known, images, taps, None if images.ndims is None else images.size(axis))


def local_response(known: Known) -> TensorShape:
    """That of the images."""
    known.check_rank(0, 4)
    return known.shapes[0]


def batch_norm(known: Known) -> list[TensorShape]:
    """Of the images, and of one number for each channel five times."""
    images, axis = known.shapes[0], _channels(known)
    ndims = len(known.attributes["data_format"])
    if images.ndims not in (None, ndims):
        raise ValueError(f"images have {ndims} dimensions, not the shape {images}")
    channels = TensorShape([None if images.ndims is None else images.size(axis)])
    is_training = known.attributes["is_training"]
    for index in range(1, len(known.shapes)):
        shape = known.shapes[index]
        if index > 2 and (is_training or shape == TensorShape([0])):
            continue
        known.check_rank(index, 1)
        if not channels.is_compatible_with(shape):
            raise ValueError(f"input {index} has the shape {shape}, and the images {images} have {channels} channels")
        channels = channels.merge_with(shape)
    if images.ndims is not None:
        images = TensorShape([*images[:axis], channels.size(0), *images[axis + 1 :]])
    return [images, *[channels] * 4, TensorShape(None)]


def batch_norm_of_either(known: Known) -> list[TensorShape]:
    """Of the images, and of one number for each channel twice; the last input is one truth value."""
    known.check_rank(5, 0)
    return batch_norm(Known(known.inputs[:5], known.attributes))[:3]


def _checked_filters(known: Known, images: TensorShape, filters: TensorShape) -> int | None:
    """Checks the ranks; returns the number of channels."""
    known.check_rank(0, 4)
    known.check_rank(1, 4)
    del filters
    return None if images.ndims is None else images.size(_channels(known))


def _channels(known: Known) -> int:
    data_format = known.attributes["data_format"]
    return 1 if data_format.startswith("NC") else len(data_format) - 1


def _taps(filters: TensorShape) -> Sequence[int | None]:
    return (None, None) if filters.ndims is None else (filters.size(0), filters.size(1))


def _slid(known: Known, images: TensorShape, taps: Sequence[int | None], channels: int | None) -> TensorShape:
    if images.ndims is None:
        images = TensorShape([None] * 4)
    attributes = known.attributes
    first = 2 if _channels(known) == 1 else 1
    sizes = []
    for axis in (0, 1):
        stride = attributes["strides"][first + axis]
        dilation = attributes.get("dilations", [1, 1, 1, 1])[first + axis]
        padding = _padding(attributes, first)
        sizes.append(_size(images.size(first + axis), taps[axis], padding, axis, stride, dilation))
    return TensorShape([images.size(0), channels, *sizes] if first == 2 else [images.size(0), *sizes, channels])


def _padding(attributes: Mapping[str, Any], first: int) -> Padding:
    if attributes["padding"] != "EXPLICIT":
        word: Padding = attributes["padding"]
        return word
    flat: list[int] = attributes["explicit_paddings"]
    at = 2 * first
    return (flat[at], flat[at + 1]), (flat[at + 2], flat[at + 3])


def _size(size: int | None, taps: int | None, padding: Padding, axis: int, stride: int, dilation: int) -> int | None:
    if padding == "SAME":
        return None if size is None else -(-size // stride)
    if size is None or taps is None:
        return None
    before, behind = margin(padding, axis, size, taps, stride, dilation)
    found = places(size + before + behind, taps, stride, dilation)
    if size + before + behind < reach(taps, dilation):
        raise ValueError(
            f"windows that span {reach(taps, dilation)} do not fit into {size + before + behind} elements; the size "
            f"would be negative"
        )
    return found
