"""Images as PNG (ISO/IEC 15948), which needs no more than zlib."""

from __future__ import annotations

import struct
import zlib
from typing import Final

import numpy as np

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array

_COLOR_TYPES: Final = {1: 0, 3: 2, 4: 6}
"""PNG's number of a number of channels: grey, RGB, RGBA."""

_BAD_COLOR: Final = (255, 0, 0, 255)
"""What is shown for a pixel that is not finite, as in TensorFlow."""


def encoded_images(tag: str, images: Array) -> list[bytes]:
    """Returns images as PNG.

    Args:
        tag: Of the summary, for errors.
        images: ``[batch, height, width, channels]``: uint8, or numbers that are scaled.

    Raises:
        InvalidArgumentError: They have another shape.
    """
    if images.ndim != 4 or images.shape[3] not in _COLOR_TYPES:
        raise InvalidArgumentError(
            f"Tensor must be 4-D with last dim 1, 3, or 4, not {list(images.shape)} (tag '{tag}')"
        )
    return [_png(each if each.dtype == np.uint8 else _scaled(each)) for each in images]


def _scaled(image: Array) -> Array:
    """Returns an image as uint8: from 0 on, 0 stays 0 and the largest is 255; otherwise 0 becomes 128."""
    numbers = image.astype(np.float32)
    is_bad = ~np.isfinite(numbers).all(axis=2)
    good = numbers[~is_bad]
    low, high = (float(good.min()), float(good.max())) if good.size else (0.0, 0.0)
    if low < 0:
        largest = max(abs(low), abs(high))
        scale, offset = (127.0 / largest if largest >= 1e-10 else 0.0), 128.0
    else:
        scale, offset = (255.0 / high if high >= 1e-10 else 0.0), 0.0
    found = np.full(image.shape, _BAD_COLOR[: image.shape[2]], np.uint8)
    found[~is_bad] = (good * np.float32(scale) + np.float32(offset)).astype(np.uint8)
    return found


def _png(image: Array) -> bytes:
    height, width, channels = image.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each begins with its filter, which is none
    rows[:, 1:] = image.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
