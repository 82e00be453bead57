"""What users write about windows, as TensorFlow's attributes and as kernels take it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker_client.kernels.windows import Windows


@dataclass(frozen=True)
class Sliding:
    """How windows slide.

    Attributes:
        windows: For kernels.
        attributes: For the operation.
    """

    windows: Windows
    attributes: Mapping[str, Any]


def sequence(value: Any, channel_axis: int, what: str, number: int = 2) -> list[int]:
    """Returns one number for each dimension of images: given for all, for the inner ones, or for one for both.

    Args:
        value: What the user gave; None for ones.
        channel_axis: Where the channels are, 1 or the last.
        what: What it is, for errors.
        number: Of inner dimensions.

    Raises:
        ValueError: It has another length.
    """
    inner = [1] if value is None else [int(each) for each in np.ravel(value)]
    if len(inner) == number + 2:
        return inner
    if len(inner) not in (1, number):
        raise ValueError(f"{what} should have the length 1, {number} or {number + 2}, not {len(inner)}: {value!r}")
    inner = inner * number if len(inner) == 1 else inner
    return [1, 1, *inner] if channel_axis == 1 else [1, *inner, 1]


def explicit(padding: Any, length: int = 4) -> tuple[str, list[int]]:
    """Returns a padding as a word, and the numbers of a list of pairs behind each other.

    Raises:
        ValueError: The list has another form, or the word is no padding.
    """
    if isinstance(padding, list | tuple):
        if len(padding) != length or any(np.shape(each) != (2,) for each in padding):
            raise ValueError(f"padding should be {length} pairs, one for each dimension, not {padding!r}")
        return "EXPLICIT", [int(each) for each in np.ravel(padding)]
    word = padding.decode() if isinstance(padding, bytes) else str(padding)
    if word == "EXPLICIT":
        raise ValueError("explicit padding is given as a list of pairs, one for each dimension, not as 'EXPLICIT'")
    if word not in ("SAME", "VALID"):
        raise ValueError(f'padding should be "SAME", "VALID" or a list of pairs, not {padding!r}')
    return word, []


def sliding(
    strides: Any,
    padding: Any,
    data_format: str | None,
    *,
    op_type: str,
    dilations: Any = None,
    ksize: Any = None,
    with_explicit: bool = True,
) -> Sliding:
    """Returns how windows slide.

    Args:
        strides: One number, two, or four.
        padding: "SAME", "VALID", or four pairs.
        data_format: "NHWC" or "NCHW"; None for the first.
        op_type: What it is for.
        dilations: As ``strides``; None where the operation has none.
        ksize: The sizes of the windows, as ``strides``; None where filters say them.
        with_explicit: Whether pairs are allowed.

    Raises:
        ValueError: One of these has another form, or asks for steps over images or channels.
    """
    layout = data_format or "NHWC"
    if layout not in ("NHWC", "NCHW"):
        raise ValueError(f'{op_type}: data_format should be "NHWC" or "NCHW", not {data_format!r}')
    channel_axis = 1 if layout == "NCHW" else 3
    word, pairs = explicit(padding)
    if pairs and not with_explicit:
        raise ValueError(f'{op_type}: padding should be "SAME" or "VALID", not {padding!r}')
    attributes: dict[str, Any] = {"strides": sequence(strides, channel_axis, f"{op_type}: strides")}
    if op_type not in ("MaxPool", "AvgPool"):
        attributes["dilations"] = sequence(dilations, channel_axis, f"{op_type}: dilations")
    if ksize is not None:
        attributes["ksize"] = sequence(ksize, channel_axis, f"{op_type}: ksize")
    for key, numbers in attributes.items():
        if min(numbers) < 1:
            raise ValueError(f"{op_type}: {key} should be 1 or more, not {numbers}")
        if numbers[0] != 1 or numbers[channel_axis] != 1:
            raise ValueError(f"{op_type}: {key} over images and channels should be 1, not {numbers}")
    if pairs and any(pairs[2 * axis + side] for axis in (0, channel_axis) for side in (0, 1)):
        raise ValueError(f"{op_type}: padding of images and channels should be 0, not {padding!r}")
    if pairs and min(pairs) < 0:
        raise ValueError(f"{op_type}: padding should not be negative: {padding!r}")
    attributes |= {"padding": word, "data_format": layout}
    if with_explicit:
        attributes["explicit_paddings"] = pairs
    return Sliding(_windows(attributes, channel_axis), attributes)


def _windows(attributes: Mapping[str, Any], channel_axis: int) -> Windows:
    first = 2 if channel_axis == 1 else 1
    strides = attributes["strides"][first : first + 2]
    dilations = attributes.get("dilations", [1] * 4)[first : first + 2]
    pairs = attributes.get("explicit_paddings")
    at = 2 * first
    padding = ((pairs[at], pairs[at + 1]), (pairs[at + 2], pairs[at + 3])) if pairs else attributes["padding"]
    return Windows((strides[0], strides[1]), padding, (dilations[0], dilations[1]), channels_first=channel_axis == 1)
