"""CRC-32C as TensorFlow's files have it: masked, for what it covers may hold checksums itself."""

from __future__ import annotations

from typing import Any, Final

import google_crc32c
import numpy as np

from ps_protocol.codec.tensor_codec import Buffer

_MASK_DELTA: Final = 0xA282EAD8


def extended(crc: int, data: Buffer | np.ndarray[Any, Any]) -> int:
    """Returns the CRC-32C of what ``crc`` is of, followed by ``data``; 0 is that of nothing.

    Args:
        crc: Not masked.
        data: Contiguous.
    """
    if not len(data):
        return crc
    # The library takes no buffers that can be changed, but arrays.
    found: int = google_crc32c.extend(crc, data if isinstance(data, bytes) else np.frombuffer(data, np.uint8))
    return found


def masked(crc: int) -> int:
    """Returns what stands in a file for a CRC-32C (``crc32c.h`` of LevelDB, section Mask)."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def unmasked(stored: int) -> int:
    """Returns the CRC-32C that stands in a file as ``stored``."""
    rotated = (stored - _MASK_DELTA) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF
